from __future__ import annotations

import dataclasses

import numpy as np
import pytest
import tensorflow as tf

from models import features
from models.config import ModelConfig
from models.dat import DAT
from models.losses import category_alignment_loss
from models.two_tower import TwoTower
from tests.unit.models import helpers

PLAIN = {"embedding_dim": 4, "augmented_dim": 4, "output_dim": 4, "hidden_units": (8,), "last_activation": "linear"}


def dat(**settings: object) -> DAT:
    config = ModelConfig(**{**PLAIN, **settings})
    model = DAT(config, helpers.small_encodings(), helpers.small_catalogue())
    model.compute_loss(helpers.small_batch())
    model.reset_metrics()
    return model


def recorded(model: DAT) -> dict[str, float]:
    return {m.name: float(m.result()) for m in model.metrics}


def vectors_and_targets(model: DAT) -> tuple[np.ndarray, ...]:
    """a_u, p_v, a_v, p_u of the small batch's three positives: queries 1, 2, 3 and candidates 0, 1, 0."""
    batch = helpers.small_batch()
    columns = {key: tf.constant(column) for key, column in helpers.small_catalogue().columns.items()}
    items = model.item_embeddings({**columns, features.CANDIDATE_INDEX: tf.range(4, dtype=tf.int64)})
    a_u = model.query_augmented.table.embeddings.numpy()[[1, 2, 3]]
    a_v = model.item_augmented.table.embeddings.numpy()[[1, 2, 1]]
    return a_u, items.numpy()[[0, 1, 0]], a_v, model.query_embeddings(batch).numpy()


@pytest.mark.parametrize(("objective", "pairs"), [("sampled_bce", 9), ("sampled_softmax", 3), ("in_batch_softmax", 3)])
def test_loss_is_the_objective_and_three_weighted_terms(objective: str, pairs: int) -> None:
    mimic = {"query_weight": 0.3, "item_weight": 0.7}
    model = dat(objective=objective, mimic=mimic, alignment={"weight": 2.0})
    a_u, p_v, a_v, p_u = vectors_and_targets(model)
    loss = float(model.compute_loss(helpers.small_batch()))
    parts = recorded(model)
    # Three queries with two negatives each: T = 9 pairs for the paper's objective, 3 for a softmax.
    assert parts["query_mimic_loss"] == pytest.approx(((a_u - p_v) ** 2).sum() / pairs, rel=1e-5)
    assert parts["item_mimic_loss"] == pytest.approx(((a_v - p_u) ** 2).sum() / pairs, rel=1e-5)
    # Candidates 0, 1, 0 have categories 0, 1, 0.
    assert parts["alignment_loss"] == pytest.approx(float(category_alignment_loss(p_v, [0, 1, 0])), abs=1e-6)
    total = parts["retrieval_loss"] + 0.3 * parts["query_mimic_loss"] + 0.7 * parts["item_mimic_loss"]
    lengths = np.linalg.norm(a_u, axis=1)
    assert parts["query_mimic_norm"] == pytest.approx(lengths.mean(), rel=1e-5)
    assert parts["query_mimic_cosine"] == pytest.approx(((a_u * p_v).sum(axis=1) / lengths).mean(), rel=1e-4)
    assert loss == pytest.approx(total + 2.0 * parts["alignment_loss"], rel=1e-5)
    assert parts["mean_loss"] == pytest.approx(loss, rel=1e-6)


def test_the_cosine_is_with_what_is_mimicked() -> None:
    model = dat(mimic={"normalise": True, "centre": True})
    a_u, p_v, _, _ = vectors_and_targets(model)
    model.compute_loss(helpers.small_batch())
    apart = p_v - p_v.mean(axis=0)
    cosines = (a_u * apart).sum(axis=1) / np.linalg.norm(a_u, axis=1) / np.linalg.norm(apart, axis=1)
    assert recorded(model)["query_mimic_cosine"] == pytest.approx(cosines.mean(), rel=1e-4)


@pytest.mark.parametrize("objective", ["sampled_bce", "sampled_softmax", "in_batch_softmax"])
def test_mimicking_does_not_depend_on_the_batch_size(objective: str) -> None:
    model = dat(objective=objective)
    batch = helpers.small_batch()
    seen = []
    for copies in (1, 4):
        model.reset_metrics()
        model.compute_loss({k: tf.concat([v] * copies, 0) for k, v in batch.items()})
        seen.append([recorded(model)[name] for name in ("query_mimic_loss", "item_mimic_loss")])
    assert seen[1] == pytest.approx(seen[0], rel=1e-6)


def test_hard_negatives_are_pairs_of_the_papers_objective() -> None:
    batch = helpers.small_batch()
    model = dat()
    model.compute_loss(batch)
    without = recorded(model)["query_mimic_loss"]
    # Two there are, one is none: T = 11 and not 9.
    batch[features.HARD_NEGATIVE_INDICES] = tf.constant([[3], [-1], [2]], tf.int64)
    model.reset_metrics()
    model.compute_loss(batch)
    assert recorded(model)["query_mimic_loss"] == pytest.approx(without * 9 / 11, rel=1e-5)


def test_alignment_sees_the_positives_categories() -> None:
    batch = helpers.small_batch()
    batch[features.CANDIDATE_INDEX] = tf.constant([0, 2, 1], tf.int64)
    batch |= {k: tf.concat([v, v], 0) for k, v in batch.items()}
    batch[features.CANDIDATE_INDEX] = tf.constant([0, 2, 1, 3, 0, 2], tf.int64)
    model = dat(alignment={"weight": 100.0})
    loss = float(model.compute_loss(batch))
    columns = {key: tf.constant(column) for key, column in helpers.small_catalogue().columns.items()}
    items = model.item_embeddings({**columns, features.CANDIDATE_INDEX: tf.range(4, dtype=tf.int64)}).numpy()
    even, odd = items[[0, 2, 0, 2]], items[[1, 3]]
    expected = ((np.cov(even.T) - np.cov(odd.T)) ** 2).sum()
    parts = recorded(model)
    assert parts["alignment_loss"] == pytest.approx(expected, rel=1e-4)
    others = parts["retrieval_loss"] + 0.5 * (parts["query_mimic_loss"] + parts["item_mimic_loss"])
    assert loss - others == pytest.approx(100 * expected, rel=1e-3)


PAPER: dict[str, object] = {}
SHIPPED: dict[str, object] = {
    "objective": "in_batch_softmax",
    "augmented": {"query": "history", "to_output": True},
    "mimic": {"normalise": True, "centre": True},
}
TO_QUERY, TO_ITEM = {"query_weight": 1.0, "item_weight": 0.0}, {"query_weight": 0.0, "item_weight": 1.0}


@pytest.mark.parametrize(
    ("form", "weights", "own"),
    [
        (PAPER, TO_QUERY, ["query_augmented"]),
        (PAPER, TO_ITEM, ["item_augmented"]),
        (SHIPPED, TO_QUERY, ["item_augmented", "history_pooling"]),
        (SHIPPED, TO_ITEM, ["item_augmented"]),
    ],
)
def test_mimicking_moves_the_augmented_vectors_and_not_their_target(
    form: dict[str, object], weights: dict[str, float], own: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    mimic = {**form.get("mimic", {}), **weights}  # type: ignore[dict-item]
    model = dat(**{**form, "mimic": mimic, "alignment": {"weight": 0.0}})
    monkeypatch.setattr(TwoTower, "loss_of", lambda self, pairs: tf.constant(0.0))
    batch = helpers.small_batch()
    variables = model.trainable_variables
    with tf.GradientTape() as tape:
        loss = model.compute_loss(batch)
    gradients = tape.gradient(loss, variables)
    moved = {
        id(variable): tf.convert_to_tensor(gradient).numpy()
        for variable, gradient in zip(variables, gradients, strict=True)
        if gradient is not None and np.abs(tf.convert_to_tensor(gradient)).sum() > 0
    }
    mimicking = [getattr(model, name).trainable_variables[0] for name in own]
    assert moved.keys() == {id(variable) for variable in mimicking}
    # a_v is part of p_v, and so of its own target where it is pooled to a_u: with a target that is a number and has no
    # gradient the same variables move by the same.
    rows = tf.constant([1, 2, 1])
    items = {key: tf.constant(column) for key, column in helpers.small_catalogue().columns.items()}
    items[features.CANDIDATE_INDEX] = tf.range(4, dtype=tf.int64)
    to_query = weights is TO_QUERY
    target = (tf.gather(model.item_embeddings(items), rows - 1) if to_query else model.query_embeddings(batch)).numpy()
    with tf.GradientTape() as tape:
        vectors = model.query_vectors(batch) if to_query else tf.gather(model.item_vectors(items), rows - 1)
        loss = model.mimic_loss(vectors, tf.constant(target), 9 if form is PAPER else 3)
    for variable, gradient in zip(mimicking, tape.gradient(loss, mimicking), strict=True):
        np.testing.assert_allclose(moved[id(variable)], tf.convert_to_tensor(gradient), rtol=1e-4, atol=1e-6)


def test_augmented_table_is_not_the_id_table() -> None:
    model = dat()
    ids = model.query_encoder.tables["user"].embeddings
    vectors = model.query_augmented.table.embeddings
    before = vectors.numpy()
    ids.assign(tf.zeros_like(ids))
    np.testing.assert_array_equal(vectors, before)
    changed = ids.numpy()
    vectors.assign(tf.ones_like(vectors))
    np.testing.assert_array_equal(ids, changed)
    item_ids = model.item_encoder.tables["item"].embeddings
    assert item_ids is not model.item_augmented.table.embeddings
    # Both reach the tower: the same query with another augmented vector is embedded elsewhere.
    batch = helpers.small_batch()
    here = model.query_embeddings(batch).numpy()
    vectors.assign(-tf.ones_like(vectors))
    assert not np.allclose(here, model.query_embeddings(batch))


def test_normalised_vectors_enter_tower_and_loss() -> None:
    model = dat(mimic={"normalise": True})
    batch = helpers.small_batch()
    here = model.query_embeddings(batch).numpy()
    loss = float(model.compute_loss(batch))
    table = model.query_augmented.table.embeddings
    table.assign(table * 5.0)
    np.testing.assert_allclose(model.query_embeddings(batch), here, atol=1e-6)
    assert float(model.compute_loss(batch)) == pytest.approx(loss, rel=1e-5)


def test_unknown_candidates_read_the_last_row() -> None:
    model = dat()
    columns = {"item": tf.constant([5, 5]), "genres": tf.constant([[1], [1]])}
    unknown = {**columns, features.CANDIDATE_INDEX: tf.constant([-1, -1], tf.int64)}
    table = model.item_augmented.table.embeddings
    # Four candidates: rows 0 (padding), 1..4, 5 (unknown).
    before = model.item_embeddings(unknown).numpy()
    table.assign(tf.concat([table[:5], table[5:] + 1.0], axis=0))
    assert not np.allclose(before, model.item_embeddings(unknown))


@pytest.mark.parametrize(("rate", "trained"), [(0.0, False), (0.99, True)])
def test_unknown_rate_trains_the_augmented_vectors_of_unknown_ids(rate: float, trained: bool) -> None:
    # All ids of the small batch are known: without the rate nothing reads the last rows.
    tf.keras.utils.set_random_seed(1)
    model = dat(unknown_rate=rate)
    tables = [model.query_augmented.table.embeddings, model.item_augmented.table.embeddings]
    with tf.GradientTape() as tape:
        loss = model.compute_loss(helpers.small_batch(), training=True)
    for gradient in tape.gradient(loss, tables):
        assert bool(tf.convert_to_tensor(gradient).numpy()[-1].any()) == trained


def test_the_defaults_are_the_papers() -> None:
    model = DAT(ModelConfig(), helpers.small_encodings(), helpers.small_catalogue())
    assert model.query_tower.get_config() | {"name": "", "dtype": ""} == {
        "name": "", "trainable": True, "dtype": "",
        "hidden_units": [256, 128], "output_dim": 32, "last_activation": "relu", "dropout": 0.0,
        "normalise": True,
    }  # fmt: skip
    batch = helpers.small_batch()
    loss = float(model.compute_loss(batch))
    parts = recorded(model)
    expected = parts["retrieval_loss"] + 0.5 * (parts["query_mimic_loss"] + parts["item_mimic_loss"])
    assert loss == pytest.approx(expected + parts["alignment_loss"], rel=1e-6)
    # No temperature: with scores in [0, 1] no positive costs less than 0.313, no negative less than 0.693.
    assert parts["retrieval_loss"] > (3 * 0.313 + 5 * 0.693) / 8
    assert (model.query_embeddings(batch).numpy() >= 0).all()


def test_catalogue_without_categories() -> None:
    catalogue = dataclasses.replace(helpers.small_catalogue(), categories=np.full(4, -1))
    model = DAT(ModelConfig(**PLAIN), helpers.small_encodings(), catalogue)
    model.compute_loss(helpers.small_batch())
    assert recorded(model)["alignment_loss"] == 0.0


def test_mimicking_begins_at_its_share_of_the_steps() -> None:
    mimic = {"query_weight": 0.5, "item_weight": 0.25, "start": 0.5}
    model = dat(mimic=mimic, alignment={"weight": 0.0})
    batch = helpers.small_batch()

    def mimicking(loss: float) -> bool:
        parts = recorded(model)
        terms = 0.5 * parts["query_mimic_loss"] + 0.25 * parts["item_mimic_loss"]
        assert terms > 0.01  # shown from the first step on
        assert loss == pytest.approx(parts["retrieval_loss"] + terms, rel=1e-5) or loss == pytest.approx(
            parts["retrieval_loss"], rel=1e-5
        )
        return loss > parts["retrieval_loss"] + terms / 2

    # A model that is not told how long it will take goes on from an earlier one.
    assert mimicking(float(model.compute_loss(batch)))
    model.compile(optimizer=tf.keras.optimizers.legacy.SGD(0.0))
    model.plan_steps(5)
    seen = []
    for _ in range(5):
        model.reset_metrics()
        seen.append(mimicking(float(model.train_step(batch)["mean_loss"])))
    assert seen == [False, False, False, True, True]


OURS = {"augmented": {"query": "history", "to_output": True}}


def test_query_vectors_out_of_the_history() -> None:
    model = dat(**OURS)
    table = model.item_augmented.table.embeddings
    table.assign(np.arange(24, dtype=np.float32).reshape(6, 4))
    # Histories (1, 2), (3) and none: the mean of rows 1 and 2, row 3, zeros.
    expected = [[6, 7, 8, 9], [12, 13, 14, 15], [0, 0, 0, 0]]
    np.testing.assert_allclose(model.query_vectors(helpers.small_batch()), expected, rtol=1e-6)
    assert not hasattr(model, "query_augmented")
    normalised = dat(**OURS, mimic={"normalise": True})
    normalised.item_augmented.table.embeddings.assign(table)
    # The mean at unit length, not the mean of rows at unit length: 230 is 6^2 + 7^2 + 8^2 + 9^2, 734 that of row 3.
    expected = np.array(expected) / np.sqrt([[230], [734], [1]])
    np.testing.assert_allclose(normalised.query_vectors(helpers.small_batch()), expected, rtol=1e-6)


def test_augmented_vectors_are_added_to_the_outputs() -> None:
    model = dat(**OURS, mimic={"normalise": True})
    item = {key: tf.constant(column[:1]) for key, column in helpers.small_catalogue().columns.items()}
    item[features.CANDIDATE_INDEX] = tf.constant([0], tf.int64)
    model.item_gain.assign(1e6)
    np.testing.assert_allclose(model.item_embeddings(item), model.item_vectors(item), atol=1e-4)
    batch = helpers.small_batch()
    vectors = model.query_vectors(batch).numpy()
    model.query_gain.assign(1e6)
    # Nothing but the vector is left; where there is no history the tower alone answers.
    embeddings = model.query_embeddings(batch).numpy()
    np.testing.assert_allclose(embeddings[:2], vectors[:2], atol=1e-4)
    model.query_gain.assign(0.0)
    np.testing.assert_allclose(model.query_embeddings(batch).numpy()[2], embeddings[2], rtol=1e-6)
    assert not np.allclose(model.query_embeddings(batch).numpy()[:2], vectors[:2], atol=0.1)


def test_mimicking_out_of_the_history_trains_the_vectors_of_its_items() -> None:
    model = dat(**OURS, mimic={"query_weight": 1.0, "item_weight": 0.0}, alignment={"weight": 0.0})
    with tf.GradientTape() as tape:
        pairs_loss = model.mimic_loss(model.query_vectors(helpers.small_batch()), tf.ones([3, 4]), 3)
    by_table = tf.convert_to_tensor(tape.gradient(pairs_loss, model.item_augmented.table.embeddings)).numpy()
    # Rows 1, 2 and 3 stand in the histories; padding, the fourth item and unknown ones do not.
    assert (np.abs(by_table).sum(axis=1) > 0).tolist() == [False, True, True, True, False, False]


def test_a_step_makes_the_query_vectors_once(monkeypatch: pytest.MonkeyPatch) -> None:
    model = dat(**OURS)
    pool, pooled = model.history_pooling.call, []
    monkeypatch.setattr(model.history_pooling, "call", lambda *given: pooled.append(given) or pool(*given))
    model.compute_loss(helpers.small_batch(), training=True)
    assert len(pooled) == 1
    # Outside of training nothing is handed over, and the tower makes its own.
    model.query_embeddings(helpers.small_batch())
    assert len(pooled) == 2


def test_a_history_is_needed() -> None:
    encodings = dataclasses.replace(helpers.small_encodings(), history=None, history_length=0)
    with pytest.raises(ValueError, match=r"augmented.query history: no feature of kind history is declared"):
        DAT(ModelConfig(**PLAIN, **OURS), encodings, helpers.small_catalogue())
