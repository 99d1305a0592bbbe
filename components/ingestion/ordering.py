"""One query's interactions in time: their order, their histories, their splits. Plain Python, no Beam."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from typing import NamedTuple

from components.ingestion.config import Split, SplitByLast, SplitBySpan, SplitByTime

TRAIN, EVAL, TEST, ITEMS, QUERIES = "train", "eval", "test", "items", "queries"


class Interaction(NamedTuple):
    """One valid row: the item, unix seconds, the interaction's own features, serialised, and the span it came with."""

    item_id: bytes
    timestamp: int
    content: bytes
    span: int = 0


class Placed(NamedTuple):
    """An interaction in its split, with its history: `known[:end]`."""

    interaction: Interaction
    split: str
    known: Sequence[Interaction]
    end: int


def split_seed(split: Split) -> int:
    """The seed that breaks ties in time."""
    return split.seed if isinstance(split, SplitByLast) else 0


def held_out_splits(split: Split) -> tuple[str, ...]:
    """The splits asked for beside train, in time order."""
    if isinstance(split, SplitBySpan):
        return (EVAL,)
    if isinstance(split, SplitByTime):
        return (EVAL,) if split.test_from is None else (EVAL, TEST)
    return tuple(name for name, rows in ((EVAL, split.eval), (TEST, split.test)) if rows)


def _tie_break(seed: int, query_id: bytes, interaction: Interaction) -> bytes:
    digest = hashlib.blake2b(digest_size=8)
    for part in (str(seed).encode(), query_id, interaction.item_id, interaction.content):
        digest.update(b"%d:" % len(part))
        digest.update(part)
    return digest.digest()


def in_order(query_id: bytes, interactions: Sequence[Interaction], seed: int, deduplicate: bool) -> list[Interaction]:
    """Sorts one query's interactions by time.

    Ties are broken by a hash of seed, query, item and content, so at random but the same in every run,
    whatever the order of the rows in the files and the number of workers. An order by item id instead
    would make the held-out items predictable.

    Args:
      query_id: the query.
      interactions: all of its interactions, in any order.
      seed: of the hash.
      deduplicate: of several interactions with one item keep the first.

    Returns:
      A new list.
    """
    ordered = sorted(interactions, key=lambda i: (i.timestamp, _tie_break(seed, query_id, i)))
    if not deduplicate:
        return ordered
    first: dict[bytes, Interaction] = {}
    for interaction in ordered:
        first.setdefault(interaction.item_id, interaction)
    return list(first.values())


def history_ends(ordered: Sequence[Interaction], split: Split) -> Iterator[int]:
    """For each interaction, how many of its query's come before it.

    With a split by time those of the same second do not. A split by last holds out one of several
    interactions of the same second and leaves the others in train, in an order drawn at random: it takes
    that order for the order of events, and so does the history.

    Args:
      ordered: as `in_order` returns them.
      split: by time or by last.

    Yields:
      n for each interaction: its history is `ordered[:n]`.
    """
    end = 0
    for place, interaction in enumerate(ordered):
        if isinstance(split, SplitByLast) or (place and interaction.timestamp > ordered[place - 1].timestamp):
            end = place
        yield end


def last_items(ordered: Sequence[Interaction], end: int, max_values: int) -> list[bytes]:
    """The items of the last `max_values` of `ordered[:end]`, oldest first."""
    return [interaction.item_id for interaction in ordered[max(0, end - max_values) : end]]


def split_names(ordered: Sequence[Interaction], split: SplitByTime | SplitByLast) -> list[str]:
    """The split of each interaction.

    Args:
      ordered: as `in_order` returns them.
      split: by time, or the last of each query. The latter always leaves one in train; where a query is
        too short for both, test comes before eval.

    Returns:
      "train", "eval" or "test", as many as interactions.
    """
    if isinstance(split, SplitByTime):
        eval_from = split.eval_from.timestamp()
        test_from = split.test_from.timestamp() if split.test_from else float("inf")
        return [TRAIN if i.timestamp < eval_from else EVAL if i.timestamp < test_from else TEST for i in ordered]
    spare = max(0, len(ordered) - 1)
    test = min(split.test, spare)
    evaluation = min(split.eval, spare - test)
    return [TRAIN] * (len(ordered) - evaluation - test) + [EVAL] * evaluation + [TEST] * test


def place(ordered: Sequence[Interaction], split: SplitByTime | SplitByLast) -> Iterator[Placed]:
    """The split and the history of each interaction."""
    names = split_names(ordered, split)
    for interaction, end, name in zip(ordered, history_ends(ordered, split), names, strict=True):
        yield Placed(interaction, name, ordered, end)
