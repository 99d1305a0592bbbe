"""What a loaded release must be able to do before it answers anybody. Importing this imports TensorFlow."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from serving.index import EMBEDDINGS
from serving.queries import QueryStore
from serving.release import INDEX, ReleaseError
from serving.retriever import LOAD_ERRORS, Retriever, load_release

UNKNOWN_QUERY = "canary: a query that nobody is"
CHUNK = 1 << 22  # numbers looked at in one go: 16 MiB


def check_canary(folder: Path, retriever: Retriever) -> None:
    """Looks at every embedding of the index and asks a few queries: stored ones and an unknown one.

    Args:
      folder: of the release.
      retriever: it, loaded.

    Raises:
      ReleaseError: an embedding has NaN or infinity, or a query fails or finds nothing. Its cause is a RequestError
        where TensorFlow Serving did not answer.
    """
    _check_embeddings(folder / INDEX / EMBEDDINGS, retriever)
    for query_id in _queries(retriever.queries):
        try:
            answer = retriever.recommend(query_id=query_id, features={}, k=1)
        except (IndexError, *LOAD_ERRORS) as error:
            raise ReleaseError(f"{folder}: canary query {query_id!r} failed: {' '.join(str(error).split())}") from error
        if not answer.hits or not np.isfinite(answer.hits[0].score):
            raise ReleaseError(f"{folder}: canary query {query_id!r} found no item with a finite score")


def try_release(folder: Path) -> None:
    """Does with a release what a server does before it answers from it, the tower in this process.

    Raises:
      ReleaseError: a server would refuse it.
    """
    check_canary(folder, load_release(folder))


def _check_embeddings(path: Path, retriever: Retriever) -> None:
    embeddings = np.load(path, mmap_mode="r", allow_pickle=False)
    rows = max(1, CHUNK // embeddings.shape[1])
    for start in range(0, len(embeddings), rows):
        finite = np.isfinite(embeddings[start : start + rows]).all(axis=1)
        if not finite.all():
            item_id = retriever.index.item_id(start + int(np.argmin(finite))).decode(errors="replace")
            raise ReleaseError(f"{path}: item {item_id!r} has an embedding with NaN or infinity")


def _queries(store: QueryStore) -> list[str]:
    """The first, the middle and the last stored query, and an unknown one."""
    rows = sorted({0, len(store) // 2, len(store) - 1}) if len(store) else []
    return [*(store.query_id(row).decode() for row in rows), UNKNOWN_QUERY]
