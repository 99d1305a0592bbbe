"""A loaded release that answers queries: tower, index and query store of one version."""

from __future__ import annotations

import math
import time
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from enum import Enum
from pathlib import Path

import tensorflow as tf
from google.protobuf.message import DecodeError

from serving.config import TowerConfig
from serving.fallbacks import Fallback, fill
from serving.filters import Filter
from serving.hits import Hits
from serving.index import ItemIndex
from serving.queries import QueryStore
from serving.query_inputs import Values, read_stored
from serving.release import INDEX, QUERIES, Manifest, ReleaseError, verify_release
from serving.remote_tower import AnyTower, RemoteTower
from serving.status import RequestError
from serving.tower import Tower
from serving.warm_up import run_warm_up_requests

SEEN_ITEMS = "seen_items"
LOAD_ERRORS = (ValueError, TypeError, KeyError, OSError, DecodeError, RequestError, tf.errors.OpError)
COMPARED_QUERIES = 64  # stored ones on which the tower's two forms are compared when a release is loaded


class Truncation(Enum):
    """What left fewer than k items: each step that leaves fewer than k and fewer than the one before."""

    CATALOGUE = "catalogue"
    FILTERS = "filters"
    EXCLUSIONS = "exclusions"
    MIN_SCORE = "min_score"


@dataclass(frozen=True)
class Answer:
    """The items found for one query.

    Attributes:
      hits: best first.
      known_query: the id is in the query store.
      truncated_by: empty just where there are k hits.
      fallbacks: what the request lacked, each kind once.
      missing_features: neither given nor stored.
      tower_us, search_us: microseconds that the embedding, and the search with its filters, took.
    """

    hits: Hits
    known_query: bool
    truncated_by: tuple[Truncation, ...]
    fallbacks: tuple[Fallback, ...]
    missing_features: tuple[str, ...]
    tower_us: int
    search_us: int

    @property
    def truncated(self) -> bool:
        return bool(self.truncated_by)


@dataclass(frozen=True)
class Retriever:
    """Immutable; safe for any number of threads. A server changes the release by replacing the whole object."""

    manifest: Manifest
    tower: AnyTower = field(repr=False)
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
        allow: Sequence[Filter] = (),
        deny: Sequence[Filter] = (),
        min_score: float | None = None,
        effort: float = 1.0,
        timeout: float = math.inf,
    ) -> Answer:
        """The k items that score highest for a query.

        Args:
          query_id: "" if there is none; an unknown one is embedded as out of vocabulary.
          features: override what is stored of the query. Empty strings in them are left out.
          k: at least 1.
          exclude: item ids that must not be in the answer.
          exclude_seen: leave out the items the query has an interaction with in the release's data.
          allow: only items that match each of these filters.
          deny: no item that matches one of these.
          min_score: only items with this score or a higher one.
          effort: of the search, see ItemIndex.search.
          timeout: seconds until the caller gives up.

        Raises:
          ValueError: neither an id nor features, or a feature or filter is wrong; it says which and what was expected.
          RequestError: the tower is remote and did not answer.
        """
        if not query_id and not features:
            raise ValueError("the request needs a query_id, features or both")
        serialised = self.queries.find(query_id.encode()) if query_id else None
        stored = None if serialised is None else read_stored(serialised)
        filled = fill(self.manifest.features, query_id, stored, features)
        started = time.perf_counter()
        embedding = self.tower.embed(query_id, stored, filled.features, timeout)
        tower_us = _microseconds_since(started)
        excluded = {item_id.encode() for item_id in exclude}
        if exclude_seen and stored is not None:
            excluded.update(stored.get(SEEN_ITEMS, ()))  # type: ignore[arg-type]
        started = time.perf_counter()
        among = self.index.select(allow, deny)
        found = self.index.search(embedding, k, excluded, among=among, effort=effort)
        search_us = _microseconds_since(started)
        hits = found if min_score is None else found[: sum(score >= min_score for score in found.scores)]
        truncated_by: tuple[Truncation, ...] = ()
        if len(hits) < k:
            # Fewer than k were found: then all there are.
            left = {
                Truncation.CATALOGUE: len(self.index),
                Truncation.FILTERS: len(self.index) if among is None else among.count,
                Truncation.EXCLUSIONS: len(found),
                Truncation.MIN_SCORE: len(hits),
            }
            truncated_by = _truncated_by(k, left)
        return Answer(
            hits,
            known_query=stored is not None,
            truncated_by=truncated_by,
            fallbacks=filled.fallbacks,
            missing_features=filled.missing,
            tower_us=tower_us,
            search_us=search_us,
        )


def _truncated_by(k: int, left: Mapping[Truncation, int]) -> tuple[Truncation, ...]:
    """The steps that leave fewer than k items and fewer than the step before; `left` is in the order of the steps."""
    steps, before = [], k
    for step, count in left.items():
        if count < before:
            steps.append(step)
            before = count
    return tuple(steps)


def _microseconds_since(started: float) -> int:
    return round((time.perf_counter() - started) * 1e6)


def load_release(folder: Path) -> Retriever:
    """Verifies, loads and warms up one release, its tower in this process.

    Raises:
      ReleaseError: it is damaged, or its model does not load or fails on a warm-up request.
    """
    return complete_release(folder, *open_release(folder, None))


def open_release(folder: Path, remote: TowerConfig | None) -> tuple[Manifest, AnyTower]:
    """The first half of loading: verifies the files and reads the tower.

    Args:
      folder: the release's.
      remote: where the tower runs; None for this process. It is asked nothing yet.

    Raises:
      ReleaseError: it is damaged, or its model does not load.
    """
    manifest = verify_release(folder)
    try:
        if remote is None:
            return manifest, Tower(folder, manifest.features)
        name, version = manifest.model_name, manifest.version
        return manifest, RemoteTower(folder, manifest.features, model_name=name, version=version, config=remote)
    except LOAD_ERRORS as error:
        raise _cannot_load(folder, error) from error


def complete_release(folder: Path, manifest: Manifest, tower: AnyTower) -> Retriever:
    """The other half: loads index and query store beside what `open_release` gave, and warms all up.

    Raises:
      ReleaseError: something does not load, or fails on a warm-up request. Its cause is a RequestError where TensorFlow
        Serving does not answer for the version: it may later, so this half can be done again.
    """
    try:
        if isinstance(tower, RemoteTower):
            tower.embed("", None, {})  # first: while it does not answer, no index is loaded in vain
        retriever = Retriever(manifest, tower, ItemIndex(folder / INDEX), QueryStore(folder / QUERIES))
        _warm_up(folder, retriever)
    except LOAD_ERRORS as error:
        raise _cannot_load(folder, error) from error
    return retriever


def _cannot_load(folder: Path, error: Exception) -> ReleaseError:
    return ReleaseError(f"{folder}: cannot load the release: {_one_line(error)}")


def _warm_up(folder: Path, retriever: Retriever) -> None:
    """Runs the model's own warm-up requests, a sample of the queries and one search, so that no user waits for them."""
    if isinstance(retriever.tower, Tower):  # a remote one was warmed up where it runs
        run_warm_up_requests(folder, retriever.tower)
        stored = retriever.queries.sample(COMPARED_QUERIES)
        known = [(query_id.decode(), read_stored(row)) for query_id, row in stored]
        retriever.tower.use_lite([("", None), *known])
    embedding = retriever.tower.embed("", None, {})
    if embedding.ndim not in (1, 2) or embedding.shape[-1] != retriever.index.manifest.dimension:
        raise ValueError(
            f"the tower's embedding has shape {list(embedding.shape)}, the index [{retriever.index.manifest.dimension}]"
        )
    retriever.index.search(embedding, k=1)


def _one_line(error: Exception) -> str:
    return " ".join(str(error).split())
