"""Weeks of visits, by chance from known probabilities, as sums for each user and as the logs that `ab` reads."""

from __future__ import annotations

import csv
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from benchmarks.online_simulator.world import SHOWN, Behaviour, World, item_id
from pipeline.online_comparison import impressions, outcomes
from pipeline.online_comparison.logs import Arm, LeftOut, Logs
from serving.served import pick

MONDAY, DAYS = 1_790_553_600, 7
WEEK_SECONDS = DAYS * 86_400


@dataclass(frozen=True)
class Week:
    """All visits of a week. Users are drawn from the people with replacement, each under an id of their own.

    Attributes:
      ids: [users], query ids.
      person: int [users].
      label: int [users], 0 for control, 1 for treatment.
      visitor: int [visits], the user of each.
      clicks, orders: bool [visits, SHOWN].
    """

    ids: list[str]
    person: NDArray[np.int64]
    label: NDArray[np.int64]
    visitor: NDArray[np.int64]
    clicks: NDArray[np.bool_]
    orders: NDArray[np.bool_]


def draw(
    world: World, behaviours: tuple[Behaviour, Behaviour], traffic: Mapping[str, int], users: int, seed: tuple[int, ...]
) -> Week:
    """Draws a week.

    Args:
      world: the people.
      behaviours: under control and under treatment.
      traffic: the split, control first; the server's own function assigns the ids.
      users: how many come.
      seed: another one is another week, with other ids.
    """
    random = np.random.default_rng(seed)
    ids = [f"w{'-'.join(map(str, seed))}u{user}" for user in range(users)]
    labels = list(traffic)
    label = np.array([labels.index(pick(traffic, query_id)) for query_id in ids])
    person = random.integers(len(world.tastes), size=users)
    visitor = np.repeat(np.arange(users), 1 + random.poisson(world.rate[person]))
    click, order = (_of(behaviours, name, label[visitor], person[visitor]) for name in ("click", "order"))
    clicks = random.random(click.shape) < click
    return Week(ids, person, label, visitor, clicks, clicks & (random.random(order.shape) < order))


def _of(behaviours: tuple[Behaviour, Behaviour], name: str, label: NDArray, person: NDArray) -> NDArray:
    control, treatment = (getattr(behaviour, name) for behaviour in behaviours)
    return np.where(label[:, np.newaxis] == 0, control[person], treatment[person])


def sums(week: Week, behaviours: tuple[Behaviour, Behaviour], labels: tuple[str, str]) -> Logs:
    """What reading the week's logs must give, but for the position of the clicks."""
    users = len(week.ids)
    price = _of(behaviours, "price", week.label[week.visitor], week.person[week.visitor])

    def by_user(weights: NDArray) -> NDArray[np.float64]:
        return np.bincount(week.visitor, weights.sum(axis=1), users)

    shown = SHOWN * np.bincount(week.visitor, minlength=users).astype(np.float64)
    columns = (shown, by_user(week.clicks), by_user(week.orders), by_user(week.orders * price))
    control, treatment = (
        Arm(name, *(column[week.label == number] for column in columns)) for number, name in enumerate(labels)
    )
    return Logs(control, treatment, DAYS, LeftOut())


def write_logs(
    week: Week, behaviours: tuple[Behaviour, Behaviour], show: Callable[[int], tuple[str, NDArray]], folder: Path
) -> tuple[Path, Path]:
    """Writes the logs of impressions and outcomes.

    Args:
      week: the visits.
      behaviours: under control and under treatment.
      show: a user's label and items, int [SHOWN]; asked once for each visit.
      folder: where to.
    """
    files = folder / "impressions.csv", folder / "outcomes.csv"
    price = _of(behaviours, "price", week.label[week.visitor], week.person[week.visitor])
    with files[0].open("w", newline="") as shown_file, files[1].open("w", newline="") as happened_file:
        shown, happened = csv.writer(shown_file), csv.writer(happened_file)
        shown.writerow(impressions.COLUMNS)
        happened.writerow(outcomes.COLUMNS)
        for visit, user in enumerate(week.visitor.tolist()):
            label, items = show(user)
            time = MONDAY + visit * WEEK_SECONDS // len(week.visitor)
            for place, number in enumerate(items.tolist()):
                key, item = f"v{visit}", item_id(number)
                shown.writerow([key, time, week.ids[user], label, item, place + 1])
                if week.clicks[visit, place]:
                    happened.writerow([key, item, time + 30, "click", ""])
                if week.orders[visit, place]:
                    happened.writerow([key, item, time + 600, "order", repr(float(price[visit, place]))])
    return files
