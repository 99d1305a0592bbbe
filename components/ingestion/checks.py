"""Whether the input has what the config needs, before anything runs. Reads headers, no more."""

from __future__ import annotations

import pyarrow as pa

from components.ingestion.config import IngestionConfig, SplitBySpan
from components.ingestion.errors import IngestionError
from components.ingestion.inputs import match, read_columns
from components.ingestion.layout import Layout, Role, Source, layouts, name_problems
from components.ingestion.spans import file_pattern, spans

SKIPPED = "named in data.split.skip"


def left_out(config: IngestionConfig) -> dict[int, str]:
    """The spans of the window that a run does not train on, each with the reason, oldest first.

    They are named in `skip`, or were not delivered, or their delivery has no row or is not what the config says. What
    only the file system refuses may be there a minute later: it is an error, for a run that is tried again.

    Raises:
      IngestionError: the file system cannot list or read files.
    """
    split = config.data.split
    if not isinstance(split, SplitBySpan):
        return {}
    (layout,) = (layout for layout in layouts(config) if layout.source is Source.INTERACTIONS)
    found = {}
    for span in split.reach(config.span)[:-1]:
        problems = [SKIPPED] if span in split.skip else _delivery_problems(config, layout, span)
        if problems:
            found[span] = problems[0] + (f" (and {len(problems) - 1} more)" if problems[1:] else "")
    return found


def check_inputs(config: IngestionConfig) -> dict[int, str]:
    """Checks names, files and columns.

    Returns:
      The spans of the window that will not be trained on, each with the reason, as `left_out` does.

    Raises:
      IngestionError: with all problems found, one line each.
    """
    problems = name_problems(config)
    unused: dict[int, str] = {}
    try:
        unused = left_out(config)
    except IngestionError as error:
        problems += error.problems
    problems += _window_problems(config, unused)
    for layout in layouts(config):
        try:
            problems += _delivery_problems(config, layout, config.span)
        except IngestionError as error:
            problems += error.problems
    if problems:
        raise IngestionError(*problems)
    return unused


def _window_problems(config: IngestionConfig, unused: dict[int, str]) -> list[str]:
    split, span = config.data.split, config.span
    if not isinstance(split, SplitBySpan):
        return []
    if span <= split.first_span:
        return [
            f"--span: {span} has no span before it to train on (data.split.first_span is {split.first_span}); "
            f"the first to run is {split.first_span + 1}"
        ]
    if span in split.skip:
        return [f"--span: {span} is {SKIPPED}, so it is not to be used; take it out there to run it"]
    wanted = [s for s in spans(config.data, span) if s < span]
    if not wanted:
        return [f"data.split.skip: names all spans that span {span} could be trained on"]
    failed = {s: reason for s, reason in unused.items() if s in wanted}
    if 2 * len(failed) <= len(wanted):
        return []
    return [
        f"data.split: {len(failed)} of the {len(wanted)} spans to train on before span {span} cannot be used, more "
        "than half; deliver them again, or name in data.split.skip those that will not come",
        *(f"span {s}: {reason}" for s, reason in failed.items()),
    ]


def _delivery_problems(config: IngestionConfig, layout: Layout, span: int) -> list[str]:
    """What is wrong with the files of one kind that came with a span. Raises IngestionError as `left_out` does."""
    key = f"data.{layout.source.value}.files"
    pattern = file_pattern(layout.files.files, config.data, span)
    try:
        paths = [metadata.path for metadata in match(pattern)]
    except IngestionError as error:
        raise IngestionError(f"{key}: {error}") from None
    if not paths:
        return [f"{key}: no file matches {pattern}"]
    problems = []
    any_row = False
    for path in paths:
        try:
            columns, has_rows = read_columns(path, layout.files, config.data.max_row_bytes)
        except IngestionError as error:
            problems += [f"{key}: {problem}" for problem in error.problems]
            any_row = True
            continue
        except OSError as error:
            raise IngestionError(f"{key}: {path} cannot be read: {error.strerror or error}") from None
        any_row |= has_rows
        if not columns and not has_rows:
            problems.append(f"{key}: {path} is empty")
            any_row = True
        else:
            problems += [f"{key}: {path}: {problem}" for problem in _column_problems(columns, layout)]
    if not any_row:
        problems.append(f"{key}: {pattern} has a header but no row{_of_no_use(config, layout, span)}")
    return problems


def _of_no_use(config: IngestionConfig, layout: Layout, span: int) -> str:
    by_span = isinstance(config.data.split, SplitBySpan) and layout.source is Source.INTERACTIONS
    return f": there is nothing to evaluate span {span} on" if by_span and span == config.span else ""


def _column_problems(columns: dict[str, pa.DataType | None], layout: Layout) -> list[str]:
    problems = []
    for field in layout.fields:
        if field.column not in columns:
            hint = f"; its columns are {', '.join(columns)}"
            if layout.files.format == "csv" and len(columns) == 1:
                hint += f" (is delimiter {layout.files.delimiter!r} right?)"
            problems.append(f"no column {field.column!r}, which {field.key} needs{hint}")
            continue
        column_type = columns[field.column]
        if field.role is Role.ID and column_type is not None and pa.types.is_floating(column_type):
            problems.append(f"column {field.column!r} ({field.key}) is {column_type}; ids must be text or integers")
    return problems
