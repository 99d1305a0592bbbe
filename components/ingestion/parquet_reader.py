"""Rows of a Parquet file, one row group's batch at a time."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import pyarrow as pa
import pyarrow.parquet as pq
from apache_beam.io.filesystems import FileSystems

from components.ingestion.errors import IngestionError
from components.ingestion.records import Record

BATCH_ROWS = 4096
_BROKEN = object()  # instead of a text that is not UTF-8


def _damaged(path: str, error: Exception) -> IngestionError:
    return IngestionError(f"{path}: not a readable Parquet file: {str(error).splitlines()[0]}")


def describe(path: str) -> tuple[dict[str, pa.DataType], bool]:
    """The file's columns and their types, and whether it has a row.

    Raises:
      IngestionError: the file is no Parquet file, is damaged, or names a column twice.
    """
    with FileSystems.open(path) as stream:
        try:
            file = pq.ParquetFile(stream)
        except (pa.ArrowInvalid, OSError) as error:
            raise _damaged(path, error) from None
        schema = file.schema_arrow
        for name in schema.names:
            if schema.get_field_index(name) < 0:  # so Arrow says that several are called so
                raise IngestionError(f"{path}: the schema names column {name!r} twice")
        return {field.name: field.type for field in schema}, file.metadata.num_rows > 0


def read_parquet(path: str, columns: Sequence[str]) -> Iterator[Record]:
    """Reads some columns.

    Args:
      path: a file of any Beam file system.
      columns: names of columns of the file.

    Yields:
      Records whose values are in the order of `columns`; moments as unaware UTC datetimes.

    Raises:
      IngestionError: the file is damaged.
    """
    with FileSystems.open(path) as stream:
        number = 0
        try:
            for batch in pq.ParquetFile(stream).iter_batches(BATCH_ROWS, columns=list(columns)):
                by_column = [_values(batch.column(batch.schema.get_field_index(column))) for column in columns]
                for values in zip(*by_column, strict=True):
                    number += 1
                    if any(value is _BROKEN for value in values):
                        yield Record(number, None, None, "broken_encoding")
                    else:
                        yield Record(number, values, None, None)
        except (pa.ArrowInvalid, OSError) as error:
            raise _damaged(path, error) from None


def _values(column: pa.Array) -> list[object]:
    values: list[object]
    try:
        if pa.types.is_timestamp(column.type):
            # A zone only tells how the same moment is printed; Python's datetime ends at microseconds.
            column = column.cast(pa.timestamp(column.type.unit))
            values = column.cast(pa.timestamp("us"), safe=column.type.unit != "ns").to_pylist()
        else:
            values = column.to_pylist()
    except UnicodeDecodeError:  # Arrow checks no text that it reads
        values = [_text(text) for text in column]
    except (OverflowError, pa.ArrowInvalid):
        if not pa.types.is_temporal(column.type):
            raise
        values = [_moment(moment) for moment in column]
    return values


def _text(text: pa.Scalar) -> object:
    try:
        return text.as_py()
    except UnicodeDecodeError:
        return _BROKEN


def _moment(moment: pa.Scalar) -> object:
    """As text where no datetime can hold it, before the year 1 and after 9999: it costs its row, not the run."""
    try:
        return moment.as_py()
    except OverflowError:
        return moment.cast(pa.string()).as_py()
