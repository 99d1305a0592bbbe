"""The trainer's input: the catalogue, and batches of train rows."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import tensorflow as tf

from models import features
from models.features import Encodings
from models.retrieval_model import Catalogue

CACHE_BYTES = 1 << 30  # train files below this size, compressed, are kept in memory
SHUFFLE_ROWS = 1_000_000
PARSED_ROWS = 16_384


def matching_files(patterns: Sequence[str], split: str) -> list[str]:
    """Files that match, sorted.

    Raises:
      ValueError: none does.
    """
    files = sorted(file for pattern in patterns for file in tf.io.gfile.glob(pattern))
    if not files:
        raise ValueError(f"split {split}: no file matches {', '.join(patterns)}")
    return files


def _records(files: Sequence[str]) -> tf.data.Dataset:
    return tf.data.TFRecordDataset(list(files), compression_type="GZIP", num_parallel_reads=min(len(files), 8))


def _batches_of_records(files: Sequence[str]) -> tf.data.Dataset:
    """Batches of each file's records: handed from thread to thread one by one, they take several times as long."""

    def of_file(file: tf.Tensor) -> tf.data.Dataset:
        return tf.data.TFRecordDataset(file, compression_type="GZIP").batch(PARSED_ROWS)

    parallel = min(len(files), 8)
    return tf.data.Dataset.from_tensor_slices(list(files)).interleave(
        of_file, cycle_length=parallel, num_parallel_calls=parallel
    )


def count_rows(files: Sequence[str]) -> int:
    """Rows of gzipped TFRecords."""
    return int(_batches_of_records(files).reduce(np.int64(0), lambda count, rows: count + tf.size(rows, tf.int64)))


def sampling_log_q(counts: np.ndarray, sampling: str, alpha: float) -> np.ndarray:
    """Natural log of the probability with which the NegativeSampler draws each candidate.

    Uniform: 1 / N. Popularity: proportional to (count + 1) ** alpha. That known items of a query may
    be excluded is left out.

    Raises:
      ValueError: another sampling.
    """
    if sampling not in ("uniform", "popularity"):
        raise ValueError(f"negatives: sampling is {sampling!r}; expected uniform or popularity")
    log_weights = (alpha if sampling == "popularity" else 0.0) * np.log(counts + 1.0)
    log_weights -= log_weights.max()
    return (log_weights - np.log(np.exp(log_weights).sum())).astype(np.float32)


def load_catalogue(files: Sequence[str], encodings: Encodings, negatives: Mapping[str, Any]) -> Catalogue:
    """Reads the transformed items split.

    Args:
      files: gzipped TFRecords of transformed items rows with `item_count`.
      encodings: the item tower's columns.
      negatives: the NegativeSampler's config; `sampling` and `alpha` are read.

    Raises:
      ValueError: there is no row, or the rows are not exactly the candidates 0..N-1.
    """
    batches = list(_batches_of_records(files))
    if not batches:
        raise ValueError(f"split items has no rows in {files[0]} and {len(files) - 1} more files")
    rows = tf.concat(batches, axis=0)
    spec = features.item_parse_spec(encodings)
    spec |= {key: tf.io.VarLenFeature(tf.int64) for key in (features.CATEGORY_INDEX, features.ITEM_COUNT)}
    parsed = tf.io.parse_example(rows, spec)
    columns = features.item_columns(parsed, encodings)
    index = columns.pop(features.CANDIDATE_INDEX).numpy()
    candidates = encodings.item_rows - 2
    if not np.array_equal(np.sort(index), np.arange(candidates)):
        raise ValueError(
            f"split items has {len(index)} rows with {len(np.unique(index[index >= 0]))} distinct candidates; expected "
            f"one row for each of the {candidates} items of the vocabulary: is an item of the train split not in the "
            "item catalogue?"
        )
    order = np.argsort(index)
    counts = features.single(parsed[features.ITEM_COUNT]).numpy()[order]
    return Catalogue(
        columns={key: column.numpy()[order] for key, column in columns.items()},
        categories=features.single(parsed[features.CATEGORY_INDEX], -1).numpy()[order],
        counts=counts,
        log_q=sampling_log_q(counts, negatives["sampling"], negatives["alpha"]),
    )


def training_batches(
    files: Sequence[str],
    encodings: Encodings,
    per_positive: int,
    batch_size: int,
    seed: int,
    hard_per_positive: int = 0,
) -> tf.data.Dataset:
    """Shuffled batches for `RetrievalModel.compute_loss`.

    The last, smaller batch of an epoch is left out, so that the number of in-batch negatives and
    with it the loss keeps its scale; unless it is the only one.

    Args:
      files: gzipped TFRecords of transformed train rows with negatives.
      encodings: the query tower's columns.
      per_positive: S, negatives of each row.
      batch_size: rows of a batch.
      seed: of the shuffling.
      hard_per_positive: H, hard negatives of each row.

    Returns:
      Dicts of dense query columns, `query_index`, `candidate_index` int64 [B], `negative_indices`
      int64 [B, S], `negative_log_q` float32 [B, S], `hard_negative_indices` int64 [B, H].

    Raises:
      ValueError: there is no row.
    """
    spec: dict[str, Any] = {
        **features.query_parse_spec(encodings),
        features.CANDIDATE_INDEX: tf.io.FixedLenFeature([], tf.int64),
    }
    dtypes = {
        features.NEGATIVE_INDICES: (tf.int64, per_positive),
        features.NEGATIVE_LOG_Q: (tf.float32, per_positive),
        features.HARD_NEGATIVE_INDICES: (tf.int64, hard_per_positive),
    }
    spec |= {key: tf.io.FixedLenFeature([size], dtype) for key, (dtype, size) in dtypes.items() if size > 0}

    def parse(rows: tf.Tensor) -> dict[str, tf.Tensor]:
        parsed = tf.io.parse_example(rows, spec)
        none = {key: tf.zeros([tf.size(rows), 0], dtype) for key, (dtype, size) in dtypes.items() if size == 0}
        return {
            **features.query_columns(parsed, encodings),
            features.CANDIDATE_INDEX: parsed[features.CANDIDATE_INDEX],
            **{key: parsed.get(key, none.get(key)) for key in dtypes},
        }

    records = _records(files)
    first = sum(1 for _ in records.take(batch_size))
    if first == 0:
        raise ValueError(f"split train has no rows in {files[0]} and {len(files) - 1} more files")
    if sum(tf.io.gfile.stat(file).length for file in files) < CACHE_BYTES:
        records = records.cache()
    batches = records.shuffle(SHUFFLE_ROWS, seed=seed).batch(batch_size, drop_remainder=first == batch_size)
    return batches.map(parse, num_parallel_calls=tf.data.AUTOTUNE).prefetch(tf.data.AUTOTUNE)


def training_pairs(files: Sequence[str]) -> tuple[np.ndarray, np.ndarray]:
    """All train rows as pairs of indices, held in memory.

    Args:
      files: gzipped TFRecords of transformed train rows, with negatives or without.

    Returns:
      `query_index` and `candidate_index`, int64 [rows] each.

    Raises:
      ValueError: there is no row.
    """
    spec = {key: tf.io.FixedLenFeature([], tf.int64) for key in (features.QUERY_INDEX, features.CANDIDATE_INDEX)}
    batches = [tf.io.parse_example(rows, spec) for rows in _batches_of_records(files)]
    if not batches:
        raise ValueError(f"split train has no rows in {files[0]} and {len(files) - 1} more files")
    query, candidate = (np.concatenate([batch[key].numpy() for batch in batches]) for key in spec)
    return query, candidate
