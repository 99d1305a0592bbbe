"""The input files: which they are, whether they have what the config needs, and whether they changed."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass

import pyarrow as pa
from apache_beam.io.filesystem import BeamIOError, CompressionTypes, FileMetadata
from apache_beam.io.filesystems import FileSystems

from components.ingestion import parquet_reader
from components.ingestion.config import FileConfig, IngestionConfig, SplitBySpan
from components.ingestion.csv_reader import CsvReader
from components.ingestion.errors import IngestionError
from components.ingestion.layout import Layout, Role, Source, layouts, name_problems
from components.ingestion.records import Record
from components.ingestion.spans import file_pattern, interaction_patterns

CHUNK = 1 << 20


@dataclass(frozen=True)
class InputFile:
    """A file that a run reads.

    Attributes:
      path: its place.
      span: the one it was delivered with; for a catalogue the run's.
    """

    path: str
    span: int


def _match(pattern: str) -> list[FileMetadata]:
    try:
        (result,) = FileSystems.match([pattern])
    except (BeamIOError, ValueError) as error:
        raise IngestionError(f"{pattern} cannot be listed: {str(error).splitlines()[0]}") from None
    return sorted(result.metadata_list, key=lambda metadata: metadata.path)


def patterns(config: IngestionConfig, source: Source) -> dict[int, str]:
    """The file pattern of each span that is read of a kind of files."""
    if source is Source.INTERACTIONS:
        return interaction_patterns(config.data, config.span)
    (layout,) = (layout for layout in layouts(config) if layout.source is source)
    return {config.span: file_pattern(layout.files.files, config.data, config.span)}


def input_files(config: IngestionConfig, source: Source) -> list[InputFile]:
    """The files of one kind, by span and path. This order decides which of two catalogue rows of one id stays.

    Raises:
      IngestionError: the file system cannot list them.
    """
    return [
        InputFile(metadata.path, span)
        for span, pattern in patterns(config, source).items()
        for metadata in _match(pattern)
    ]


def file_digest(path: str) -> str:
    """SHA-256 of a file as it lies there, packed or not, 64 hex digits."""
    digest = hashlib.sha256()
    with FileSystems.open(path, compression_type=CompressionTypes.UNCOMPRESSED) as file:
        while chunk := file.read(CHUNK):
            digest.update(chunk)
    return digest.hexdigest()


def input_fingerprint(config: IngestionConfig) -> str:
    """Hash of the input files' contents.

    TFX keys its cache by parameters. Ingestion's inputs are no artifacts, so this hash is one of them. It is of what
    is in the files and not of when they were written: a span that is delivered again, under the same name or another
    one, changes nothing.

    Args:
      config: names the files; every file system that Beam knows will do.

    Returns:
      16 hex digits.
    """
    digest = hashlib.sha256()
    for layout in layouts(config):
        lines = [
            f"{layout.source.value}\t{file.span}\t{file_digest(file.path)}\n"
            for file in input_files(config, layout.source)
        ]
        if isinstance(config.data.split, SplitBySpan) and layout.source is Source.INTERACTIONS:
            lines = sorted(set(lines))  # equal rows count once there, so equal files do
        digest.update("".join(lines).encode())
    return digest.hexdigest()[:16]


def read_columns(path: str, files: FileConfig, max_row_bytes: int) -> tuple[dict[str, pa.DataType | None], bool]:
    """Reads a file's columns, and of its rows no more than it takes.

    Args:
      path: the file.
      files: its format and delimiter.
      max_row_bytes: longest row of a CSV file.

    Returns:
      The names of the columns in the file's order, with their type where the format has types, and
      whether there is a row. A file without any content has no columns.

    Raises:
      IngestionError: the file is not of that format, or its header names a column twice.
    """
    if files.format == "parquet":
        types, has_rows = parquet_reader.describe(path)
        return dict(types), has_rows
    if files.format == "tfrecord":
        # TensorFlow takes seconds to load, and only this format needs it.
        from components.ingestion import tfrecord_reader

        names, has_rows = tfrecord_reader.describe(path)
        return dict.fromkeys(names), has_rows
    with CsvReader(path, files.delimiter, max_row_bytes) as reader:
        has_rows = next(iter(reader), None) is not None
        twice = sorted({column for column in reader.columns if reader.columns.count(column) > 1})
        if twice:
            raise IngestionError(f"{path}: the header names column {twice[0]!r} twice")
        return dict.fromkeys(reader.columns), has_rows


def read_records(path: str, layout: Layout, max_row_bytes: int) -> Iterator[Record]:
    """Reads a file's rows, their values in the order of `layout.fields`.

    Raises:
      IngestionError: the file is damaged, or lacks a column.
    """
    columns = [field.column for field in layout.fields]
    if layout.files.format == "parquet":
        yield from parquet_reader.read_parquet(path, columns)
        return
    if layout.files.format == "tfrecord":
        from components.ingestion import tfrecord_reader

        yield from tfrecord_reader.read_tfrecord(path, columns)
        return
    with CsvReader(path, layout.files.delimiter, max_row_bytes) as reader:
        missing = [column for column in columns if column not in reader.columns]
        if missing:
            raise IngestionError(f"{path}: has no column {missing[0]!r}")
        places = [reader.columns.index(column) for column in columns]
        for record in reader:
            if record.values is None:
                yield record
            else:
                values = record.values
                yield Record(record.number, [values[place] for place in places], record.raw, None)


def check_inputs(config: IngestionConfig) -> None:
    """Checks names, files and columns before anything runs. Reads headers, no more.

    Raises:
      IngestionError: with all problems found, one line each.
    """
    problems = name_problems(config)
    split = config.data.split
    if isinstance(split, SplitBySpan) and config.span <= split.first_span:
        problems.append(
            f"--span: {config.span} has no span before it to train on (data.split.first_span is {split.first_span}); "
            f"the first to run is {split.first_span + 1}"
        )
    for layout in layouts(config):
        problems += _file_problems(config, layout)
    if problems:
        raise IngestionError(*problems)


def _file_problems(config: IngestionConfig, layout: Layout) -> list[str]:
    key = f"data.{layout.source.value}.files"
    problems = []
    for span, pattern in patterns(config, layout.source).items():
        try:
            paths = [metadata.path for metadata in _match(pattern)]
        except IngestionError as error:
            problems.append(f"{key}: {error}")
            continue
        problems += _span_problems(config, layout, span, pattern, paths)
    return problems


def _span_problems(config: IngestionConfig, layout: Layout, span: int, pattern: str, paths: list[str]) -> list[str]:
    key = f"data.{layout.source.value}.files"
    if not paths:
        of = ""
        if isinstance(config.data.split, SplitBySpan) and layout.source is Source.INTERACTIONS:
            first = next(iter(patterns(config, layout.source)))
            of = f" (span {span} of {first} to {config.span})"
        return [f"{key}: no file matches {pattern}{of}"]
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
            problems.append(f"{key}: {path} cannot be read: {error.strerror or error}")
            any_row = True
            continue
        any_row |= has_rows
        if not columns and not has_rows:
            problems.append(f"{key}: {path} is empty")
            any_row = True
        else:
            problems += [f"{key}: {path}: {problem}" for problem in _column_problems(columns, layout)]
    if not any_row:
        problems.append(f"{key}: {pattern} has a header but no row")
    return problems


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
