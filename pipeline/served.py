"""Whether a running server answers with the newest release. Imports no TensorFlow."""

from __future__ import annotations

import time
from pathlib import Path

from serving.blobs import BlobTable
from serving.client import RetrievalClient, RetrievalError
from serving.queries import IDS
from serving.release import QUERIES, list_versions

_QUERIES_ASKED = 5
_POLL_SECONDS = 1.0


class ServedError(RuntimeError):
    """The server does not answer with the newest release. Its text says what it does instead."""


def check_served(releases: Path, model: str, client: RetrievalClient, wait_seconds: float) -> int:
    """Asks a server for recommendations for a few queries of the newest release.

    Args:
      releases: base path of the releases.
      model: name of the served model.
      client: of the server.
      wait_seconds: for the server to load the release.

    Returns:
      The version it answers with.

    Raises:
      ServedError: there is no release; or the server still cannot be reached, answers with another release, with
        nothing, or as if the query were unknown.
    """
    versions = list_versions(releases)
    if not versions:
        raise ServedError(f"{releases}: there is no release yet")
    version = versions[-1]
    ids = BlobTable(releases / str(version) / QUERIES / IDS)
    asked = [ids[row].decode() for row in range(min(_QUERIES_ASKED, len(ids)))]
    deadline = time.monotonic() + wait_seconds
    while True:
        fault = _fault(client, model, asked, version)
        if fault is None:
            return version
        if time.monotonic() > deadline:
            raise ServedError(fault)
        time.sleep(_POLL_SECONDS)


def _fault(client: RetrievalClient, model: str, query_ids: list[str], version: int) -> str | None:
    for query_id in query_ids:
        try:
            answer = client.recommend(query_id=query_id, k=10, model=model)
        except RetrievalError as error:
            return str(error)
        if (answer.tower_version, answer.index_version) != (version, version):
            return (
                f"answers with tower {answer.tower_version} and index {answer.index_version}; "
                f"the newest release is {version}"
            )
        if not answer.known_query:
            return f"query {query_id!r} is in release {version}, but the server does not know it"
        if not answer.items:
            return f"query {query_id!r} is in release {version}, but the answer has 0 items for it"
    return None
