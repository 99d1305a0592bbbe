"""DSSM, YouTubeDNN and MIND of deepmatch 0.3.2 (github.com/shenweichen/DeepMatch), as its own examples use them."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import tensorflow as tf
from deepctr.feature_column import SparseFeat, VarLenSparseFeat
from deepmatch.models import DSSM, MIND, YoutubeDNN
from deepmatch.utils import NegativeSampler, sampledsoftmaxloss

from benchmarks.peers.choosing import BATCH_SIZE, EPOCHS, SEED, Peer, Setting, run
from benchmarks.peers.data import HISTORY, Exchange, Rows, histories_before, histories_of_all
from benchmarks.peers.ranking import Score

# deepmatch's lambda layers hold graph tensors: its examples do the same.
tf.compat.v1.disable_eager_execution()

_DIM = 32
_HIDDEN = (64, _DIM)


def _user_inputs(queries: np.ndarray, history: np.ndarray, length: np.ndarray) -> dict[str, np.ndarray]:
    # Index 0 is a query without a train row: its id would be an untrained vector.
    return {
        "user_id": np.where(length > 0, queries + 1, 0),
        "hist_item_id": history,
        "hist_len": length,
    }


def _fit(
    build: Callable[[list[Any], list[Any], NegativeSampler, Setting], tf.keras.Model],
    sampler: str,
    exchange: Exchange,
    rows: Rows,
    setting: Setting,
) -> Iterator[Score]:
    tf.compat.v1.keras.backend.clear_session()
    tf.compat.v1.set_random_seed(SEED)
    np.random.seed(SEED)  # Keras shuffles with it
    vocabulary = exchange.items + 1
    user_columns = [
        SparseFeat("user_id", exchange.queries + 1, _DIM),
        VarLenSparseFeat(
            SparseFeat("hist_item_id", vocabulary, _DIM, embedding_name="item_id"), HISTORY, "mean", "hist_len"
        ),
    ]
    item_columns = [SparseFeat("item_id", vocabulary, _DIM)]
    items = {"item_id": np.arange(vocabulary)}
    if build is _dssm:
        item_columns.append(SparseFeat("category", int(exchange.category.max()) + 1, _DIM))
        items["category"] = np.append(0, exchange.category)
    counts = np.maximum(np.bincount(rows.item + 1, minlength=vocabulary), 1)
    negatives = NegativeSampler(sampler, setting.get("negatives", 255), "item_id", counts)
    model = build(user_columns, item_columns, negatives, setting)
    model.compile(tf.keras.optimizers.legacy.Adam(setting["learning_rate"]), loss=sampledsoftmaxloss)
    user_model = tf.keras.Model(model.user_input, model.user_embedding)
    item_model = tf.keras.Model(model.item_input, model.item_embedding)

    history, length = histories_before(rows, exchange.queries)
    inputs = {
        "user_id": rows.query + 1,
        "hist_item_id": history,
        "hist_len": length,
        **{name: values[rows.item + 1] for name, values in items.items()},
    }
    last, last_length = histories_of_all(rows, exchange.queries)

    def score(queries: np.ndarray) -> np.ndarray:
        users = user_model.predict(
            _user_inputs(queries, last[queries], last_length[queries]), batch_size=len(queries), verbose=0
        )
        # MIND has several vectors a user: an item counts with the one it suits best.
        return (users.reshape(len(queries), -1, _DIM) @ vectors.T).max(axis=1)

    for _ in range(EPOCHS):
        model.fit(inputs, np.ones(len(rows)), batch_size=BATCH_SIZE, epochs=1, verbose=0, shuffle=True)
        vectors = item_model.predict(items, batch_size=vocabulary, verbose=0).reshape(vocabulary, _DIM)[1:]
        yield score


def _dssm(user: list[Any], item: list[Any], negatives: NegativeSampler, setting: Setting) -> tf.keras.Model:
    return DSSM(
        user, item, _HIDDEN, _HIDDEN, loss_type="softmax", temperature=setting["temperature"], sampler_config=negatives
    )


def _youtube_dnn(user: list[Any], item: list[Any], negatives: NegativeSampler, setting: Setting) -> tf.keras.Model:
    return YoutubeDNN(user, item, _HIDDEN, temperature=setting["temperature"], sampler_config=negatives)


def _mind(user: list[Any], item: list[Any], negatives: NegativeSampler, setting: Setting) -> tf.keras.Model:
    return MIND(user, item, k_max=2, user_dnn_hidden_units=_HIDDEN, sampler_config=negatives)


def _peer(build: Callable[..., tf.keras.Model], sampler: str, other: str, values: tuple[float, float]) -> Peer:
    return Peer(
        [{"learning_rate": rate, other: value} for rate, value in itertools.product((0.001, 0.005), values)],
        lambda exchange, rows, setting: _fit(build, sampler, exchange, rows, setting),
    )


PEERS = {
    "deepmatch_dssm": _peer(_dssm, "inbatch", "temperature", (0.05, 0.2)),
    "deepmatch_youtubednn": _peer(_youtube_dnn, "frequency", "temperature", (0.05, 0.2)),
    # Its MIND has no temperature.
    "deepmatch_mind": _peer(_mind, "frequency", "negatives", (20, 255)),
}

if __name__ == "__main__":
    run(PEERS)
