"""Most popular, item-kNN and ALS of `implicit`, in the project's own environment."""

from __future__ import annotations

import itertools
from collections.abc import Iterator

import numpy as np
import scipy.sparse as sp
from implicit.als import AlternatingLeastSquares
from implicit.nearest_neighbours import CosineRecommender

from benchmarks.peers.choosing import SEED, Peer, Setting, run
from benchmarks.peers.data import Exchange, Rows
from benchmarks.peers.ranking import Score


def _matrix(exchange: Exchange, rows: Rows) -> sp.csr_matrix:
    return sp.csr_matrix(
        (np.ones(len(rows), np.float32), (rows.query, rows.item)), shape=(exchange.queries, exchange.items)
    )


def _most_popular(exchange: Exchange, rows: Rows, setting: Setting) -> Iterator[Score]:
    counts = np.bincount(rows.item, minlength=exchange.items)
    yield lambda queries: np.tile(counts, (len(queries), 1))


def _item_knn(exchange: Exchange, rows: Rows, setting: Setting) -> Iterator[Score]:
    matrix = _matrix(exchange, rows)
    model = CosineRecommender(K=setting["neighbours"], num_threads=2)
    model.fit(matrix, show_progress=False)
    yield lambda queries: (matrix[queries] @ model.similarity).toarray()


def _als(exchange: Exchange, rows: Rows, setting: Setting) -> Iterator[Score]:
    model = AlternatingLeastSquares(**setting, iterations=15, random_state=SEED, num_threads=2)
    model.fit(_matrix(exchange, rows), show_progress=False)
    yield lambda queries: model.user_factors[queries] @ model.item_factors.T


PEERS = {
    "most_popular": Peer([{}], _most_popular),
    "item_knn": Peer([{"neighbours": 50}, {"neighbours": 200}], _item_knn),
    "als": Peer(
        [
            {"factors": factors, "regularization": regularization, "alpha": alpha}
            for factors, regularization, alpha in itertools.product((64, 128), (0.01, 0.1), (1, 10))
        ],
        _als,
    ),
}

if __name__ == "__main__":
    run(PEERS)
