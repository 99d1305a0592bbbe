"""A CSV reader that never holds more than one bounded row.

The standard library's reader loads a line of any length, and one stray quote makes it swallow the
rest of the file. Here a row is at most `max_row_bytes` long, and a quote that is never closed costs
one row.

A field may be quoted; within the quotes stand delimiters, newlines and, doubled, quotes (RFC 4180).
A quote inside an unquoted field stands for itself.
"""

from __future__ import annotations

import gzip
import zlib
from collections import deque
from collections.abc import Callable, Iterator
from typing import BinaryIO

from apache_beam.io.filesystem import CompressionTypes
from apache_beam.io.filesystems import FileSystems

from components.ingestion.errors import BadValue, IngestionError
from components.ingestion.records import SNIPPET, Record

CHUNK_BYTES = 1 << 20
BOM = b"\xef\xbb\xbf"


def open_file(path: str) -> BinaryIO:
    """Opens a file of any Beam file system for reading bytes; a .gz is unpacked."""
    raw = FileSystems.open(path, compression_type=CompressionTypes.UNCOMPRESSED)
    # Beam's own gzip reader takes a file that was cut off for a complete one.
    return gzip.GzipFile(fileobj=raw) if path.endswith(".gz") else raw  # type: ignore[return-value]


def physical_lines(stream: BinaryIO, max_bytes: int, chunk_bytes: int = CHUNK_BYTES) -> Iterator[tuple[bytes, bool]]:
    r"""Splits a stream at "\n".

    Args:
      stream: what is read, `chunk_bytes` at a time.
      max_bytes: longest line, without its "\n".
      chunk_bytes: how much is read at once.

    Yields:
      (line with its "\n", False), or (the first bytes of a longer line, True).
    """
    rest = b""
    head: bytes | None = None  # of a line that is too long, while its end is looked for
    while chunk := stream.read(chunk_bytes):
        *lines, rest = (rest + chunk).split(b"\n")
        for line in lines:
            if head is None and len(line) <= max_bytes:
                yield line + b"\n", False
            else:
                yield line[:SNIPPET] if head is None else head, True
                head = None
        if head is not None:
            rest = b""
        elif len(rest) > max_bytes:
            head, rest = rest[:SNIPPET], b""
    if head is not None:
        yield head, True
    elif rest:
        yield rest, False


def split_fields(line: str, delimiter: str, more: Callable[[], str | None], columns: int | None) -> list[str]:
    """Splits one record.

    Args:
      line: its first line, with the newline.
      delimiter: one character.
      more: gives the next line while a quoted field is open; None when there is none.
      columns: how many fields a record has; None if that is not known yet.

    Returns:
      The fields, unquoted.

    Raises:
      BadValue: "unclosed_quote", also where a field is open after the line that belongs to no column, or "bad_quotes"
        where text follows a closing quote.
    """
    fields: list[str] = []
    position = 0
    while True:
        if line.startswith('"', position):
            position += 1
            parts: list[str] = []
            while True:
                end = line.find('"', position)
                if end < 0:
                    parts.append(line[position:])
                    # Where every line leaves a quote open, each would else be read on to the end of the file.
                    following = None if columns is not None and len(fields) >= columns else more()
                    if following is None:
                        raise BadValue("unclosed_quote")
                    line, position = following, 0
                    continue
                parts.append(line[position:end])
                position = end + 1
                if not line.startswith('"', position):
                    break
                parts.append('"')
                position += 1
            fields.append("".join(parts))
            if line[position:] in ("", "\n", "\r\n"):
                return fields
            if line[position] != delimiter:
                raise BadValue("bad_quotes")
            position += 1
        else:
            end = line.find(delimiter, position)
            if end < 0:
                fields.append(_without_newline(line[position:]))
                return fields
            fields.append(line[position:end])
            position = end + 1


def _without_newline(line: str) -> str:
    return line.removesuffix("\n").removesuffix("\r")


class CsvReader:
    """Reads the records of one CSV file, the header's included, in order.

    Args:
      path: a file of any Beam file system, UTF-8 with or without BOM; a .gz is unpacked.
      delimiter: one character.
      max_row_bytes: longer rows are bad rows.

    Attributes:
      columns: the header's fields; empty if the file is empty.

    Raises:
      IngestionError: the header cannot be read.
    """

    def __init__(self, path: str, delimiter: str, max_row_bytes: int) -> None:
        self._path = path
        self._delimiter = delimiter
        self._max_row_bytes = max_row_bytes
        self._stream = open_file(path)
        self._lines = physical_lines(self._stream, max_row_bytes)
        self._pending: deque[tuple[bytes, bool]] = deque()  # lines read ahead for a quote that did not close
        self._number = 0  # of the last line taken, from 1
        header = next(self._records(None), None)
        if header is not None and header.reason is not None:
            self.close()
            raise IngestionError(f"{path}: the header cannot be read ({header.reason}); expected UTF-8 CSV")
        self.columns: list[str] = [] if header is None else list(header.values)  # type: ignore[arg-type]

    def __enter__(self) -> CsvReader:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Closes the file."""
        self._stream.close()

    def __iter__(self) -> Iterator[Record]:
        """The rows after the header. Raises IngestionError where a .gz is damaged."""
        return self._records(len(self.columns))

    def _next_line(self) -> tuple[bytes, bool] | None:
        if self._pending:
            line = self._pending.popleft()
        else:
            try:
                read = next(self._lines, None)
            except (EOFError, zlib.error, gzip.BadGzipFile) as error:
                raise IngestionError(f"{self._path}: damaged gzip file after line {self._number}: {error}") from None
            if read is None:
                return None
            line = read
            if self._number == 0 and line[0].startswith(BOM):
                line = line[0][len(BOM) :], line[1]
        self._number += 1
        return line

    def _records(self, columns: int | None) -> Iterator[Record]:
        delimiter = self._delimiter
        while (read := self._next_line()) is not None:
            raw, too_long = read
            number = self._number
            if too_long:
                yield Record(number, None, raw.decode(errors="replace"), "too_long")
                continue
            if raw in (b"\n", b"\r\n", b""):
                continue
            try:
                line = raw.decode()
            except UnicodeDecodeError:
                yield Record(number, None, raw.decode(errors="replace"), "broken_encoding")
                continue
            if '"' in line:
                yield self._quoted(number, line, len(raw), columns)
                continue
            line = _without_newline(line)
            fields = line.split(delimiter)
            yield self._record(number, fields, line, columns)

    def _quoted(self, number: int, line: str, size: int, columns: int | None) -> Record:
        """A record with quotes, joined with the lines it goes on to. If that fails, only its first line is used up."""
        taken: list[tuple[bytes, bool]] = []
        length = size

        def more() -> str | None:
            nonlocal length
            read = self._next_line()
            if read is None:
                return None
            taken.append(read)
            length += len(read[0])
            if read[1] or length > self._max_row_bytes:
                return None
            # A lone surrogate cannot come from UTF-8, so broken bytes are still seen in the fields.
            return read[0].decode(errors="surrogateescape")

        try:
            fields = split_fields(line, self._delimiter, more, columns)
            whole = line + "".join(more_line.decode(errors="replace") for more_line, _ in taken)
            record = self._record(number, fields, _without_newline(whole), columns)
        except BadValue as error:
            record = Record(number, None, _without_newline(line), str(error))
        if taken and record.reason in ("unclosed_quote", "bad_quotes", "wrong_column_count"):
            self._pending.extendleft(reversed(taken))
            self._number -= len(taken)
            return Record(number, None, _without_newline(line), "unclosed_quote")
        return record

    @staticmethod
    def _record(number: int, fields: list[str], line: str, columns: int | None) -> Record:
        if columns is not None and len(fields) != columns:
            return Record(number, None, line, "wrong_column_count")
        return Record(number, fields, line, None)
