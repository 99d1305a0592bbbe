"""Tests of the category alignment loss."""

from pathlib import Path

import numpy as np
import pytest
import tensorflow as tf

from models.losses import CategoryAlignmentLoss, category_alignment_loss

# Category 2, three rows: mean (1, 1); centred (-1, -1), (0, 0), (1, 1).
#   covariance (n - 1 = 2): [[1, 1], [1, 1]]
# Category 0, two rows: mean (0, 1); centred (0, -1), (0, 1).
#   covariance (n - 1 = 1): [[0, 0], [0, 2]]
# Difference [[1, 1], [1, -1]]: squared Frobenius norm 4.
EMBEDDINGS = [[0.0, 0.0], [0.0, 0.0], [1.0, 1.0], [0.0, 2.0], [2.0, 2.0]]
CATEGORIES = [2, 0, 2, 0, 2]


def loss_of(embeddings: object, categories: object) -> float:
    return float(category_alignment_loss(tf.constant(embeddings, tf.float32), tf.constant(categories, tf.int64)))


def with_numpy(embeddings: np.ndarray, categories: np.ndarray) -> float:
    sets = {c: embeddings[categories == c] for c in sorted(set(categories.tolist()) - {-1})}
    major = max(sets, key=lambda c: (len(sets[c]), -c))
    reference = np.cov(sets[major], rowvar=False, ddof=1)
    others = [rows for c, rows in sets.items() if c != major and len(rows) > 1]
    return sum(float(((reference - np.cov(rows, rowvar=False, ddof=1)) ** 2).sum()) for rows in others)


def test_two_categories_by_hand() -> None:
    assert loss_of(EMBEDDINGS, CATEGORIES) == pytest.approx(4.0)


def test_many_categories_equal_numpys_covariance() -> None:
    generator = np.random.default_rng(3)
    embeddings = generator.normal(size=(300, 5)).astype(np.float32)
    categories = np.minimum(generator.geometric(0.15, size=300), 40) * 7 - 8

    assert (categories == -1).sum() > 2
    assert loss_of(embeddings, categories) == pytest.approx(with_numpy(embeddings, categories), rel=1e-4)


def test_the_largest_category_is_the_reference() -> None:
    # Category 2 (three rows) against two others with covariance 0: twice || [[1, 1], [1, 1]] ||^2 = 4.
    # Were category 0 the reference, the sum would be 4 + 0.
    same = [[5.0, 5.0]] * 2
    embeddings = [[0.0, 0.0], [1.0, 1.0], [2.0, 2.0], *same, *same]

    assert loss_of(embeddings, [2, 2, 2, 0, 0, 1, 1]) == pytest.approx(8.0)


def test_of_equally_large_categories_the_lowest_index_is_the_reference() -> None:
    # Category 9 spreads (covariance [[2]]), 3 and 5 do not. Reference 3: 4 + 0. Reference 9 would give 8.
    embeddings = [[0.0], [2.0], [7.0], [7.0], [1.0], [1.0]]

    assert loss_of(embeddings, [9, 9, 5, 5, 3, 3]) == pytest.approx(4.0)
    # Now the spread one has the lowest index.
    assert loss_of(embeddings, [1, 1, 5, 5, 3, 3]) == pytest.approx(8.0)


def test_a_category_with_one_row_is_left_out() -> None:
    assert loss_of([*EMBEDDINGS, [9.0, -9.0]], [*CATEGORIES, 1]) == pytest.approx(4.0)


def test_rows_without_category_are_left_out() -> None:
    # Four rows without a category would be the largest group.
    missing = [[9.0, 0.0], [0.0, 9.0], [3.0, 3.0], [-9.0, 4.0]]

    assert loss_of([*missing, *EMBEDDINGS], [-1] * 4 + CATEGORIES) == pytest.approx(4.0)


@pytest.mark.parametrize(
    "categories", [[4] * 5, [-1] * 5, [0, 1, 2, 3, 4], [-1, -1, 1, 1, 1]], ids=["one", "none", "singles", "one+none"]
)
def test_nothing_to_compare_costs_nothing(categories: list[int]) -> None:
    embeddings = tf.Variable(EMBEDDINGS)
    with tf.GradientTape() as tape:
        loss = category_alignment_loss(embeddings, tf.constant(categories))
    gradient = tape.gradient(loss, embeddings)

    assert loss.numpy() == 0.0
    np.testing.assert_array_equal(tf.convert_to_tensor(gradient), np.zeros((5, 2)))


def test_the_gradient_is_the_numeric_one() -> None:
    generator = np.random.default_rng(5)
    embeddings = tf.constant(generator.normal(size=(9, 3)))
    categories = tf.constant([0, 0, 0, 0, 1, 1, 2, -1, -1])

    theory, numeric = tf.test.compute_gradient(lambda e: category_alignment_loss(e, categories), [embeddings])

    np.testing.assert_allclose(theory[0], numeric[0], rtol=1e-6, atol=1e-5)
    np.testing.assert_array_equal(theory[0][0, -9:], np.zeros(9))


def test_categories_that_spread_alike_cost_nothing_and_never_less() -> None:
    for seed in range(20):
        generator = np.random.default_rng(seed)
        rows = generator.normal(size=(30, 16)).astype(np.float32)
        shifted = generator.permutation(rows) + np.float32(0.5)
        loss = loss_of(np.concatenate([rows, shifted]), np.repeat([0, 1], 30))
        assert 0 <= loss < 1e-4  # of two covariances whose squared norm is about 25


def test_far_from_the_origin_precision_holds() -> None:
    shifted = np.asarray(EMBEDDINGS) + 1000.0

    assert loss_of(shifted, CATEGORIES) == pytest.approx(4.0, rel=1e-5)


def test_traced_once_for_any_batch_and_number_of_categories() -> None:
    function = tf.function(
        category_alignment_loss, input_signature=[tf.TensorSpec([None, 2]), tf.TensorSpec([None], tf.int64)]
    )

    assert function(EMBEDDINGS, CATEGORIES).numpy() == pytest.approx(4.0)
    assert function(EMBEDDINGS[:2], [3, 3]).numpy() == 0.0


def test_serialised_saved_and_loaded_in_a_model(tmp_path: Path) -> None:
    layer = tf.keras.layers.deserialize(tf.keras.layers.serialize(CategoryAlignmentLoss(name="cal")))
    assert layer.name == "cal"
    embeddings, categories = tf.keras.Input([2]), tf.keras.Input([], dtype=tf.int64)
    tf.keras.Model([embeddings, categories], layer(embeddings, categories)).save(tmp_path / "model.keras")

    loaded = tf.keras.models.load_model(tmp_path / "model.keras")

    assert loaded([tf.constant(EMBEDDINGS), tf.constant(CATEGORIES, tf.int64)]).numpy() == pytest.approx(4.0)
