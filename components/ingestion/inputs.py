"""The input files: which they are, and what is in them."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import pyarrow as pa
from apache_beam.io.filesystem import BeamIOError, FileMetadata
from apache_beam.io.filesystems import FileSystems

from components.ingestion import parquet_reader
from components.ingestion.config import FileConfig, IngestionConfig
from components.ingestion.csv_reader import CsvReader
from components.ingestion.errors import IngestionError
from components.ingestion.layout import Layout, Source, layouts
from components.ingestion.records import Record
from components.ingestion.spans import file_pattern, interaction_patterns


@dataclass(frozen=True)
class InputFile:
    """A file that a run reads.

    Attributes:
      path: its place.
      span: the one it was delivered with; for a catalogue the run's.
    """

    path: str
    span: int


def match(pattern: str) -> list[FileMetadata]:
    """The files that a pattern matches, by path.

    Raises:
      IngestionError: the file system cannot list them.
    """
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
        for metadata in match(pattern)
    ]


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
      IngestionError: the file is not of that format, or names a column twice.
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
