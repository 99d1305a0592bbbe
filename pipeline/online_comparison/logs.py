"""From the logs of impressions and outcomes to sums for each user.

However often it was delivered, a row counts once, and so do further clicks on an item of one impression.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from pipeline.online_comparison import impressions, outcomes
from pipeline.online_comparison.impressions import Impressions
from pipeline.online_comparison.outcomes import Outcomes
from pipeline.online_comparison.table import LogError, read_pieces

NAMED = 5  # of the users who changed their label
SECONDS_PER_DAY = 86_400

Floats = NDArray[np.float64]


@dataclass(frozen=True)
class Arm:
    """The users whom one label answered, and no other.

    Attributes:
      label: the label.
      impressions, clicks, orders, value: float64 [users], each user's items shown, items clicked, orders, and money.
      click_position: mean position of the clicked items; None without a click.
    """

    label: str
    impressions: Floats
    clicks: Floats
    orders: Floats
    value: Floats
    click_position: float | None = None

    @property
    def users(self) -> int:
        """How many there are."""
        return len(self.impressions)


@dataclass(frozen=True)
class LeftOut:
    """What the figures do not have.

    Attributes:
      repeated_impressions, repeated_outcomes: rows that were there before, and further clicks on the same item shown.
      other_labels: rows of impressions under labels that are not compared.
      changed_label, changed_label_share: users of the compared labels whom another label answered too, and their share.
      changed_label_names: the first of them.
      without_impression, without_impression_share: outcomes of what no impression shows, and their share.
      without_impression_rows: where the first of them are.
    """

    repeated_impressions: int = 0
    repeated_outcomes: int = 0
    other_labels: int = 0
    changed_label: int = 0
    changed_label_share: float = 0.0
    changed_label_names: tuple[str, ...] = ()
    without_impression: int = 0
    without_impression_share: float = 0.0
    without_impression_rows: tuple[str, ...] = ()


@dataclass(frozen=True)
class Logs:
    """Both logs, summed.

    Attributes:
      control, treatment: the compared labels' users.
      days: from the first impression to the last.
      left_out: what the figures do not have.
    """

    control: Arm
    treatment: Arm
    days: float
    left_out: LeftOut


def read_logs(shown: Sequence[Path], happened: Sequence[Path], control: str, treatment: str) -> Logs:
    """Reads both logs.

    Args:
      shown: files of impressions.
      happened: files of outcomes.
      control, treatment: the labels to compare.

    Raises:
      LogError: a file, a row or a value is not as it should be, or a label has fewer than two users.
    """
    log = Impressions(control, treatment)
    for piece in read_pieces(shown, impressions.COLUMNS):
        log.add(piece)
    log.finish()
    results = Outcomes(log)
    for piece in read_pieces(happened, outcomes.COLUMNS):
        results.add(piece)
    clicked, ordered, values, repeated = results.finish()

    *arms, changed = log.users()
    for label, users in zip(log.arms, arms, strict=True):
        if len(users) < 2:
            raise LogError(f"label {label!r} alone answered {len(users)} users; an interval needs two at least")
    left_out = LeftOut(
        repeated_impressions=log.repeated,
        repeated_outcomes=repeated,
        other_labels=log.other_labels,
        changed_label=len(changed),
        changed_label_share=len(changed) / (len(changed) + sum(map(len, arms))),
        changed_label_names=tuple(np.array(list(log.queries), object)[changed[:NAMED]]),
        without_impression=results.without_impression,
        without_impression_share=results.without_impression / max(1, results.counted),
        without_impression_rows=tuple(results.named),
    )
    user = log.user_of_rows()
    clicker, buyer, position = user[clicked], user[ordered], log.positions[clicked]

    def arm(label: str, users: NDArray[np.int64]) -> Arm:
        def sums(of: NDArray[np.int32], weights: Floats | None = None) -> Floats:
            return np.bincount(of, weights, len(log.queries))[users].astype(np.float64)

        positions, clicks = sums(clicker, position.astype(np.float64)), sums(clicker)
        mean = float(positions.sum() / clicks.sum()) if clicks.any() else None
        return Arm(label, sums(user), clicks, sums(buyer), sums(buyer, values), mean)

    first, second = (arm(label, users) for label, users in zip(log.arms, arms, strict=True))
    return Logs(first, second, (log.end - log.start) / SECONDS_PER_DAY, left_out)
