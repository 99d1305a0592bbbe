from __future__ import annotations

import dataclasses

import numpy as np
import pytest
import scipy.sparse
import tensorflow as tf
from implicit.cpu.als import AlternatingLeastSquares

from models import features
from models.config import AlsConfig, ModelConfig
from models.matrix_factorization import MatrixFactorization
from tests.unit.models import helpers

ALS = AlsConfig(regularization=0.1, alpha=3.0, iterations=4)
CONFIG = ModelConfig(kind="matrix_factorization", output_dim=4, als=ALS)
# Queries 1..20 choose some of 9 candidates; query 1 chose candidate 0 twice.
RANDOM = np.random.default_rng(8)
CHOSEN = (RANDOM.random([20, 9]) < 0.3).astype(np.float32)
CHOSEN[0, 0] = 2


def rows() -> tuple[np.ndarray, np.ndarray]:
    query, candidate = np.nonzero(CHOSEN)
    order = RANDOM.permutation(len(query))
    return np.append(query[order] + 1, 1), np.append(candidate[order], 0)


@pytest.fixture(scope="module")
def reference() -> AlternatingLeastSquares:
    solver = AlternatingLeastSquares(
        factors=4, regularization=0.1, alpha=3.0, iterations=4, random_state=5, num_threads=1
    )
    solver.fit(scipy.sparse.csr_matrix(CHOSEN), show_progress=False)
    return solver


@pytest.fixture(scope="module")
def model() -> MatrixFactorization:
    made = MatrixFactorization(CONFIG, helpers.small_encodings(9, 20), helpers.small_catalogue(9))
    made.solve(*rows(), seed=5)
    return made


def query_columns(index: list[int], history: list[list[int]]) -> dict[str, tf.Tensor]:
    return {features.QUERY_INDEX: tf.constant(index, tf.int64), "history": tf.constant(history, tf.int64)}


def test_factors_and_scores_are_the_librarys(model: MatrixFactorization, reference: AlternatingLeastSquares) -> None:
    queries = model.query_embeddings(query_columns(list(range(1, 21)), [[3]] * 20)).numpy()
    items = model.item_embeddings({features.CANDIDATE_INDEX: tf.range(9, dtype=tf.int64)}).numpy()
    np.testing.assert_allclose(queries, reference.user_factors, atol=1e-6)
    np.testing.assert_allclose(items, reference.item_factors, atol=1e-6)
    for query in range(20):
        ids, scores = reference.recommend(query, scipy.sparse.csr_matrix(CHOSEN[query]), N=9)
        kept = [i for i in np.argsort(-(items @ queries[query])) if not CHOSEN[query, i]]
        assert [i for i, s in zip(ids, scores, strict=True) if s > -1e30] == kept
        np.testing.assert_allclose(scores[: len(kept)], (items @ queries[query])[kept], atol=1e-5)


def test_other_queries_are_folded_in_as_the_library_does(
    model: MatrixFactorization, reference: AlternatingLeastSquares
) -> None:
    # Candidate + 1, padded with 0; the second chose candidate 4 three times, the third an unknown item (9 + 1).
    histories = [[1, 3, 9, 0], [5, 5, 2, 5], [7, 10, 0, 0], [0, 0, 0, 0]]
    counts = np.zeros([4, 9], np.float32)
    counts[0, [0, 2, 8]], counts[1, [4, 1]], counts[2, 6] = 1, [3, 1], 1
    expected = reference.recalculate_user(np.arange(4), scipy.sparse.csr_matrix(counts))
    made = model.query_embeddings(query_columns([21, 0, 21, 21], histories)).numpy()
    np.testing.assert_allclose(made, expected, atol=1e-5)
    np.testing.assert_array_equal(made[3], np.zeros(4))


def test_one_factor_by_hand() -> None:
    config = CONFIG.model_copy(update={"output_dim": 1, "als": AlsConfig(regularization=0.5, alpha=4.0)})
    model = MatrixFactorization(config, helpers.small_encodings(2, 1), helpers.small_catalogue(2))
    model.item_factors.assign([[0], [1], [2], [0]])
    model.item_products.assign([[5]])  # 1 + 4
    # Candidate 1 once: (5 + .5 + (4 - 1) 2 x 2)^-1 4 x 2 = 8 / 17.5. Twice: (5 + .5 + (8 - 1) 4)^-1 8 x 2 = 16 / 33.5.
    made = model.fold_in(tf.constant([[2, 0], [2, 2]], tf.int64))
    np.testing.assert_allclose(made, [[8 / 17.5], [16 / 33.5]], rtol=1e-6)


def test_without_history_an_unknown_query_is_zero() -> None:
    encodings = helpers.small_encodings(9, 20)
    encodings = dataclasses.replace(encodings, query=encodings.query[:1], history=None)
    model = MatrixFactorization(CONFIG, encodings, helpers.small_catalogue(9))
    model.solve(*rows(), seed=5)
    made = model.query_embeddings({features.QUERY_INDEX: tf.constant([21, 1], tf.int64)}).numpy()
    np.testing.assert_array_equal(made[0], np.zeros(4))
    assert np.linalg.norm(made[1]) > 0.1


def test_unknown_items_are_zero(model: MatrixFactorization) -> None:
    made = model.item_embeddings({features.CANDIDATE_INDEX: tf.constant([-1], tf.int64)})
    np.testing.assert_array_equal(made, np.zeros([1, 4]))


def test_rows_of_unknown_queries_are_no_query(model: MatrixFactorization) -> None:
    query, candidate = rows()
    other = MatrixFactorization(CONFIG, helpers.small_encodings(9, 20), helpers.small_catalogue(9))
    other.solve(np.append(query, [21, 0, 3]), np.append(candidate, [1, 1, -1]), seed=5)
    np.testing.assert_allclose(other.item_factors, model.item_factors, atol=1e-6)
    np.testing.assert_array_equal(other.query_factors[21], np.zeros(4))
