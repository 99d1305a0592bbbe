"""Releases whose quality is known: the world's own vectors with noise. Importing this imports TensorFlow."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import tensorflow as tf
from numpy.typing import NDArray

from benchmarks.online_simulator.world import DIMENSION, World, item_id
from benchmarks.serving.synthetic import MODEL_NAME
from models.config import FeatureSpec
from serving.index_builder import build_index
from serving.release import folder_fingerprint, write_release

SPEC = FeatureSpec.model_validate(
    {
        "query_id": "user_id",
        "item_id": "item_id",
        "timestamp": "timestamp",
        "category": "category",
        "features": [
            {"name": "user_id", "kind": "id", "side": "query"},
            {"name": "person", "kind": "number", "side": "query"},
            {"name": "item_id", "kind": "id", "side": "item"},
            {"name": "category", "kind": "categorical", "side": "item"},
        ],
    }
)


class Tower(tf.Module):
    """Embeds a person; a missing one as the first. The id itself says nothing: it is there for the split."""

    def __init__(self, vectors: NDArray[np.float32]) -> None:
        super().__init__()
        self.vectors = tf.Variable(vectors, trainable=False)

    @tf.function(
        input_signature=[
            tf.TensorSpec([None], tf.string, name="user_id"),
            tf.TensorSpec([None], tf.float32, name="person"),
        ]
    )
    def serving_default(self, user_id, person):
        row = tf.cast(tf.where(tf.math.is_nan(person), 0.0, person), tf.int32)
        return {"embedding": tf.gather(self.vectors, row)}


def publish(root: Path, work: Path, world: World, noise: float, seed: int) -> int:
    """Writes a release whose vectors are the world's with noise.

    Args:
      root: of the releases.
      work: a folder that does not exist yet.
      world: the people and items.
      noise: standard deviation in each dimension.
      seed: of the noise.

    Returns:
      The version.
    """
    random = np.random.default_rng([seed, DIMENSION])
    tower = Tower(world.seen_through(noise, world.tastes, random))
    model = work / "model"
    tf.saved_model.save(tower, str(model), signatures={"serving_default": tower.serving_default})
    build_index(
        work / "index",
        embeddings=world.seen_through(noise, world.items, random),
        ids=[item_id(number).encode() for number in range(len(world.items))],
        attributes=[{"category": f"c{category}"} for category in world.category],
        model_fingerprint=folder_fingerprint(model),
    )
    example = tf.train.Example()
    example.features.feature["person"].float_list.value.append(0.0)
    queries = [(b"somebody", example.SerializeToString())]
    return write_release(root, model_name=MODEL_NAME, features=SPEC, model=model, index=work / "index", queries=queries)
