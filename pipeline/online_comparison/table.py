"""Reads CSV logs in pieces: every column as text, its different values once. What is wrong is named by file and row."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute
import pyarrow.csv
from numpy.typing import NDArray

from pipeline.options import UserError

BLOCK_BYTES = 8 << 20
TEXT = pa.dictionary(pa.int32(), pa.string())


class LogError(UserError):
    """A log cannot be used; the message names the file, the row and the column, and what was expected."""


@dataclass(frozen=True)
class Column:
    """One column of a piece.

    Attributes:
      values: the different texts.
      codes: int32 [rows], each row's place in `values`.
    """

    values: list[str]
    codes: NDArray[np.int32]


@dataclass(frozen=True)
class Piece:
    """Some successive rows of a file.

    Attributes:
      path: the file.
      first: the number of the first row; the header is row 1, and empty lines are not counted.
      columns: by name, the ones asked for.
    """

    path: Path
    first: int
    columns: dict[str, Column]

    def error(self, row: int, name: str, expected: str) -> LogError:
        """What is wrong with a row of this piece, counted from 0."""
        column = self.columns[name]
        found = column.values[column.codes[row]]
        return LogError(f"{self.path}, row {self.first + row}, column {name}: expected {expected}, got {found!r}")

    def map(self, name: str, convert: Callable[[str], Any], expected: str, dtype: type) -> NDArray[Any]:
        """Each row's value of a column.

        Args:
          name: the column's.
          convert: from the text; called once for each different one. Raises ValueError or KeyError where it is bad.
          expected: what the text should have been, for the message.
          dtype: of the result.

        Raises:
          LogError: a text is bad; it names the first row that has it.
        """
        column = self.columns[name]
        converted = []
        for code, text in enumerate(column.values):
            try:
                converted.append(convert(text))
            except (ValueError, KeyError):
                raise self.error(int(np.argmax(column.codes == code)), name, expected) from None
        return np.array(converted, dtype)[column.codes]


def read_pieces(paths: Iterable[Path], names: Sequence[str]) -> Iterator[Piece]:
    """The files, one after the other.

    Args:
      paths: CSV in UTF-8, with a header; a .gz is unpacked. Fields may be quoted, and have no line break.
      names: the columns to read. There may be others.

    Raises:
      LogError: a file cannot be read, is not CSV, or lacks a column.
    """
    for path in paths:
        try:
            yield from _read(path, names)
        except OSError as error:
            raise LogError(f"{path}: cannot be read: {error.strerror or error}") from error
        except pa.ArrowInvalid as error:
            raise LogError(f"{path}: expected CSV in UTF-8 with a header: {str(error).splitlines()[0]}") from error


def _read(path: Path, names: Sequence[str]) -> Iterator[Piece]:
    read_options = pa.csv.ReadOptions(block_size=BLOCK_BYTES, use_threads=False)
    with pa.csv.open_csv(path, read_options=read_options) as reader:
        header = reader.schema.names
    for name in names:
        if header.count(name) != 1:
            problem = "stands more than once" if name in header else "is missing"
            raise LogError(f"{path}: column {name} {problem}; expected {', '.join(names)}, got {', '.join(header)}")
    # All columns are read: a quote that is not closed in one of the others would swallow rows too.
    convert_options = pa.csv.ConvertOptions(column_types=dict.fromkeys(header, TEXT), strings_can_be_null=False)
    first = 2
    with pa.csv.open_csv(path, read_options=read_options, convert_options=convert_options) as reader:
        for batch in reader:
            for name, column in zip(header, batch.columns, strict=True):
                broken = pa.compute.match_substring(column.dictionary, "\n").to_numpy(zero_copy_only=False)
                if broken.any():
                    row = first + np.argmax(np.isin(column.indices.to_numpy(), np.flatnonzero(broken)))
                    problem = "a line break in a field, or a quote that is not closed"
                    raise LogError(f"{path}, row {row}, column {name}: {problem}")
            columns = {
                name: Column(column.dictionary.to_pylist(), column.indices.to_numpy())
                for name, column in zip(header, batch.columns, strict=True)
                if name in names
            }
            yield Piece(path, first, columns)
            first += len(batch)
