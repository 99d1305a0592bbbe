"""Reading files in Beam: paths to rows under their ids, bad rows to the quarantine."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterable, Iterator
from typing import Any

import apache_beam as beam
from apache_beam.pvalue import TaggedOutput

from components.ingestion.config import IngestionConfig
from components.ingestion.errors import BadValue, IngestionError
from components.ingestion.examples import serialised_features
from components.ingestion.inputs import read_records
from components.ingestion.layout import Layout, Source
from components.ingestion.records import SNIPPET, Record
from components.ingestion.summary import FAILURE, ROWS, count_key, remedy
from components.ingestion.values import timestamp_parser, to_id

BAD, TALLY = "bad", "tally"

# A catalogue's row on its way to the choice among rows of one id: path, line, serialised
# tf.train.Features, the row's text for the quarantine.
CatalogueRow = tuple[str, int, bytes, str]


def _snippet(record: Record) -> str:
    raw = record.raw
    if raw is None:
        raw = json.dumps(record.values, default=_printable, ensure_ascii=False)
    # Bytes that are no UTF-8 were carried as lone surrogates, which no file can hold.
    return raw[:SNIPPET].rstrip("\r\n").encode(errors="replace").decode()


def _printable(value: object) -> str:
    return value.decode(errors="replace") if isinstance(value, bytes) else str(value)


def _bad(path: str, line: int, reason: str, row: str) -> TaggedOutput:
    entry = {"file": path, "line": line, "reason": reason, "row": row}
    return TaggedOutput(BAD, json.dumps(entry, ensure_ascii=False))


class _ReadRows(beam.DoFn):
    """(path, span) -> (id, row). Bad rows go to BAD, the file's counts by reason to TALLY."""

    def __init__(self, layout: Layout, config: IngestionConfig) -> None:
        self._layout = layout
        self._max_row_bytes = config.data.max_row_bytes
        self._timestamp_format = config.data.interactions.timestamp_format
        self._span = config.span

    def setup(self) -> None:
        self._to_timestamp = timestamp_parser(self._timestamp_format)

    def row(self, file: tuple[str, int], record: Record, values: Any, known_items: Any) -> tuple[bytes, tuple]:
        raise NotImplementedError

    def process(self, file: tuple[str, int], known_items: Any = None) -> Iterator[Any]:
        path, span = file
        counts: Counter[str] = Counter()
        try:
            for record in read_records(path, self._layout, self._max_row_bytes):
                counts[ROWS] += 1
                reason = record.reason
                if reason is None:
                    try:
                        row = self.row(file, record, record.values, known_items)
                    except BadValue as error:
                        reason = str(error)
                    else:
                        yield row
                        continue
                counts[reason] += 1
                yield _bad(path, record.number, reason, _snippet(record))
        except IngestionError as error:
            # A worker's exception would reach the user inside pages of Beam's own.
            what_to_do = "" if span == self._span else f"; {remedy(span)}"
            yield TaggedOutput(TALLY, (f"{FAILURE}{error}{what_to_do}", 1))
        for name, count in counts.items():
            yield TaggedOutput(TALLY, (count_key(self._layout.source, span, name), count))


class ReadInteractions(_ReadRows):
    """(path, span), known item ids -> (query id, (item id, unix seconds, serialised tf.train.Features, span))."""

    def row(self, file: tuple[str, int], record: Record, values: Any, known_items: Any) -> tuple[bytes, tuple]:
        query_id, item_id, timestamp = to_id(values[0]), to_id(values[1]), self._to_timestamp(values[2])
        if timestamp is None:
            raise BadValue("missing_timestamp")
        content = serialised_features(self._layout.fields[3:], values[3:], self._to_timestamp)
        if item_id not in known_items:
            raise BadValue("unknown_item")
        return query_id, (item_id, timestamp, content, file[1])


class ReadCatalogue(_ReadRows):
    """(path, span) -> (id, CatalogueRow)."""

    def row(self, file: tuple[str, int], record: Record, values: Any, known_items: Any) -> tuple[bytes, tuple]:
        key = to_id(values[0])
        content = serialised_features(self._layout.fields, values, self._to_timestamp)
        return key, (file[0], record.number, content, _snippet(record))


def first_row(
    rows: Iterable[CatalogueRow], source: Source, span: int
) -> tuple[CatalogueRow | None, list[TaggedOutput]]:
    """The first row of an id by file and line; the others as bad rows, counted for the run's span."""
    ordered = sorted(rows, key=lambda row: row[:2])
    reason = f"duplicate_{'item' if source is Source.ITEMS else 'query'}"
    outputs = [_bad(path, line, reason, text) for path, line, _, text in ordered[1:]]
    if outputs:
        outputs.append(TaggedOutput(TALLY, (count_key(source, span, reason), len(outputs))))
    return (ordered[0] if ordered else None), outputs
