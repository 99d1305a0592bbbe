"""Rows of a TFRecord file of tf.train.Example."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import chain, islice

import tensorflow as tf
from google.protobuf.message import DecodeError

from components.ingestion.errors import IngestionError
from components.ingestion.records import Record

SCHEMA_ROWS = 1000  # a TFRecord file names no columns: so many rows are looked at
READ_ROWS = 256  # at a time: a step of tf.data takes longer than to parse a row


def _examples(path: str) -> Iterator[tf.train.Example | None]:
    records = tf.data.TFRecordDataset(path, compression_type="GZIP" if path.endswith(".gz") else "")
    try:
        for record in chain.from_iterable(records.batch(READ_ROWS).as_numpy_iterator()):
            try:
                yield tf.train.Example.FromString(record)
            except DecodeError:
                yield None
    except tf.errors.DataLossError as error:
        raise IngestionError(f"{path}: damaged TFRecord file: {error.message.splitlines()[0]}") from None
    except tf.errors.OpError as error:
        raise OSError(f"{path}: {error.message.splitlines()[0]}") from error


def describe(path: str) -> tuple[list[str], bool]:
    """The names of the features in the first 1,000 rows, and whether there is a row.

    Raises:
      IngestionError: the file is damaged.
      OSError: the file system refuses it.
    """
    columns: set[str] = set()
    rows = 0
    for example in islice(_examples(path), SCHEMA_ROWS):
        rows += 1
        if example is not None:
            columns.update(example.features.feature)
    return sorted(columns), rows > 0


def read_tfrecord(path: str, columns: Sequence[str]) -> Iterator[Record]:
    """Reads some features of each tf.Example.

    Args:
      path: a file of any TensorFlow file system; a .gz is unpacked.
      columns: names of features. An Example without one has no value there.

    Yields:
      Records whose values are lists, in the order of `columns`.

    Raises:
      IngestionError: the file is damaged.
      OSError: the file system refuses it.
    """
    for number, example in enumerate(_examples(path), start=1):
        if example is None:
            yield Record(number, None, None, "not_an_example")
            continue
        feature = example.features.feature
        yield Record(number, [_values(feature[column]) for column in columns], None, None)


def _values(feature: tf.train.Feature) -> list[object]:
    kind = feature.WhichOneof("kind")
    return list(getattr(feature, kind).value) if kind else []
