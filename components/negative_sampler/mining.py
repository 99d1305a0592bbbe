"""Hard negatives: what a released model ranks high for a query that has not chosen it."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator
from typing import Any

import apache_beam as beam
import numpy as np
from apache_beam.pvalue import AsDict, AsIter, AsSingleton
from apache_beam.utils import shared

from components.embedding.embedder import Embedder
from components.embedding.scores import queries_at_once, score_catalogue
from components.negative_sampler.rows import parse_raw_item, parse_raw_train_row
from models.config import FeatureSpec

# Rows embedded together. Which ones follows from the data alone: a row's embedding differs in its last bits with the
# size of its batch, and so would the order of items that score nearly alike.
CHUNK = 512


def ranked(scores: np.ndarray, known: np.ndarray, first: int, last: int) -> np.ndarray:
    """The items at some ranks, when those that are known are not ranked.

    Args:
      scores: float [N].
      known: int [n], columns that are not ranked.
      first: the first rank, counted from 1.
      last: the last rank, included.

    Returns:
      int64 [at most last - first + 1], columns, the best first; of equal scores the lower column
      first. Fewer where the catalogue ends before `last`, none where it ends before `first`.
    """
    scores = scores.copy()
    scores[known] = -np.inf
    end = min(last, len(scores) - len(np.unique(known)))
    if end < first:
        return np.empty(0, np.int64)
    worst = np.partition(scores, len(scores) - end)[len(scores) - end]
    ahead = np.flatnonzero(scores >= worst)
    return ahead[np.argsort(-scores[ahead], kind="stable")][first - 1 : end]


class EmbedCatalogue(beam.DoFn):
    """Input: (chunk, [(candidate index, raw row)]). Output: (candidate indices, float32 [n, D]), by index."""

    def __init__(self, embedder: Embedder) -> None:
        self._embedder = embedder

    def setup(self) -> None:
        self._embedder.load()

    def process(self, element: tuple[int, Iterable[tuple[int, bytes]]]) -> Iterator[tuple[list[int], np.ndarray]]:
        indices, rows = zip(*sorted(element[1]), strict=True)
        yield list(indices), self._embedder("item_examples", rows)


def arrange(chunks: Iterable[tuple[list[int], np.ndarray]], items: int) -> np.ndarray:
    """Embeddings float64 [N, D] by candidate index, out of the chunks of EmbedCatalogue.

    Raises:
      ValueError: the raw rows are not one of each of the N items.
    """
    ordered = sorted(chunks, key=lambda chunk: chunk[0])
    if [index for indices, _ in ordered for index in indices] != list(range(items)):
        raise ValueError(f"raw split items has not exactly one row of each of the {items} items of the transformed one")
    return np.concatenate([vectors for _, vectors in ordered]).astype(np.float64)


class RankQueries(beam.DoFn):
    """Input: (chunk, [(query key, raw row, known items)]). Output: (query key, candidate indices int64 [n]).

    Args:
      embedder: of the model that ranks.
      ranks: the first and the last rank that is wanted.
    """

    def __init__(self, embedder: Embedder, ranks: tuple[int, int]) -> None:
        self._embedder = embedder
        self._ranks = ranks

    def setup(self) -> None:
        self._embedder.load()

    def process(
        self, element: tuple[int, Iterable[tuple[bytes, bytes, tuple[int, ...]]]], embeddings: np.ndarray
    ) -> Iterator[tuple[bytes, np.ndarray]]:
        rows = sorted(element[1])
        queries = self._embedder("serialized_examples", [raw for _, raw, _ in rows]).astype(np.float64)
        step = queries_at_once(len(embeddings), queries[0].size // embeddings.shape[1])
        for start in range(0, len(rows), step):
            scores = score_catalogue(queries[start : start + step], embeddings)
            for (query, _, known), row in zip(rows[start : start + step], scores, strict=True):
                yield query, ranked(row, np.array(known, np.int64), *self._ranks)


def _join(element: tuple[bytes, dict[str, Iterable[Any]]]) -> tuple[bytes, bytes, tuple[int, ...]]:
    query, groups = element
    known, latest = sorted(set(groups["known"])), list(groups["latest"])
    if not latest or not known:
        raise ValueError(
            f"split train, query {query.decode(errors='replace')!r}: it has rows in only one of the raw and the "
            "transformed examples"
        )
    return query, latest[0][1], tuple(known)


def _chunk_of(row: tuple[bytes, bytes, tuple[int, ...]], queries: int) -> int:
    return int.from_bytes(hashlib.blake2b(row[0], digest_size=8).digest(), "big") % -(-queries // CHUNK)


class MineHardNegatives(beam.PTransform):
    """The items at the wanted ranks of each query's exact search, its train items not ranked.

    A query is embedded as of its latest train row (of several at one time, the one whose bytes are
    the largest), so that it is searched for once; held-out rows are never read. The embeddings of the
    catalogue are held in memory.

    Input: {"rows": TrainRow, "items": ItemRow, "raw_train": bytes, "raw_items": bytes}.
    Output: (query key, candidate indices int64 [n], the best first).

    Args:
      model: folder of a SavedModel with the signatures `item_examples` and `serialized_examples`.
      spec: names the raw columns.
      ranks: the first rank and the last, counted from 1, both included.
    """

    def __init__(self, model: str, spec: FeatureSpec, ranks: tuple[int, int]) -> None:
        super().__init__()
        self._embedder = Embedder(model, shared.Shared())
        self._spec = spec
        self._ranks = ranks

    def expand(self, inputs: dict[str, beam.PCollection]) -> beam.PCollection:
        indices = AsDict(inputs["items"] | "IndexOfItem" >> beam.Map(lambda item: item[:2]))
        chunks = (
            inputs["raw_items"]
            | "ParseRawItem" >> beam.Map(parse_raw_item, self._spec.item_id)
            | "ChunkOfItem" >> beam.Map(_item_in_chunk, indices).with_output_types(tuple[int, tuple[int, bytes]])
            | "GroupItems" >> beam.GroupByKey()
            | "EmbedItems" >> beam.ParDo(EmbedCatalogue(self._embedder))
        )
        embeddings = (
            inputs["items"].pipeline
            | "OneMatrix" >> beam.Create([None])
            | "Arrange" >> beam.Map(lambda _, chunks, indices: arrange(chunks, len(indices)), AsIter(chunks), indices)
        )
        latest = (
            inputs["raw_train"]
            | "ParseRawTrain"
            >> beam.Map(parse_raw_train_row, self._spec).with_output_types(tuple[bytes, tuple[int, bytes]])
            | "Latest" >> beam.CombinePerKey(max)
        )
        known = inputs["rows"] | "Known" >> beam.Map(lambda row: row[:2]).with_output_types(tuple[bytes, int])
        queries = {"latest": latest, "known": known} | "JoinKnown" >> beam.CoGroupByKey() | "Query" >> beam.Map(_join)
        count = AsSingleton(latest | "CountQueries" >> beam.combiners.Count.Globally())
        return (
            queries
            | "ChunkOfQuery"
            >> beam.Map(lambda row, count: (_chunk_of(row, count), row), count).with_output_types(
                tuple[int, tuple[bytes, bytes, tuple[int, ...]]]
            )
            | "GroupQueries" >> beam.GroupByKey()
            | "RankQueries" >> beam.ParDo(RankQueries(self._embedder, self._ranks), AsSingleton(embeddings))
        )


def _item_in_chunk(item: tuple[bytes, bytes], indices: dict[bytes, int]) -> tuple[int, tuple[int, bytes]]:
    item_id, serialised = item
    if item_id not in indices:
        raise ValueError(f"raw split items: item {item_id.decode(errors='replace')!r} is not in the transformed one")
    index = indices[item_id]
    return index // CHUNK, (index, serialised)
