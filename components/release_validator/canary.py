"""Canary queries: what a release must be able to do before it is published."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np

from serving.retriever import Retriever

K = 10
UNKNOWN = "no query has this id"


def spread(ids: Sequence[bytes], count: int) -> list[bytes]:
    """At most `count` ids, evenly spread over the sorted ones, the first and the last among them."""
    if len(ids) <= count:
        return list(ids)
    return [ids[place] for place in np.linspace(0, len(ids) - 1, count).round().astype(int)] if count else []


def problems(retriever: Retriever, ids: Sequence[bytes]) -> Iterator[str]:
    """A line for each canary query that is not answered as it has to be.

    A known query must be found in the query store, any query get the K items it asked for (all, if there are fewer),
    each once, with finite scores, best first.

    Args:
      retriever: a loaded release.
      ids: of known queries; an unknown one is asked in any case.
    """
    expected = min(K, retriever.index.manifest.items)
    for query_id in [*(i.decode(errors="surrogateescape") for i in ids), UNKNOWN]:
        try:
            answer = retriever.recommend(query_id=query_id, features={}, k=K)
        except ValueError as error:
            yield f"query {query_id!r}: {error}"
            continue
        scores = [hit.score for hit in answer.hits]
        found = {hit.item_id for hit in answer.hits}
        if answer.known_query != (query_id != UNKNOWN):
            yield f"query {query_id!r}: it is {'known' if answer.known_query else 'not in the query store'}"
        elif len(answer.hits) != expected or len(found) != expected:
            yield f"query {query_id!r}: {len(found)} items in {len(answer.hits)} places, expected {expected}"
        elif not np.isfinite(scores).all() or sorted(scores, reverse=True) != scores:
            yield f"query {query_id!r}: the scores are not finite numbers, largest first: {scores}"
