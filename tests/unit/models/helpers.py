"""Raw rows through the Transform graph, and transformed rows to files, without TFX."""

from __future__ import annotations

import functools
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import tensorflow as tf
import tensorflow_transform as tft
import tensorflow_transform.beam as tft_beam
from tensorflow_transform.tf_metadata import dataset_metadata, schema_utils

from models import features, preprocessing
from models.config import FeatureSpec
from models.features import Encoding, Encodings
from models.retrieval_model import Catalogue

Row = dict[str, list[Any]]


def transform(
    spec: FeatureSpec, rows: Sequence[Row], folder: Path, later: Sequence[Row] = ()
) -> tuple[list[Mapping[str, np.ndarray]], list[Mapping[str, np.ndarray]], tft.TFTransformOutput]:
    """Analyses and transforms `rows`, then transforms `later`; writes the Transform graph to `folder`."""
    columns = {**features.raw_query_spec(spec), **features.raw_item_spec(spec)}
    columns[spec.category] = tf.io.VarLenFeature(tf.string)
    columns[spec.timestamp] = tf.io.VarLenFeature(tf.int64)
    metadata = dataset_metadata.DatasetMetadata(schema_utils.schema_from_feature_spec(columns))
    empty: Row = {name: [] for name in columns}
    function = functools.partial(preprocessing.preprocessing_fn, custom_config={"features": spec.model_dump_json()})
    with tft_beam.Context(temp_dir=str(folder / "tmp")):
        (made, _), graph = ([{**empty, **row} for row in rows], metadata) | tft_beam.AnalyzeAndTransformDataset(
            function
        )
        made_later: list[Mapping[str, np.ndarray]] = []
        if later:
            made_later, _ = (([{**empty, **row} for row in later], metadata), graph) | tft_beam.TransformDataset()
        graph | tft_beam.WriteTransformFn(str(folder / "graph"))
    return made, made_later, tft.TFTransformOutput(str(folder / "graph"))


def example(row: Mapping[str, Any]) -> bytes:
    """A row as a serialised tf.Example."""

    def feature(values: Any) -> tf.train.Feature:
        values = list(values)
        if not values:
            return tf.train.Feature()
        if isinstance(values[0], bytes | str):
            encoded = [v.encode() if isinstance(v, str) else v for v in values]
            return tf.train.Feature(bytes_list=tf.train.BytesList(value=encoded))
        if isinstance(values[0], float | np.floating):
            return tf.train.Feature(float_list=tf.train.FloatList(value=values))
        return tf.train.Feature(int64_list=tf.train.Int64List(value=values))

    made = tf.train.Features(feature={key: feature(values) for key, values in row.items()})
    return tf.train.Example(features=made).SerializeToString()


def write_records(path: Path, rows: Sequence[Mapping[str, Any]]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    with tf.io.TFRecordWriter(str(path), options="GZIP") as writer:
        for row in rows:
            writer.write(example(row))


def small_encodings(items: int = 4, queries: int = 3) -> Encodings:
    """Query id and history; item id and genres."""
    return Encodings(
        query=(
            Encoding("user", queries + 2, 4, missing=queries + 1),
            Encoding("history", items + 2, 4, pooled=True),
        ),
        item=(Encoding("item", items + 2, 4, missing=items + 1), Encoding("genres", 4, 4, pooled=True)),
        query_rows=queries + 2,
        item_rows=items + 2,
        query_id="user",
        item_id="item",
        history="history",
    )


def small_catalogue(items: int = 4) -> Catalogue:
    """Candidates 0..N-1 with counts 1..N; categories alternate; one genre each, 1 or 2."""
    return Catalogue(
        columns={
            "item": np.arange(1, items + 1),
            "genres": np.stack([np.arange(items) % 2 + 1, np.zeros(items, np.int64)], axis=1),
        },
        categories=np.arange(items) % 2,
        counts=np.arange(1, items + 1),
        log_q=np.full(items, -np.log(items), np.float32),
    )


def small_batch() -> dict[str, tf.Tensor]:
    """Three queries, two negatives each; the last negative of the first row is its own positive."""
    return {
        features.QUERY_INDEX: tf.constant([1, 2, 3], tf.int64),
        "user": tf.constant([1, 2, 3], tf.int64),
        "history": tf.constant([[1, 2], [3, 0], [0, 0]], tf.int64),
        features.CANDIDATE_INDEX: tf.constant([0, 1, 0], tf.int64),
        features.NEGATIVE_INDICES: tf.constant([[2, 0], [3, 2], [1, 2]], tf.int64),
        features.NEGATIVE_LOG_Q: tf.fill([3, 2], tf.constant(-np.log(4.0), tf.float32)),
    }
