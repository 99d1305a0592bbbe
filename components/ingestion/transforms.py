"""The Beam transforms of ingestion: files to rows, rows to one query's interactions, those to tf.Examples.

Each file is read by one worker from its beginning to its end, for neither gzip nor quoted newlines
can be entered in the middle; the rows are then spread by query id. So a big log is best given as
several files. In memory are held: one batch of rows, the item ids of the catalogue, and one query's
interactions.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterable, Iterator
from typing import Any

import apache_beam as beam
import tensorflow as tf
from apache_beam.pvalue import AsSingleton, PBegin, PCollection, TaggedOutput

from components.ingestion.config import IngestionConfig, SplitBySpan
from components.ingestion.examples import add_bytes
from components.ingestion.inputs import input_files
from components.ingestion.layout import Source, layouts
from components.ingestion.ordering import (
    ITEMS,
    QUERIES,
    TRAIN,
    Interaction,
    Placed,
    held_out_splits,
    in_order,
    last_items,
    place,
    split_seed,
)
from components.ingestion.reading import BAD, TALLY, CatalogueRow, ReadCatalogue, ReadInteractions, first_row
from components.ingestion.summary import SPAN, SPLIT, TIMESTAMPS
from components.ingestion.windows import EARLY, LATE, count_once, place_by_span
from models.config import Kind, Side


class BuildItems(beam.DoFn):
    """(item id, its rows) -> (item id, serialised tf.Example of the first row)."""

    def __init__(self, span: int) -> None:
        self._span = span

    def process(self, element: tuple[bytes, Iterable[CatalogueRow]]) -> Iterator[Any]:
        item_id, rows = element
        first, duplicates = first_row(rows, Source.ITEMS, self._span)
        yield from duplicates
        if first is not None:
            yield item_id, tf.train.Example(features=tf.train.Features.FromString(first[2])).SerializeToString()
            yield TaggedOutput(TALLY, (SPLIT + ITEMS, 1))


class BuildInteractions(beam.DoFn):
    """(query id, its interactions and catalogue rows) -> serialised tf.Examples.

    Outputs: one tag per split of the config; "queries", one row per query; BAD and TALLY.
    """

    def __init__(self, config: IngestionConfig) -> None:
        self._config = config

    def setup(self) -> None:
        spec = self._config.features
        self._histories = [(f.name, f.max_values) for f in spec.features if f.kind is Kind.HISTORY]
        query_features = [
            f.name for f in spec.features if f.side is Side.QUERY and f.kind not in (Kind.HISTORY, Kind.ID)
        ]
        self._empty = tf.train.Features()
        for name in query_features:
            add_bytes(self._empty, name, ())

    def _placed(self, query_id: bytes, rows: list[Interaction]) -> tuple[list[Interaction], Iterator[Placed]]:
        data = self._config.data
        if isinstance(data.split, SplitBySpan):
            ordered = count_once(in_order(query_id, rows, split_seed(data.split), False), data.deduplicate)
            return ordered, place_by_span(ordered, data.split, self._config.span)
        ordered = in_order(query_id, rows, split_seed(data.split), data.deduplicate)
        return ordered, place(ordered, data.split)

    def process(self, element: tuple[bytes, dict[str, Iterable[tuple]]]) -> Iterator[Any]:
        query_id, grouped = element
        spec = self._config.features
        first, duplicates = first_row(grouped[Source.QUERIES.value], Source.QUERIES, self._config.span)
        yield from duplicates
        query = tf.train.Features()
        if first is None:
            query.CopyFrom(self._empty)
            add_bytes(query, spec.query_id, (query_id,))
        else:
            query.ParseFromString(first[2])

        ordered, placed = self._placed(query_id, [Interaction(*row) for row in grouped[Source.INTERACTIONS.value]])
        counts: Counter[str] = Counter()
        for interaction, name, known, end in placed:
            counts[SPLIT + name] += 1
            counts[f"{SPAN}{interaction.span}"] += 1
            if name in (EARLY, LATE):
                continue
            example = tf.train.Example()
            features = example.features
            features.CopyFrom(query)
            features.MergeFromString(interaction.content)
            feature = features.feature
            feature[spec.item_id].bytes_list.value.append(interaction.item_id)
            feature[spec.timestamp].int64_list.value.append(interaction.timestamp)
            for history, max_values in self._histories:
                add_bytes(features, history, last_items(known, end, max_values))
            yield TaggedOutput(name, example.SerializeToString(deterministic=True))
        for count in counts.items():
            yield TaggedOutput(TALLY, count)
        if ordered:
            yield TaggedOutput(TALLY, (TIMESTAMPS, ordered[0].timestamp))
            yield TaggedOutput(TALLY, (TIMESTAMPS, ordered[-1].timestamp))

        for history, max_values in self._histories:
            add_bytes(query, history, last_items(ordered, len(ordered), max_values))
        add_bytes(query, "seen_items", sorted({interaction.item_id for interaction in ordered}))
        yield TaggedOutput(QUERIES, tf.train.Example(features=query).SerializeToString(deterministic=True))
        yield TaggedOutput(TALLY, (SPLIT + QUERIES, 1))


class Range(beam.CombineFn):
    """Numbers -> (sum, smallest, largest)."""

    def create_accumulator(self) -> tuple[int, int, int] | None:
        return None

    def add_input(self, accumulator: tuple[int, int, int] | None, element: int) -> tuple[int, int, int]:
        if accumulator is None:
            return element, element, element
        total, smallest, largest = accumulator
        return total + element, min(smallest, element), max(largest, element)

    def merge_accumulators(self, accumulators: Iterable[tuple[int, int, int] | None]) -> tuple[int, int, int] | None:
        found = [accumulator for accumulator in accumulators if accumulator is not None]
        if not found:
            return None
        totals, smallest, largest = zip(*found, strict=True)
        return sum(totals), min(smallest), max(largest)

    def extract_output(self, accumulator: tuple[int, int, int] | None) -> tuple[int, int, int] | None:
        return accumulator


class GenerateExamples(beam.PTransform):
    """All of ingestion but the writing.

    Expands a pipeline's beginning to a dict of PCollections: serialised tf.Examples under the name of
    each split ("train", those held out, "items") and under "queries"; JSON lines under "bad"; and under
    "tally" one JSON text, the counts that `summary.Summary` reads.
    """

    def __init__(self, config: IngestionConfig) -> None:
        super().__init__()
        self._config = config
        self._layouts = {layout.source: layout for layout in layouts(config)}

    def _paths(self, begin: PBegin, source: Source) -> PCollection:
        files = [(file.path, file.span) for file in input_files(self._config, source)]
        name = source.value.capitalize()
        return begin | f"{name}Paths" >> beam.Create(files) | f"{name}Spread" >> beam.Reshuffle()

    def _catalogue(self, begin: PBegin, source: Source) -> Any:
        read = beam.ParDo(ReadCatalogue(self._layouts[source], self._config))
        return self._paths(begin, source) | f"Read{source.value.capitalize()}" >> read.with_outputs(
            BAD, TALLY, main="rows"
        )

    def expand(self, begin: PBegin) -> dict[str, PCollection]:
        config = self._config
        read_items = self._catalogue(begin, Source.ITEMS)
        items = (
            read_items.rows
            | "GroupItems" >> beam.GroupByKey()
            | "BuildItems" >> beam.ParDo(BuildItems(config.span)).with_outputs(BAD, TALLY, main="rows")
        )
        known_items = items.rows | "ItemIds" >> beam.Keys() | "KnownItems" >> beam.combiners.ToSet()
        interactions = self._paths(begin, Source.INTERACTIONS) | "ReadInteractions" >> beam.ParDo(
            ReadInteractions(self._layouts[Source.INTERACTIONS], config), AsSingleton(known_items)
        ).with_outputs(BAD, TALLY, main="rows")
        sources = [read_items, items, interactions]
        grouped = {Source.INTERACTIONS.value: interactions.rows}
        if Source.QUERIES in self._layouts:
            queries = self._catalogue(begin, Source.QUERIES)
            sources.append(queries)
            grouped[Source.QUERIES.value] = queries.rows
        else:
            grouped[Source.QUERIES.value] = begin | "NoQueries" >> beam.Create([])
        splits = (TRAIN, *held_out_splits(config.data.split))
        built = (
            grouped
            | "GroupQueries" >> beam.CoGroupByKey()
            | "BuildInteractions" >> beam.ParDo(BuildInteractions(config)).with_outputs(*splits, QUERIES, BAD, TALLY)
        )
        sources.append(built)
        tally = (
            [source[TALLY] for source in sources]
            | "AllTallies" >> beam.Flatten()
            | "Count" >> beam.CombinePerKey(Range())
            | "AllCounts" >> beam.combiners.ToDict()
            | "CountsAsJson" >> beam.Map(json.dumps, sort_keys=True)
        )
        bad = [source[BAD] for source in sources] | "AllBad" >> beam.Flatten()
        result = {name: built[name] for name in (*splits, QUERIES)}
        return result | {ITEMS: items.rows | "ItemExamples" >> beam.Values(), BAD: bad, TALLY: tally}
