from __future__ import annotations

import dataclasses
import json
import logging
from pathlib import Path

import numpy as np
import pytest
import tensorflow as tf

from models import features, warm_start
from models.config import MODELS, FeatureSpec, ModelConfig
from models.optimizer import LazyAdam
from models.registry import build_model, model_class
from models.retrieval_model import RetrievalModel
from tests.unit.models import helpers

SPEC = FeatureSpec(
    query_id="user",
    item_id="item",
    timestamp="time",
    category="genres",
    features=[
        {"name": "user", "kind": "id", "side": "query"},
        {"name": "history", "kind": "history", "side": "query", "max_values": 2},
        {"name": "item", "kind": "id", "side": "item"},
        {"name": "genres", "kind": "multi_categorical", "side": "item"},
    ],
)
KINDS = [kind for kind in MODELS if model_class(kind).learns_by_gradient]
# Most frequent first, so the same ids stand elsewhere a span later; b and d are gone, x is new.
OLD_ITEMS, NEW_ITEMS = [b"a", b"b", b"c", b"d"], [b"c", b"x", b"a", b"y"]
OLD_USERS, NEW_USERS = [b"u", b"v", b"w"], [b"w", b"z", b"u"]
GENRES, NEW_GENRES = [b"drama", b"comedy"], [b"comedy", b"horror"]


class Graph:
    """What is needed of a tft.TFTransformOutput."""

    def __init__(self, items: list[bytes], users: list[bytes], genres: list[bytes] = GENRES) -> None:
        self._ids = {
            features.ITEM_VOCABULARY: items,
            features.QUERY_VOCABULARY: users,
            "genres_values": genres,
        }

    def vocabulary_by_name(self, name: str) -> list[bytes]:
        return self._ids[name]


def config(kind: str, **changes: object) -> ModelConfig:
    return ModelConfig(
        kind=kind, embedding_dim=4, augmented_dim=4, output_dim=4 if kind != "factorization_machine" else 5,
        hidden_units=(8,), objective="in_batch_softmax", share_item_embedding=True, **changes,
    )  # fmt: skip


def built(model_config: ModelConfig, seed: int) -> tuple[RetrievalModel, LazyAdam]:
    tf.keras.utils.set_random_seed(seed)
    encodings = helpers.small_encodings()
    shared = [dataclasses.replace(e, table="item") if e.key == "history" else e for e in encodings.query]
    model = build_model(model_config, dataclasses.replace(encodings, query=tuple(shared)), helpers.small_catalogue())
    model.compute_loss(helpers.small_batch())
    optimizer = LazyAdam(0.1, jit_compile=False)
    optimizer.build(model.trainable_variables)
    return model, optimizer


def step(model: RetrievalModel, optimizer: LazyAdam) -> None:
    with tf.GradientTape() as tape:
        loss = model.compute_loss(helpers.small_batch())
    optimizer.apply_gradients(
        (g, v)
        for g, v in zip(tape.gradient(loss, model.trainable_variables), model.trainable_variables, strict=True)
        if g is not None
    )


def saved(model: RetrievalModel, optimizer: LazyAdam, folder: Path) -> str:
    """Writes the state; returns where the SavedModel would be."""
    warm_start.save_state(model, optimizer, Graph(OLD_ITEMS, OLD_USERS), SPEC, model.config, str(folder / "warm_start"))  # type: ignore[arg-type]
    (folder / "Format-Serving").mkdir(parents=True)
    return str(folder / "Format-Serving")


def test_rows_follow_their_ids() -> None:
    old = np.array([[0.0], [1.0], [2.0], [3.0], [9.0]])  # padding, a, b, c, unknown
    new = np.array([[10.0], [20.0], [30.0], [40.0]])
    aligned = warm_start.align_rows(old, [b"a", b"b", b"c"], [b"c", b"x", b"a", b"y"], new)
    assert aligned.ravel().tolist() == [0.0, 3.0, 20.0, 1.0, 40.0, 9.0]


def test_new_rows_may_all_be_one() -> None:
    old = np.array([[0.0], [1.0], [9.0]])
    aligned = warm_start.align_rows(old, [b"a"], [b"x", b"a", b"y"], old[-1:])
    assert aligned.ravel().tolist() == [0.0, 9.0, 1.0, 9.0, 9.0]


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("unknown_rate", [0.0, 0.1])
def test_every_table_and_its_slots_are_aligned_by_id_and_the_rest_is_copied(
    kind: str, unknown_rate: float, tmp_path: Path
) -> None:
    model_config = config(kind, unknown_rate=unknown_rate)
    old, old_optimizer = built(model_config, 1)
    step(old, old_optimizer)
    base = warm_start.find_start(saved(old, old_optimizer, tmp_path), SPEC, model_config).base
    assert base is not None
    new, optimizer = built(model_config, 2)
    untouched = [variable.numpy() for variable in new.trainable_variables]
    base.apply(new, optimizer, Graph(NEW_ITEMS, NEW_USERS, NEW_GENRES), keep_optimizer=True)  # type: ignore[arg-type]

    # Rows of the new table, by hand: 0 padding, then the ids; -1: a new id.
    rows = {
        features.ITEM_VOCABULARY: [0, 3, -1, 1, -1, 5],  # c x a y
        features.QUERY_VOCABULARY: [0, 3, -1, 1, 4],  # w z u
        "genres_values": [0, 2, -1, 3],  # comedy horror
    }
    names = warm_start.table_vocabularies(new, SPEC)
    assert features.ITEM_VOCABULARY in names
    for place, name in enumerate(names):
        before, after = old.trainable_variables[place], new.trainable_variables[place]
        slots = zip(old_optimizer.slots(before), optimizer.slots(after), strict=True)
        if not name:
            np.testing.assert_array_equal(after, before)
            for slot_before, slot_after in slots:
                np.testing.assert_array_equal(slot_after, slot_before)
            continue
        for row, source in enumerate(rows[name]):
            # unknown_rate trains the rows of unknown items and queries, no others.
            trained = unknown_rate and name != "genres_values"
            unseen = before[-1] if trained else untouched[place][row]
            np.testing.assert_array_equal(after[row], unseen if source < 0 else before[source], err_msg=f"{name} {row}")
        for slot_before, slot_after in slots:
            for row, source in enumerate(rows[name]):
                expected = np.zeros_like(slot_after[row]) if source < 0 else slot_before[source]
                np.testing.assert_array_equal(slot_after[row], expected)
    assert int(optimizer.iterations) == 1


def test_which_items_the_earlier_model_knew(tmp_path: Path) -> None:
    old, optimizer = built(config("dat"), 1)
    base = warm_start.find_start(saved(old, optimizer, tmp_path), SPEC, config("dat")).base
    assert base is not None
    graph = Graph(NEW_ITEMS, NEW_USERS)
    assert base.knows_items(graph).tolist() == [True, False, True, False]  # type: ignore[arg-type]  # c x a y
    # Embedded as unknown: all rows of x are those of unknown items. One table alone does not say so of c.
    tables = [
        variable
        for variable, name in zip(old.trainable_variables, base.vocabularies, strict=True)
        if name == features.ITEM_VOCABULARY
    ]
    assert len(tables) > 1
    for table in tables:
        table.scatter_update(tf.IndexedSlices(table[-1:], [1 + OLD_ITEMS.index(b"a")]))
    tables[0].scatter_update(tf.IndexedSlices(tables[0][-1:], [1 + OLD_ITEMS.index(b"c")]))
    again = warm_start.find_start(saved(old, optimizer, tmp_path / "again"), SPEC, config("dat")).base
    assert again is not None
    assert again.knows_items(graph).tolist() == [True, False, False, False]  # type: ignore[arg-type]
    without_a_table = dataclasses.replace(base, vocabularies=("", "genres_values"))
    assert without_a_table.knows_items(graph).tolist() == [False] * 4  # type: ignore[arg-type]


def test_the_optimizer_can_start_anew(tmp_path: Path) -> None:
    old, old_optimizer = built(config("dat"), 1)
    step(old, old_optimizer)
    base = warm_start.find_start(saved(old, old_optimizer, tmp_path), SPEC, config("dat")).base
    assert base is not None
    new, optimizer = built(config("dat"), 2)
    base.apply(new, optimizer, Graph(OLD_ITEMS, OLD_USERS), keep_optimizer=False)  # type: ignore[arg-type]
    assert int(optimizer.iterations) == 0
    for before, after in zip(old.trainable_variables, new.trainable_variables, strict=True):
        np.testing.assert_array_equal(after, before)
        assert not any(slot.numpy().any() for slot in optimizer.slots(after))


def test_a_changed_model_or_feature_starts_cold_and_says_so(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, logger="retrieval.progress")
    old, optimizer = built(config("dat"), 1)
    place = saved(old, optimizer, tmp_path)
    fewer = SPEC.model_copy(update={"features": SPEC.features[:3]})
    other = tmp_path / "other" / "Format-Serving"
    other.mkdir(parents=True)
    starts = [
        warm_start.find_start(place, SPEC, config("dat", temperature=0.5)),
        warm_start.find_start(place, fewer, config("dat")),
        warm_start.find_start(str(other), SPEC, config("dat")),
        warm_start.find_start(str(tmp_path / "gone" / "Format-Serving"), SPEC, config("dat")),
        warm_start.find_start(None, SPEC, config("dat")),
    ]
    assert [start.base for start in starts] == [None] * 5
    reasons = [
        "model changed since the earlier model: temperature",
        "features changed since the earlier model: features",
        f"the earlier model has no {tmp_path}/other/warm_start/state.json: it was trained without train.warm_start",
        f"the earlier model's folder {tmp_path}/gone/Format-Serving is gone",
        "there is no earlier model to go on from, or it is not wanted for this span",
    ]
    assert [start.cold for start in starts] == reasons
    assert caplog.messages == [f"cold start: {reason}" for reason in reasons]


def test_keys_that_came_later_count_as_their_defaults(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, logger="retrieval.progress")
    old, optimizer = built(config("dat"), 1)
    place = saved(old, optimizer, tmp_path)
    file = Path(warm_start.state_folder(place)) / warm_start.STATE
    state = json.loads(file.read_text())
    del state["model"]["mimic"]["start"], state["model"]["category_balance"], state["features"]["features"][0]["max"]
    file.write_text(json.dumps(state))
    assert warm_start.find_start(place, SPEC, config("dat")).base is not None
    assert warm_start.find_start(place, SPEC, config("dat", mimic={"start": 0.5})).base is None
    state["model"]["gone"] = 1
    file.write_text(json.dumps(state))
    assert warm_start.find_start(place, SPEC, config("dat")).base is None
    told = caplog.records[-1].getMessage()
    assert told.endswith("model changed since the earlier model: category_balance, gone, mimic")


def test_how_training_began_is_written_beside_the_model(tmp_path: Path) -> None:
    old, optimizer = built(config("dat"), 1)
    place = saved(old, optimizer, tmp_path)
    warm_start.find_start(place, SPEC, config("dat")).write(place)
    assert json.loads((tmp_path / "start.json").read_text()) == {
        "base_model": str(tmp_path / "warm_start"),
        "cold": "",
    }
    warm_start.Start(None, "the reason").write(place)
    assert json.loads((tmp_path / "start.json").read_text()) == {"base_model": None, "cold": "the reason"}


def test_a_table_that_nobody_declares_is_an_error() -> None:
    model, _ = built(config("dat"), 1)
    model.forgotten = tf.keras.layers.Embedding(5, 2, name="forgotten")
    model.forgotten.build(None)
    with pytest.raises(ValueError, match="the table 'forgotten' is in no FeatureEncoder"):
        warm_start.table_vocabularies(model, SPEC)
