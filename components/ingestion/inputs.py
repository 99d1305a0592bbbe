"""The input files: which they are, whether they have what the config needs, and whether they changed."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator

import pyarrow as pa
from apache_beam.io.filesystem import BeamIOError, FileMetadata
from apache_beam.io.filesystems import FileSystems

from components.ingestion import parquet_reader
from components.ingestion.config import FileConfig, IngestionConfig
from components.ingestion.csv_reader import CsvReader
from components.ingestion.errors import IngestionError
from components.ingestion.layout import Layout, Role, layouts, name_problems
from components.ingestion.records import Record


def file_pattern(files: FileConfig, span: int) -> str:
    """The pattern with {SPAN} replaced by the span's number."""
    return files.files.replace("{SPAN}", str(span))


def _match(pattern: str) -> list[FileMetadata]:
    try:
        (result,) = FileSystems.match([pattern])
    except (BeamIOError, ValueError) as error:
        raise IngestionError(f"{pattern} cannot be listed: {str(error).splitlines()[0]}") from None
    return sorted(result.metadata_list, key=lambda metadata: metadata.path)


def matching_files(files: FileConfig, span: int) -> list[str]:
    """Paths that match, sorted. The place in this order decides which of two catalogue rows of one id stays.

    Raises:
      IngestionError: the file system cannot list them.
    """
    return [metadata.path for metadata in _match(file_pattern(files, span))]


def input_fingerprint(config: IngestionConfig) -> str:
    """Hash of the input files' names, sizes and modification times.

    TFX keys its cache by parameters. Ingestion's inputs are no artifacts, so this hash is one of them.

    Args:
      config: names the files; every file system that Beam knows will do.

    Returns:
      16 hex digits. The same as long as no file is added, removed or written.
    """
    digest = hashlib.sha256()
    for layout in layouts(config):
        for file in _match(file_pattern(layout.files, config.span)):
            line = f"{layout.source.value}\t{file.path}\t{file.size_in_bytes}\t{file.last_updated_in_seconds}\n"
            digest.update(line.encode())
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
    for layout in layouts(config):
        problems += _file_problems(config, layout)
    if problems:
        raise IngestionError(*problems)


def _file_problems(config: IngestionConfig, layout: Layout) -> list[str]:
    key = f"data.{layout.source.value}.files"
    pattern = file_pattern(layout.files, config.span)
    try:
        paths = matching_files(layout.files, config.span)
    except IngestionError as error:
        return [f"{key}: {error}"]
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
