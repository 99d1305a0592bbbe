from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tensorflow as tf
from tensorflow_serving.apis import prediction_log_pb2

from models import data, export, features
from models.config import MODELS, FeatureSpec, ModelConfig, TrainConfig
from models.registry import build_model
from models.retrieval_model import RetrievalModel
from serving.index_builder import build_index
from serving.release import folder_fingerprint, write_release
from serving.retriever import load_release
from tests.unit.models import helpers
from tests.unit.models.toy import SPEC, Toy

pytestmark = pytest.mark.slow

MODEL = ModelConfig(last_activation="linear", share_item_embedding=True, hidden_units=(16,))
KINDS = sorted(MODELS)
UNIT_LENGTH = ("dat", "two_tower", "youtube_dnn")

# A process without this project's packages: nothing but TensorFlow may be needed.
LOAD = """
import sys, numpy as np, tensorflow as tf
loaded = tf.saved_model.load(sys.argv[1])
made = loaded.signatures["serving_default"](
    user=tf.constant(["u1", "nobody", ""]), history=tf.constant([["i1", "i9"], ["nothing", ""], ["", ""]]),
    age=tf.constant([21.0, 1e38, float("nan")]), about=tf.constant(["Über uns", "\\u4f60\\u597d \\xdf!", ""]),
    time=tf.constant([3600, -1, 2**40], tf.int64))["embedding"].numpy()
assert not [m for m in sys.modules if m.split(".")[0] in
            ("tensorflow_transform", "tensorflow_recommenders", "tfx", "tfx_bsl", "models", "tf_keras")], sys.modules
np.save(sys.argv[2], made)
"""


@pytest.fixture(scope="module", params=["dat"])
def config(request: pytest.FixtureRequest) -> ModelConfig:
    return MODEL.model_copy(update={"kind": request.param})


@pytest.fixture(scope="module")
def model(toy: Toy, config: ModelConfig) -> RetrievalModel:
    tf.keras.utils.set_random_seed(1)
    encodings = features.make_encodings(SPEC, config, toy.transform_output)
    negatives = {"sampling": "uniform", "alpha": 1.0}
    catalogue = data.load_catalogue([str(f) for f in toy.items.iterdir()], encodings, negatives)
    made = build_model(config, encodings, catalogue)
    train_files = [str(f) for f in toy.train.iterdir()]
    if not made.learns_by_gradient:
        made.solve(*data.training_pairs(train_files), seed=1)
        return made
    batches = data.training_batches(train_files, encodings, 3, 50, 1)
    made.compile(optimizer="adam", jit_compile=False)
    made.fit(batches, verbose=0)
    return made


@pytest.fixture(scope="module")
def exported(toy: Toy, model: RetrievalModel, config: ModelConfig, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("model") / "Format-Serving"
    export.export_model(model, toy.transform_output, SPEC, config, TrainConfig(), str(folder))
    return folder


@pytest.fixture(scope="module")
def loaded(exported: Path) -> Any:
    return tf.saved_model.load(str(exported))


def serving_inputs(rows: list[helpers.Row]) -> dict[str, tf.Tensor]:
    longest = max(len(row.get("history", [])) for row in rows)
    return {
        "user": tf.constant([row["user"][0] for row in rows]),
        "history": tf.constant([row["history"] + [""] * (longest - len(row["history"])) for row in rows], tf.string),
        "age": tf.constant([row.get("age", [np.nan])[0] for row in rows], tf.float32),
        "about": tf.constant([row.get("about", [""])[0] for row in rows]),
        "time": tf.constant([row["time"][0] for row in rows], tf.int64),
    }


@pytest.mark.parametrize("config", KINDS, indirect=True, scope="module")
def test_all_ways_to_a_query_embedding_agree(toy: Toy, model: RetrievalModel, loaded: Any) -> None:
    # Known queries, and two that are not: the one with a history, the other with nothing.
    rows = [*toy.raw_train, {**toy.raw_held_out[0], "user": ["new"]}, {"user": ["nobody"], "time": [0], "history": []}]
    by_tensors = loaded.signatures["serving_default"](**serving_inputs(rows))["embedding"].numpy()
    examples = tf.constant([helpers.example(row) for row in rows])
    by_examples = loaded.signatures["serialized_examples"](examples=examples)["embedding"].numpy()
    records = next(iter(tf.data.TFRecordDataset([str(f) for f in toy.train.iterdir()], "GZIP").batch(1000)))
    parsed = tf.io.parse_example(records, features.query_parse_spec(model.encodings))
    in_memory = model.query_embeddings(features.query_columns(parsed, model.encodings)).numpy()
    assert by_tensors.shape == ((302, 4, 32) if model.config.kind == "mind" else (302, 32))
    np.testing.assert_allclose(by_tensors, by_examples, atol=1e-6)
    np.testing.assert_allclose(by_tensors[:300], in_memory, atol=1e-6)
    assert np.isfinite(by_tensors).all()
    if model.config.kind in UNIT_LENGTH:
        np.testing.assert_allclose(np.linalg.norm(by_tensors, axis=-1), 1, atol=1e-5)
    one_by_one = [loaded.signatures["serving_default"](**serving_inputs([row]))["embedding"][0] for row in rows[:7]]
    np.testing.assert_allclose(one_by_one, by_tensors[:7], atol=1e-6)


@pytest.mark.parametrize("config", KINDS, indirect=True, scope="module")
def test_item_embeddings_are_the_ones_trained(toy: Toy, model: RetrievalModel, loaded: Any) -> None:
    examples = tf.constant([helpers.example(row) for row in toy.raw_items])
    made = loaded.signatures["item_examples"](examples=examples)["embedding"].numpy()
    records = next(iter(tf.data.TFRecordDataset([str(f) for f in toy.items.iterdir()], "GZIP").batch(1000)))
    parsed = tf.io.parse_example(records, features.item_parse_spec(model.encodings))
    in_memory = model.item_embeddings(features.item_columns(parsed, model.encodings)).numpy()
    np.testing.assert_allclose(made, in_memory, atol=1e-6)
    unknown = [helpers.example({}), helpers.example({"item": ["new"], "price": [float("nan")], "tags": ["", "x"]})]
    made = loaded.signatures["item_examples"](examples=tf.constant(unknown))["embedding"].numpy()
    assert np.isfinite(made).all()
    if model.config.kind in UNIT_LENGTH:
        np.testing.assert_allclose(np.linalg.norm(made, axis=1), 1, atol=1e-5)


@pytest.mark.parametrize("config", KINDS, indirect=True, scope="module")
def test_a_release_serves_the_trained_numbers(toy: Toy, model: RetrievalModel, exported: Path, tmp_path: Path) -> None:
    def columns(folder: Path, spec: Any, dense: Any) -> dict[str, tf.Tensor]:
        records = next(iter(tf.data.TFRecordDataset([str(f) for f in folder.iterdir()], "GZIP").batch(1000)))
        return dense(tf.io.parse_example(records, spec(model.encodings)), model.encodings)

    items = model.item_embeddings(columns(toy.items, features.item_parse_spec, features.item_columns)).numpy()
    queries = model.query_embeddings(columns(toy.train, features.query_parse_spec, features.query_columns)).numpy()
    ids = [row["item"][0] for row in toy.raw_items]
    order = sorted(range(len(ids)), key=ids.__getitem__)
    build_index(
        tmp_path / "index",
        embeddings=items[order],
        ids=[ids[i].encode() for i in order],
        attributes=[{}] * len(ids),
        model_fingerprint=folder_fingerprint(exported),
    )
    asked = 7  # u1's third row: two items of history
    known = [(b"u1", helpers.example(toy.raw_train[asked]))]
    root = tmp_path / "releases"
    version = write_release(
        root, model_name="toy", features=SPEC, model=exported, index=tmp_path / "index", queries=known
    )
    answer = load_release(root / str(version)).recommend(query_id="u1", features={}, k=12)
    scores = (queries[asked].reshape(-1, 32) @ items.T).max(axis=0)
    assert answer.known_query
    assert len(answer.hits) == 12
    for hit in answer.hits:
        assert hit.score == pytest.approx(scores[ids.index(hit.item_id.decode())], abs=1e-6, rel=1e-6)
    assert [hit.score for hit in answer.hits] == sorted((hit.score for hit in answer.hits), reverse=True)


@pytest.mark.parametrize("config", KINDS, indirect=True, scope="module")
def test_signatures_are_those_of_the_contract(config: ModelConfig, loaded: Any) -> None:
    assert set(loaded.signatures) == {"serving_default", "serialized_examples", "item_examples"}
    inputs = loaded.signatures["serving_default"].structured_input_signature[1]
    assert {key: (s.shape.as_list(), s.dtype) for key, s in inputs.items()} == {
        key: (s.shape.as_list(), s.dtype) for key, s in features.serving_signature(SPEC).items()
    }
    query = [None, 4, 32] if config.kind == "mind" else [None, 32]
    for name, signature in loaded.signatures.items():
        assert {key: s.dtype for key, s in signature.structured_outputs.items()} == {"embedding": tf.float32}
        shape = signature.structured_outputs["embedding"].shape.as_list()
        assert shape == ([None, 32] if name == "item_examples" else query)


def test_plain_tensorflow_loads_it_and_odd_requests_are_finite(exported: Path, tmp_path: Path) -> None:
    saved = tmp_path / "embeddings.npy"
    # -I keeps this project out of the path; the switch to Keras 2 would be inherited.
    environment = {key: value for key, value in os.environ.items() if key != "TF_USE_LEGACY_KERAS"}
    command = [sys.executable, "-I", "-c", LOAD, str(exported), str(saved)]
    subprocess.run(command, check=True, cwd=tmp_path, env=environment, timeout=300)
    made = np.load(saved)
    assert np.isfinite(made).all()
    np.testing.assert_allclose(np.linalg.norm(made, axis=1), 1, atol=1e-5)


def test_a_query_that_is_all_zero_before_normalisation(toy: Toy, tmp_path: Path) -> None:
    config = ModelConfig(kind="two_tower", hidden_units=())
    encodings = features.make_encodings(SPEC, config, toy.transform_output)
    negatives = {"sampling": "uniform", "alpha": 1.0}
    catalogue = data.load_catalogue([str(f) for f in toy.items.iterdir()], encodings, negatives)
    model = build_model(config, encodings, catalogue)
    batches = data.training_batches([str(f) for f in toy.train.iterdir()], encodings, 3, 50, 1)
    model.compute_loss(next(iter(batches)))
    model.query_tower.set_weights([np.zeros_like(w) for w in model.query_tower.get_weights()])
    export.export_model(model, toy.transform_output, SPEC, config, TrainConfig(), str(tmp_path / "model"))
    loaded = tf.saved_model.load(str(tmp_path / "model"))
    made = loaded.signatures["serving_default"](**serving_inputs(toy.raw_train[:2]))["embedding"]
    np.testing.assert_array_equal(made, np.zeros([2, 32]))


def test_warmup_requests_can_be_answered(exported: Path, loaded: Any) -> None:
    records = list(tf.data.TFRecordDataset(str(exported / "assets.extra" / "tf_serving_warmup_requests")))
    assert len(records) == 2
    for record, rows in zip(records, (1, 8), strict=True):
        request = prediction_log_pb2.PredictionLog.FromString(record.numpy()).predict_log.request
        assert request.model_spec.signature_name == "serving_default"
        tensors = {key: tf.constant(tf.make_ndarray(value)) for key, value in request.inputs.items()}
        made = loaded.signatures["serving_default"](**tensors)["embedding"].numpy()
        assert made.shape == (rows, 32)
        assert np.isfinite(made).all()


def test_the_resolved_config_lies_in_the_export(exported: Path) -> None:
    made = json.loads((exported / "assets.extra" / "model.json").read_text())
    assert FeatureSpec.model_validate(made["features"]) == SPEC
    assert ModelConfig.model_validate(made["model"]) == MODEL
    assert TrainConfig.model_validate(made["train"]) == TrainConfig()
