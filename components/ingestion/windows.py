"""One query's interactions in a split by span: each counted once, in its place, with what was known at its time."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from datetime import datetime, time, timezone

from components.ingestion.config import SplitBySpan
from components.ingestion.ordering import EVAL, TRAIN, Interaction, Placed, history_ends
from components.ingestion.spans import day_of

LATE = "late"  # delivered with the run's span, but of an earlier day: known too late to be foretold
EARLY = "early"  # delivered before the run's span, but stamped with its day or a later one: a clock that is ahead


def count_once(interactions: Sequence[Interaction], deduplicate: bool) -> list[Interaction]:
    """Of equal rows, whatever span they came with, the one that came first.

    Args:
      interactions: of one query, sorted by time.
      deduplicate: rows with the same item are equal, whatever else they say.
    """
    first: dict[tuple, Interaction] = {}
    for interaction in sorted(interactions, key=lambda i: i.span):
        key = (interaction.item_id,) if deduplicate else interaction[:3]
        first.setdefault(key, interaction)
    kept = set(first.values())
    return [i for i in dict.fromkeys(interactions) if i in kept]


def place_by_span(ordered: Sequence[Interaction], split: SplitBySpan, span: int) -> Iterator[Placed]:
    """The split and the history of each interaction of a run for one span.

    Which span a row was delivered with says whether the model may learn from it: what came with the run's span, or
    later, was not there when the model would have been trained. Its own time says what came before it. So the history
    of a train row has only rows of train spans, that of an eval row also earlier ones of the run's span, and both only
    what happened strictly before.

    Args:
      ordered: one query's interactions by time, of the window and the run's span.
      split: by span.
      span: the run's.

    Yields:
      Each interaction once.
    """
    day = day_of(split, span)
    begin = datetime.combine(day, time(), timezone.utc).timestamp() if day else None
    known = [i for i in ordered if i.span < span]
    for interaction, end in zip(known, history_ends(known, split), strict=True):
        early = begin is not None and interaction.timestamp >= begin
        yield Placed(interaction, EARLY if early else TRAIN, known, end)
    for interaction, end in zip(ordered, history_ends(ordered, split), strict=True):
        if interaction.span == span:
            late = begin is not None and interaction.timestamp < begin
            yield Placed(interaction, LATE if late else EVAL, ordered, end)
