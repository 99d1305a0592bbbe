from __future__ import annotations

import dataclasses
import itertools

import numpy as np
import pytest
import tensorflow as tf

from models import features
from models.config import ModelConfig
from models.factorization_machine import FactorizationMachine
from models.features import Encoding, Encodings
from tests.unit.models import helpers

CONFIG = ModelConfig(kind="factorization_machine", output_dim=3)
ENCODINGS = Encodings(
    query=(Encoding("user", 4, 32, missing=3), Encoding("age", 0, 1), Encoding("history", 5, 32, pooled=True)),
    item=(Encoding("item", 5, 32, missing=4), Encoding("price", 0, 1), Encoding("genres", 4, 32, pooled=True)),
    query_rows=4,
    item_rows=5,
    query_id="user",
    item_id="item",
    history="history",
)
CATALOGUE = dataclasses.replace(
    helpers.small_catalogue(3),
    columns={
        "item": np.array([1, 2, 3]),
        "price": np.array([2.0, 0.5, -1.0], np.float32),
        "genres": np.array([[1, 2], [3, 0], [0, 0]]),
    },
)
QUERY = {
    features.QUERY_INDEX: tf.constant([1, 2], tf.int64),
    "user": tf.constant([1, 2], tf.int64),
    "age": tf.constant([0.5, -2.0]),
    "history": tf.constant([[1, 3], [0, 0]], tf.int64),
}


def built() -> FactorizationMachine:
    model = FactorizationMachine(CONFIG, ENCODINGS, CATALOGUE)
    model.query_embeddings(QUERY)
    model.item_embeddings(all_items())
    random = np.random.default_rng(4)
    for variable in model.trainable_variables:
        variable.assign(random.normal(size=variable.shape))
    return model


def all_items() -> dict[str, tf.Tensor]:
    columns = {key: tf.constant(column) for key, column in CATALOGUE.columns.items()}
    return {**columns, features.CANDIDATE_INDEX: tf.range(3, dtype=tf.int64)}


def test_dot_products_by_hand() -> None:
    model = built()
    item, price, genres = (model.item_vectors.encoder.tables["item"], model.item_vectors.numbers["price"],
                           model.item_vectors.encoder.tables["genres"])  # fmt: skip
    item.set_weights([np.array([[9, 9], [1, 2], [0, 1], [0, 0], [9, 9]])])
    price.assign([1, 0])
    genres.set_weights([np.array([[9, 9], [2, 0], [0, 4], [1, 1]])])
    weights = model.item_weights
    weights.encoder.tables["item"].set_weights([np.array([[9], [0.5], [0], [0], [9]])])
    weights.numbers["price"].assign([0.25])
    weights.encoder.tables["genres"].set_weights([np.array([[9], [3], [1], [0]])])
    made = model.item_embeddings(all_items()).numpy()
    # Item 1: [1, 2]; price 2 x [1, 0] = [2, 0]; genres 1 and 2, mean [1, 2]. Sum [4, 4].
    # Pairs: [1,2].[2,0] = 2, [1,2].[1,2] = 5, [2,0].[1,2] = 2: 9. Weights: .5 + 2 x .25 + (3 + 1) / 2 = 3. 12 in all.
    # Item 2: [0, 1]; [.5, 0]; [1, 1]. Sum [1.5, 2]. Pairs 0 + 1 + .5; weights 0 + .125 + 0.
    # Item 3: [0, 0]; [-1, 0]; no genre: [0, 0]. Pairs 0; weights -.25.
    np.testing.assert_allclose(made, [[4, 4, 12], [1.5, 2, 1.625], [-1, 0, -0.25]], atol=1e-6)


def test_the_dot_product_is_the_formula_but_for_terms_of_the_query_alone() -> None:
    model = built()

    def xv(fields: object, key: str, value: object) -> tuple[np.ndarray, ...]:
        """x v of one column, from the tables."""
        if key in fields.numbers:
            return value * fields.numbers[key].numpy()
        present = [i for i in np.atleast_1d(value) if i > 0]
        rows = fields.encoder.tables[key].embeddings.numpy()[present]
        return rows.mean(axis=0) if present else np.zeros(rows.shape[1])

    for u in range(2):
        own = [xv(model.query_vectors, key, QUERY[key][u].numpy()) for key in ("user", "age", "history")]
        of_the_query = sum(a @ b for a, b in itertools.combinations(own, 2))
        for v in range(3):
            item = [xv(model.item_vectors, key, CATALOGUE.columns[key][v]) for key in CATALOGUE.columns]
            linear = sum(xv(model.item_weights, key, CATALOGUE.columns[key][v])[0] for key in CATALOGUE.columns)
            formula = linear + sum(a @ b for a, b in itertools.combinations(own + item, 2))
            dot = model.query_embeddings(QUERY).numpy()[u] @ model.item_embeddings(all_items()).numpy()[v]
            assert dot == pytest.approx(formula - of_the_query, rel=1e-5)


def test_every_vector_of_the_batch_has_a_gradient() -> None:
    model = FactorizationMachine(CONFIG, ENCODINGS, CATALOGUE)
    batch = {
        **QUERY,
        features.CANDIDATE_INDEX: tf.constant([0, 1], tf.int64),
        features.NEGATIVE_INDICES: tf.constant([[1], [0]], tf.int64),
        features.NEGATIVE_LOG_Q: tf.fill([2, 1], -1.1),
        features.HARD_NEGATIVE_INDICES: tf.zeros([2, 0], tf.int64),
    }
    with tf.GradientTape() as tape:
        loss = model.compute_loss(batch, training=True)
    gradients = tape.gradient(loss, model.trainable_variables)
    # Two tables and a number a side, and the item's three weights.
    assert len(gradients) == 9
    assert all(np.abs(tf.convert_to_tensor(g)).sum() > 0 for g in gradients)


def test_there_must_be_room_for_the_bias() -> None:
    with pytest.raises(ValueError, match="output_dim is 1: factorization_machine needs 2 at least"):
        ModelConfig(kind="factorization_machine", output_dim=1)
