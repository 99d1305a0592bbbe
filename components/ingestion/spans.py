"""Spans: which files a run reads, and whether they are there. Loads neither TensorFlow nor, for local files, Beam."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import date, timedelta
from pathlib import Path

from components.ingestion.config import DATE_PARTS, DataConfig, SplitBySpan
from components.ingestion.errors import IngestionError


def spans(data: DataConfig, span: int) -> list[int]:
    """The spans whose interactions a run reads, oldest first; the last one is the run's own."""
    if not isinstance(data.split, SplitBySpan):
        return [span]
    return [s for s in data.split.reach(span) if s not in data.split.skip]


def day_of(split: SplitBySpan, span: int) -> date | None:
    """The day of a span; None where the spans are no days.

    Raises:
      IngestionError: there is no such day.
    """
    if split.first_day is None:
        return None
    try:
        return split.first_day + timedelta(days=span - split.first_span)
    except OverflowError:
        raise IngestionError(
            f"--span: {span} is no day: spans are counted in days from {split.first_day}, which is span "
            f"{split.first_span} (data.split.first_day)"
        ) from None


def file_pattern(files: str, data: DataConfig, span: int) -> str:
    """A pattern with {SPAN} replaced by the span's number, and {YYYY}, {MM} and {DD} by the parts of its day."""
    pattern = files.replace("{SPAN}", str(span))
    day = day_of(data.split, span) if isinstance(data.split, SplitBySpan) else None
    if day is None:
        return pattern
    for name, code in DATE_PARTS.items():
        pattern = pattern.replace(name, day.strftime(code))
    return pattern


def interaction_patterns(data: DataConfig, span: int) -> dict[int, str]:
    """The pattern of each span that a run reads."""
    return {s: file_pattern(data.interactions.files, data, s) for s in spans(data, span)}


def missing(data: DataConfig, span: int) -> Iterator[str]:
    """What a span's data lacks: a line for each pattern that nothing matches.

    Args:
      data: `data.interactions.ready` counts as one of the patterns, if it is set.
      span: only its own files are looked for, not those of the window before it.
    """
    needed = {"data.interactions.files": data.interactions.files, "data.items.files": data.items.files}
    if data.queries is not None:
        needed["data.queries.files"] = data.queries.files
    if data.interactions.ready is not None:
        needed["data.interactions.ready"] = data.interactions.ready
    for key, files in needed.items():
        pattern = file_pattern(files, data, span)
        if not _exists(pattern):
            yield f"span {span} is not there yet: {key}: no file matches {pattern}"


def _exists(pattern: str) -> bool:
    if "://" not in pattern and "**" not in pattern:
        path = Path(pattern)
        # Files, as Beam has it: a folder is what a writer makes first.
        return any(found.is_file() for found in Path(path.anchor or ".").glob(str(path.relative_to(path.anchor))))
    # Beam knows the other file systems, has its own meaning of **, and takes seconds to load.
    from apache_beam.io.filesystems import FileSystems

    (result,) = FileSystems.match([pattern], limits=[1])
    return bool(result.metadata_list)
