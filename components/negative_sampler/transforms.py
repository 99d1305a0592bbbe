"""The Beam steps of negative sampling."""

from __future__ import annotations

import uuid
from collections import Counter
from collections.abc import Iterable, Iterator
from typing import Any

import apache_beam as beam
import numpy as np
import tensorflow as tf

from components.negative_sampler.config import NegativesConfig
from components.negative_sampler.rows import ItemRow, TrainRow, count_row, with_item_count, with_negatives
from components.negative_sampler.sampling import Distribution, Sampler, draw_hard, row_key

Keyed = tuple[bytes, bytes]


def counts_by_index(items: Iterable[tuple[bytes, int]], counts: dict[int, int]) -> np.ndarray:
    """Train positives of each candidate.

    Args:
      items: (item_key, candidate_index) of the catalogue's rows.
      counts: train positives by candidate index; absent means none.

    Returns:
      int64 [N].

    Raises:
      ValueError: there are no items or no positives, or the indices are not 0..N-1, each once.
    """
    keys = sorted((index, key) for key, index in items)
    if not keys:
        raise ValueError("split items has no rows, expected the catalogue")
    if not counts:
        raise ValueError("split train has no rows")
    for place, (index, key) in enumerate(keys):
        if index != place:
            raise ValueError(
                f"split items, item {key.decode(errors='replace')!r}: candidate_index is {index}, expected {place}, "
                "for every item must have an index of its own, from 0 on"
            )
    if max(counts) >= len(keys):
        raise ValueError(f"split train: candidate_index {max(counts)} is not one of the {len(keys)} items")
    return np.array([counts.get(index, 0) for index in range(len(keys))], np.int64)


class SampleRows(beam.DoFn):
    """Adds negatives to each row by itself. Identical rows get identical negatives.

    Input: TrainRow; side input: a Distribution. Output: (row key, extended row).
    """

    def __init__(self, config: NegativesConfig) -> None:
        self._config = config

    def process(self, row: TrainRow, distribution: Distribution) -> Iterator[Keyed]:
        serialised = row[2]
        yield sample(Sampler(distribution), serialised, row_key(serialised, self._config.seed), self._config)


class SampleQueries(beam.DoFn):
    """Adds negatives to one query's rows. Identical rows are numbered.

    With `exclude_known` never one of the query's own items. Hard ones, if any are asked for, are drawn
    of the items that "ranked" holds; they are all -1 for a query that has none.

    Input: (query_key, {"rows": TrainRows, "ranked": none or one int64 [n]}); side input: a
    Distribution. Output: (row key, extended row).
    """

    def __init__(self, config: NegativesConfig) -> None:
        self._config = config

    def process(self, element: tuple[bytes, dict[str, Iterable[Any]]], distribution: Distribution) -> Iterator[Keyed]:
        query, groups = element
        rows: list[TrainRow] = list(groups["rows"])
        [ranked] = [*groups.get("ranked", ())] or [np.empty(0, np.int64)]
        known = None
        if self._config.exclude_known and self._config.per_positive:
            known = np.array([index for _, index, _ in rows])
        try:
            sampler = Sampler(distribution, known)
        except ValueError as error:
            raise ValueError(f"split train, query {query.decode(errors='replace')!r}: {error}") from error
        seen: Counter[bytes] = Counter()
        for _, _, serialised in rows:
            key = row_key(serialised, self._config.seed, seen[serialised])
            seen[serialised] += 1
            yield sample(sampler, serialised, key, self._config, ranked)


def sample(
    sampler: Sampler, serialised: bytes, key: bytes, config: NegativesConfig, ranked: np.ndarray | None = None
) -> Keyed:
    indices, log_q = sampler.draw(key, config.per_positive)
    hard = None
    if ranked is not None and config.hard_per_positive:
        hard = draw_hard(ranked, key, config.hard_per_positive).tolist()
    return key, with_negatives(serialised, indices.tolist(), log_q.tolist(), hard)


class WriteFiles(beam.PTransform):
    """Writes (key, record) pairs in the order of a hash, in files that are the same on every runner.

    A file's records are sorted in one process, so `files` must grow with the data.

    Args:
      folder: where `data_tfrecord-00000-of-<files>.gz` and so on go. A file without records is not
        written.
      files: how many.
    """

    def __init__(self, folder: str, files: int) -> None:
        super().__init__()
        self._folder = folder
        self._files = files

    def expand(self, keyed: beam.PCollection) -> beam.PCollection:
        return (
            keyed
            | "AssignFile"
            >> beam.Map(lambda pair, n: (int.from_bytes(pair[0][:8], "big") % n, pair), self._files).with_output_types(
                tuple[int, Keyed]
            )
            | "GroupByFile" >> beam.GroupByKey()
            | "WriteFile" >> beam.MapTuple(self._write)
        )

    def _write(self, number: int, pairs: Iterable[Keyed]) -> str:
        name = f"data_tfrecord-{number:05d}-of-{self._files:05d}.gz"
        # The low end of the key orders the rows: its high end has chosen the file.
        records = (record for _, record in sorted(pairs, key=lambda pair: (pair[0][8:], pair)))
        return write_records(records, f"{self._folder}/{name}")


def write_records(records: Iterable[bytes], path: str) -> str:
    """Writes gzipped TFRecords under a temporary name first, so that a file is there whole or not at all."""
    folder, name = path.rsplit("/", 1)
    tf.io.gfile.makedirs(folder)
    temporary = f"{folder}/.tmp-{uuid.uuid4().hex}-{name}"
    try:
        with tf.io.TFRecordWriter(temporary, options="GZIP") as writer:
            for record in records:
                writer.write(record)
        tf.io.gfile.rename(temporary, path, overwrite=True)
    finally:
        if tf.io.gfile.exists(temporary):
            tf.io.gfile.remove(temporary)
    return path


def write_catalogue(_: None, items: Iterable[ItemRow], counts: np.ndarray, items_path: str, counts_path: str) -> None:
    """Writes the items split, with each item's count, and the artifact ItemCounts, both by candidate index."""
    ordered = sorted(items, key=lambda item: item[1])
    write_records((with_item_count(row, int(counts[index])) for _, index, row in ordered), items_path)
    write_records((count_row(key, index, int(counts[index])) for key, index, _ in ordered), counts_path)
