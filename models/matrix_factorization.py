"""Weighted matrix factorization of implicit feedback (WALS)."""

from __future__ import annotations

import logging
from collections.abc import Mapping

import numpy as np
import scipy.sparse
import tensorflow as tf
from implicit.cpu.als import AlternatingLeastSquares
from threadpoolctl import threadpool_limits

from models import features
from models.config import ModelConfig
from models.features import Encodings
from models.retrieval_model import Catalogue, RetrievalModel

progress = logging.getLogger("retrieval.progress")


class MatrixFactorization(RetrievalModel):
    """A factor for each query and each item, by alternating least squares; no feature is read.

    It minimises, over the factors x of the queries and y of the items,

    sum over all pairs u, i of c_ui (p_ui - <x_u, y_i>)^2 + regularization (sum of |x_u|^2 + sum of |y_i|^2)

    with p = 1 and c = alpha n for a query that chose the item n times, and p = 0, c = 1 for one that did not. This is
    the convention of the library `implicit`, which does the work; the paper has c = 1 + alpha n. Factors have
    output_dim numbers and are not normalised.

    A query of the train split has the factor it was trained to. Any other is folded in from its history, if that is a
    feature: by one exact step of the same least squares with the items held fixed. An unknown item, and a query of
    which nothing is known, have zeros.

    Hu, Koren, Volinsky, "Collaborative Filtering for Implicit Feedback Datasets", ICDM 2008.
    """

    learns_by_gradient = False

    def __init__(self, config: ModelConfig, encodings: Encodings, catalogue: Catalogue) -> None:
        super().__init__(config, encodings, catalogue)
        dim = config.output_dim
        # Row 0, padding, and the last one, unknown, stay zero.
        self.query_factors = tf.Variable(tf.zeros([encodings.query_rows, dim]), name="query_factors")
        self.item_factors = tf.Variable(tf.zeros([encodings.item_rows, dim]), name="item_factors")
        self.item_products = tf.Variable(tf.zeros([dim, dim]), name="item_products")  # sum of y y^T over the items

    def solve(self, query_index: np.ndarray, candidate_index: np.ndarray, seed: int) -> None:
        als = self.config.als
        queries, items = self.encodings.query_rows - 2, self.encodings.item_rows - 2
        known = (query_index >= 1) & (query_index <= queries) & (candidate_index >= 0)
        rows, columns = query_index[known] - 1, candidate_index[known]

        def tell(iteration: int, seconds: float, _: None) -> None:
            progress.info("iteration %d of %d, %.1f s", iteration + 1, als.iterations, seconds)

        # A pair that stands there twice is added up.
        chosen = scipy.sparse.csr_matrix((np.ones(len(rows), np.float32), (rows, columns)), shape=(queries, items))
        # The library has threads of its own, one query each; those of BLAS would only be in their way.
        with threadpool_limits(limits=1, user_api="blas"):
            solver = AlternatingLeastSquares(
                factors=self.config.output_dim,
                regularization=als.regularization,
                alpha=als.alpha,
                iterations=als.iterations,
                random_state=seed,
            )
            solver.fit(chosen, show_progress=False, callback=tell)
            products = solver.item_factors.T @ solver.item_factors
        self.query_factors.assign(np.pad(solver.user_factors, [(1, 1), (0, 0)]))
        self.item_factors.assign(np.pad(solver.item_factors, [(1, 1), (0, 0)]))
        self.item_products.assign(products)

    def fold_in(self, history: tf.Tensor) -> tf.Tensor:
        """The factor of a query that chose the items of a history.

        x = (Y^T C Y + regularization I)^-1 Y^T C p, where Y^T C Y is Y^T Y plus (alpha n - 1) y y^T for each of the
        history's items.

        Args:
          history: int64 [B, L], `candidate_index` + 1, padded with 0.

        Returns:
          float32 [B, output_dim]; zeros for an empty history.
        """
        als = self.config.als
        vectors = tf.gather(self.item_factors, history)  # padding and unknown items are zeros: they add nothing
        times = tf.reduce_sum(tf.cast(history[:, :, tf.newaxis] == history[:, tf.newaxis, :], tf.float32), axis=2)
        # An item that stands there n times adds n times the n-th part.
        weights = als.alpha - 1.0 / times
        ridge = self.item_products + als.regularization * tf.eye(self.config.output_dim)
        left = ridge + tf.einsum("bl,bld,ble->bde", weights, vectors, vectors)
        right = als.alpha * tf.reduce_sum(vectors, axis=1)
        return tf.linalg.solve(left, right[:, :, tf.newaxis])[:, :, 0]

    def query_embeddings(self, columns: Mapping[str, tf.Tensor], training: bool = False) -> tf.Tensor:
        index = columns[features.QUERY_INDEX]
        factors = tf.gather(self.query_factors, index)
        if self.encodings.history is None:
            return factors
        known = (index >= 1) & (index < self.encodings.query_rows - 1)
        return tf.where(known[:, tf.newaxis], factors, self.fold_in(columns[self.encodings.history]))

    def item_embeddings(self, columns: Mapping[str, tf.Tensor], training: bool = False) -> tf.Tensor:
        rows = features.item_table_rows(columns[features.CANDIDATE_INDEX], self.encodings.item_rows)
        return tf.gather(self.item_factors, rows)
