"""Reads the raw examples of all known queries for the release's query store."""

from __future__ import annotations

from pathlib import Path

import tensorflow as tf

_AT_ONCE = 1024  # a step of tf.data costs a quarter of a millisecond, however many rows it brings


def read_queries(folder: Path, query_id: str) -> list[tuple[bytes, bytes]]:
    """The queries of one split, sorted by their ids' bytes.

    All of them are held in memory: a million queries with 50 items of history take about 1 GB.

    Args:
      folder: of the split, with gzipped TFRecords `data_tfrecord-*.gz`.
      query_id: key of the id in the tf.Examples.

    Returns:
      (id, serialised tf.Example).

    Raises:
      ValueError: a row has no id.
    """
    rows: list[tuple[bytes, bytes]] = []
    files = sorted(str(path) for path in folder.glob("data_tfrecord-*.gz"))
    for batch in tf.data.TFRecordDataset(files, compression_type="GZIP").batch(_AT_ONCE).as_numpy_iterator():
        for serialised in batch:
            ids = tf.train.Example.FromString(serialised).features.feature[query_id].bytes_list.value
            if len(ids) != 1 or not ids[0]:
                row = len(rows)
                raise ValueError(f"{folder}: row {row} has no {query_id!r}: the query store needs an id for each row")
            rows.append((ids[0], serialised))
    rows.sort()
    return rows
