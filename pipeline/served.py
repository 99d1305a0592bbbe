"""Whether a running server answers with the releases that it should. Imports no TensorFlow."""

from __future__ import annotations

import time
from pathlib import Path

from serving.blobs import BlobError, BlobTable
from serving.client import RetrievalClient, RetrievalError
from serving.config import VersionPolicy
from serving.queries import IDS
from serving.release import QUERIES, list_versions
from serving.state import read_state
from serving.versions import select

_QUERIES_ASKED = 5
_POLL_SECONDS = 1.0


class ServedError(RuntimeError):
    """The server does not answer with what it should. Its text says what it does instead."""


def check_served(
    releases: Path, model: str, policy: VersionPolicy, client: RetrievalClient, wait_seconds: float
) -> dict[str, int]:
    """Asks a server for recommendations for a few queries of each release that should answer.

    That is the newest, unless an operator has pinned another or split the traffic; then it is the pinned one or those
    of the labels with a share.

    Args:
      releases: base path of the releases.
      model: name of the served model.
      policy: the configuration's.
      client: of the server.
      wait_seconds: for the server to load them.

    Returns:
      label -> version of what answers, the label "" where the traffic is not split.

    Raises:
      ServedError: there is no release that should answer, or it is damaged; or the server still cannot be reached,
        answers with another release, with nothing, or as if the query were unknown.
      ReleaseError: the file with the operators' decisions is broken.
    """
    expected = _expected(releases, policy)
    deadline = time.monotonic() + wait_seconds
    for label, version in expected.items():
        try:
            ids = BlobTable(releases / str(version) / QUERIES / IDS)
        except BlobError as error:
            raise ServedError(f"release {version} is damaged: {error}") from error
        asked = [ids[row].decode() for row in range(min(_QUERIES_ASKED, len(ids)))]
        while (fault := _fault(client, model, label, asked, version)) is not None:
            if time.monotonic() > deadline:
                raise ServedError(f"label {label!r}: {fault}" if label else fault)
            time.sleep(_POLL_SECONDS)
    return expected


def _expected(releases: Path, policy: VersionPolicy) -> dict[str, int]:
    versions, state = list_versions(releases), read_state(releases)
    if not versions:
        raise ServedError(f"{releases}: there is no release yet")
    if state.traffic:
        expected = {label: state.labels[label] for label in state.traffic}
        for label, version in expected.items():
            if version not in versions:
                raise ServedError(f"{releases}: label {label!r} has traffic and names release {version}, which is gone")
        return expected
    newest = select(versions, policy, state, ()).newest
    if newest is None:
        raise ServedError(f"{releases}: serving.version_policy chooses none of {', '.join(map(str, versions))}")
    return {"": newest}


def _fault(client: RetrievalClient, model: str, label: str, query_ids: list[str], version: int) -> str | None:
    for query_id in query_ids:
        try:
            answer = client.recommend(query_id=query_id, k=10, model=model, label=label)
        except RetrievalError as error:
            return str(error)
        if (answer.tower_version, answer.index_version) != (version, version):
            return (
                f"answers with tower {answer.tower_version} and index {answer.index_version}; "
                f"release {version} should answer"
            )
        if not answer.known_query:
            return f"query {query_id!r} is in release {version}, but the server does not know it"
        if not answer.items:
            return f"query {query_id!r} is in release {version}, but the answer has 0 items for it"
    return None
