"""A loaded release that answers queries: tower, index and query store of one version."""

from __future__ import annotations

import logging
import math
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import tensorflow as tf
from google.protobuf.message import DecodeError
from tensorflow_serving.apis import prediction_log_pb2

from serving.config import TowerConfig
from serving.index import Hit, ItemIndex
from serving.queries import QueryStore
from serving.query_inputs import SERVING_DEFAULT, Values
from serving.release import INDEX, QUERIES, Manifest, ReleaseError, list_versions, verify_release
from serving.remote_tower import RemoteTower, TowerError
from serving.tower import Tower

WARM_UP = Path("assets.extra") / "tf_serving_warmup_requests"
SEEN_ITEMS = "seen_items"

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Answer:
    """The items found for one query."""

    hits: list[Hit]  # best first
    known_query: bool  # the id is in the query store
    truncated: bool  # fewer than k items, for the catalogue less the exclusions has no more


@dataclass(frozen=True)
class Retriever:
    """Immutable; safe for any number of threads. A server changes the release by replacing the whole object."""

    manifest: Manifest
    tower: Tower | RemoteTower = field(repr=False)
    index: ItemIndex = field(repr=False)
    queries: QueryStore = field(repr=False)

    def recommend(
        self,
        *,
        query_id: str,
        features: Mapping[str, Values],
        k: int,
        exclude: Collection[str] = (),
        exclude_seen: bool = False,
        timeout: float = math.inf,
    ) -> Answer:
        """The k items that score highest for a query.

        Args:
          query_id: "" if there is none; an unknown one is embedded as out of vocabulary.
          features: override what is stored of the query.
          k: at least 1.
          exclude: item ids that must not be in the answer.
          exclude_seen: leave out the items the query has an interaction with in the release's data.
          timeout: seconds until the caller gives up.

        Raises:
          ValueError: neither an id nor features, or a feature is wrong; it says which and what was expected.
          TowerError: the tower is remote and did not answer.
        """
        if not query_id and not features:
            raise ValueError("the request needs a query_id, features or both")
        serialised = self.queries.find(query_id.encode()) if query_id else None
        stored = None if serialised is None else tf.train.Example.FromString(serialised)
        embedding = self.tower.embed(query_id, stored, features, timeout)
        if not np.isfinite(embedding).all():
            raise ValueError("the query's features give an embedding with NaN or infinity")
        excluded = {item_id.encode() for item_id in exclude}
        if exclude_seen and stored is not None and SEEN_ITEMS in stored.features.feature:
            excluded.update(stored.features.feature[SEEN_ITEMS].bytes_list.value)
        hits = self.index.search(embedding, k, excluded)
        return Answer(hits, known_query=stored is not None, truncated=len(hits) < k)


def load_release(folder: Path, remote: TowerConfig | None = None) -> Retriever:
    """Verifies, loads and warms up one release.

    Args:
      folder: the release's.
      remote: where the tower runs; None for this process.

    Raises:
      ReleaseError: it is damaged, or its model does not load or fails on a warm-up request, or TensorFlow Serving has
        not loaded it in time.
    """
    manifest = verify_release(folder)
    try:
        tower = _tower(folder, manifest, remote)
        retriever = Retriever(manifest, tower, ItemIndex(folder / INDEX), QueryStore(folder / QUERIES))
        _warm_up(folder, retriever)
    except (ValueError, TypeError, KeyError, OSError, DecodeError, tf.errors.OpError, TowerError) as error:
        raise ReleaseError(f"{folder}: cannot load the release: {_one_line(error)}") from error
    return retriever


def _tower(folder: Path, manifest: Manifest, remote: TowerConfig | None) -> Tower | RemoteTower:
    if remote is None:
        return Tower(folder, manifest.features)
    name, version = manifest.model_name, manifest.version
    return RemoteTower(folder, manifest.features, model_name=name, version=version, config=remote)


def load_newest(root: Path, model_name: str, remote: TowerConfig | None = None) -> Retriever:
    """Loads the newest release that is whole, logging an error for each broken one that is newer.

    Raises:
      ReleaseError: there is no release of this model, or all are broken.
    """
    versions = list_versions(root)
    for version in reversed(versions):
        try:
            retriever = load_release(root / str(version), remote)
        except ReleaseError as error:
            logger.error("release %d is left out: %s", version, error)  # noqa: TRY400 - the message says it all
            continue
        if retriever.manifest.model_name == model_name:
            return retriever
        logger.error("release %d is left out: it is of model %r", version, retriever.manifest.model_name)
    if versions:
        raise ReleaseError(f"none of the {len(versions)} releases in {root} can be served as {model_name!r}")
    raise ReleaseError(f"there is no release in {root}")


def _warm_up(folder: Path, retriever: Retriever) -> None:
    """Runs the model's own warm-up requests, one cold query and one search, so that no user waits for them."""
    if (folder / WARM_UP).is_file():
        for record in tf.data.TFRecordDataset(str(folder / WARM_UP)).as_numpy_iterator():
            request = prediction_log_pb2.PredictionLog.FromString(record).predict_log.request
            inputs = {name: tf.make_ndarray(tensor) for name, tensor in request.inputs.items()}
            retriever.tower.predict(request.model_spec.signature_name or SERVING_DEFAULT, inputs)
    embedding = retriever.tower.embed("", None, {})
    if embedding.ndim not in (1, 2) or embedding.shape[-1] != retriever.index.manifest.dimension:
        raise ValueError(
            f"the tower's embedding has shape {list(embedding.shape)}, the index [{retriever.index.manifest.dimension}]"
        )
    retriever.index.search(embedding, k=1)


def _one_line(error: Exception) -> str:
    return " ".join(str(error).split())
