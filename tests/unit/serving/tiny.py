"""A SavedModel small enough to work out by hand, with the signatures of the pipeline's export, and a release of it.

The query's embedding is [w + 100 if the id is "alice", number of tags, length of the history, time mod 1000 or -1];
an item's is [a, b, c, d].
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import tensorflow as tf

from models.config import Feature, FeatureSpec
from serving.index_builder import build_index
from serving.release import folder_fingerprint, write_release

SPEC = FeatureSpec(
    query_id="user_id",
    item_id="item_id",
    timestamp="time",
    category="genre",
    features=(
        Feature(name="user_id", kind="id", side="query"),
        Feature(name="w", kind="number", side="query"),
        Feature(name="tags", kind="multi_categorical", side="query", max_values=3),
        Feature(name="history", kind="history", side="query", max_values=2),
        Feature(name="time", kind="timestamp", side="interaction"),
        Feature(name="item_id", kind="id", side="item"),
        *(Feature(name=name, kind="number", side="item") for name in "abcd"),
    ),
)


def filled(values: tf.Tensor) -> tf.Tensor:
    return tf.reduce_sum(tf.cast(values != "", tf.float32), axis=1)


class TinyModel(tf.Module):
    def __init__(self, offset: float = 0.0) -> None:
        super().__init__()
        self.offset = tf.Variable(offset)

    def embed(self, first: tf.Tensor, tags: tf.Tensor, history: tf.Tensor, moment: tf.Tensor) -> tf.Tensor:
        return tf.stack([first, tags, history, moment], axis=1)

    @tf.function(
        input_signature=[
            tf.TensorSpec([None], tf.string, name="user_id"),
            tf.TensorSpec([None], tf.float32, name="w"),
            tf.TensorSpec([None, None], tf.string, name="tags"),
            tf.TensorSpec([None, None], tf.string, name="history"),
            tf.TensorSpec([None], tf.int64, name="time"),
        ]
    )
    def serving_default(self, user_id, w, tags, history, time):
        first = tf.where(tf.math.is_nan(w), 0.0, w) + tf.where(user_id == "alice", 100.0, 0.0) + self.offset
        moment = tf.where(time == -1, -1.0, tf.cast(time % 1000, tf.float32))
        return {"embedding": self.embed(first, filled(tags), filled(history), moment)}

    @tf.function(input_signature=[tf.TensorSpec([None], tf.string, name="examples")])
    def serialized_examples(self, examples):
        parsed = tf.io.parse_example(
            examples,
            {
                "user_id": tf.io.FixedLenFeature([], tf.string, ""),
                "w": tf.io.FixedLenFeature([], tf.float32, math.nan),
                "tags": tf.io.VarLenFeature(tf.string),
                "history": tf.io.VarLenFeature(tf.string),
                "time": tf.io.FixedLenFeature([], tf.int64, -1),
            },
        )
        return self.serving_default(
            parsed["user_id"],
            parsed["w"],
            tf.sparse.to_dense(parsed["tags"]),
            tf.sparse.to_dense(parsed["history"]),
            parsed["time"],
        )

    @tf.function(input_signature=[tf.TensorSpec([None], tf.string, name="examples")])
    def item_examples(self, examples):
        parsed = tf.io.parse_example(examples, {name: tf.io.FixedLenFeature([], tf.float32) for name in "abcd"})
        return {"embedding": tf.stack([parsed[name] for name in "abcd"], axis=1)}


class TwoVectors(TinyModel):
    """Two vectors a query: the first number alone, and the other three."""

    def embed(self, first: tf.Tensor, tags: tf.Tensor, history: tf.Tensor, moment: tf.Tensor) -> tf.Tensor:
        zero = tf.zeros_like(first)
        vectors = [[first, zero, zero, zero], [zero, tags, history, moment]]
        return tf.stack([tf.stack(vector, axis=1) for vector in vectors], axis=1)


def save_model(folder: Path, model: TinyModel | None = None) -> Path:
    model = model or TinyModel()
    signatures = {name: getattr(model, name) for name in ("serving_default", "serialized_examples", "item_examples")}
    tf.saved_model.save(model, str(folder), signatures=signatures)
    return folder


def example(**values: Sequence[bytes] | Sequence[float] | Sequence[int]) -> tf.train.Example:
    result = tf.train.Example()
    for name, value in values.items():
        feature = result.features.feature[name]
        if value and isinstance(value[0], bytes):
            feature.bytes_list.value.extend(value)
        elif value and isinstance(value[0], float):
            feature.float_list.value.extend(value)
        elif value:
            feature.int64_list.value.extend(value)
        else:
            feature.SetInParent()
    return result


def save_index(
    folder: Path,
    model_fingerprint: str,
    items: dict[str, Sequence[float]],
    titles: dict[str, str] | None = None,
    attributes: dict[str, dict[str, str | list[str]]] | None = None,
) -> Path:
    """The items have titles, which may not be filtered by, and attributes, which may."""
    ids = sorted(item.encode() for item in items)
    titled = {item: {"title": title} for item, title in (titles or {}).items()}
    rows = [{**titled.get(i.decode(), {}), **(attributes or {}).get(i.decode(), {})} for i in ids]
    build_index(
        folder,
        embeddings=np.array([items[item.decode()] for item in ids], dtype=np.float32),
        ids=ids,
        attributes=rows,
        model_fingerprint=model_fingerprint,
        filters=sorted({name for row in (attributes or {}).values() for name in row}),
    )
    return folder


# Scores of a query [1, 0, 0, 0] are 1 to 5; [0, 1, 0, 0] gives 5 to 1.
ITEMS = {"i1": [1, 5, 0, 0], "i2": [2, 4, 0, 0], "i3": [3, 3, 0, 0], "i4": [4, 2, 0, 0], "i5": [5, 1, 0, 0]}
QUERIES = [
    (b"alice", example(user_id=[b"alice"], w=[-99.0], tags=[], history=[b"i1"], seen_items=[b"i4", b"i5"])),
    (b"bob", example(user_id=[b"bob"], w=[], tags=[b"x", b"y"], history=[], seen_items=[])),
]


# By genre: i1 and i2 "a", i3 and i5 "b", i4 none. By tag: i1 x; i2 x, y; i3 y; i5 both x and the awkward one.
ATTRIBUTES: dict[str, dict[str, str | list[str]]] = {
    "i1": {"genre": "a", "tags": ["x"]},
    "i2": {"genre": "a", "tags": ["x", "y"]},
    "i3": {"genre": "b", "tags": ["y"]},
    "i5": {"genre": "b", "tags": ["x", "x", "\u00e9|\n日本"]},
}


def publish(
    root: Path,
    model: Path,
    work: Path,
    items: dict[str, Sequence[float]] | None = None,
    titles: dict[str, str] | None = None,
    model_name: str = "tiny",
    attributes: dict[str, dict[str, str | list[str]]] | None = None,
) -> int:
    """A release through the real writer; `work` is a folder that does not exist yet."""
    index = save_index(work, folder_fingerprint(model), items or ITEMS, titles, attributes)
    queries = [(query_id, stored.SerializeToString()) for query_id, stored in QUERIES]
    return write_release(root, model_name=model_name, features=SPEC, model=model, index=index, queries=queries)
