"""From weights to the answer: TensorFlow Lite gives what the trained model gives, for each kind of model."""

from __future__ import annotations

import logging
import shutil
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import pytest
import tensorflow as tf

from models import data, export, features, lite
from models.config import MODELS, FeatureSpec, ModelConfig, TrainConfig
from models.registry import build_model
from models.retrieval_model import RetrievalModel
from serving.index_builder import build_index
from serving.lite_tower import LiteTower
from serving.release import folder_fingerprint, write_release
from serving.retriever import load_release
from tests.unit.models import helpers
from tests.unit.models import toy as toy_data
from tests.unit.models.toy import Toy

pytestmark = pytest.mark.slow

# The toy's features less the text, and one of each further kind.
SPEC = FeatureSpec.model_validate(
    {
        **toy_data.SPEC.model_dump(),
        "features": [
            *(f.model_dump() for f in toy_data.SPEC.features if f.name != "about"),
            {"name": "income", "kind": "number", "side": "query", "buckets": 4},
            {"name": "likes", "kind": "multi_categorical", "side": "query", "max_values": 2},
            {"name": "moment", "kind": "timestamp", "side": "interaction", "column": "time", "buckets": 5},
            {"name": "town", "kind": "categorical", "side": "query", "min_count": 2},
        ],
    }
)
MODEL = ModelConfig(
    last_activation="linear", share_item_embedding=True, hidden_units=(16,),
    augmented={"query": "history", "to_output": True},
)  # fmt: skip
CONVERTIBLE = sorted(MODELS.keys() - {"matrix_factorization"})  # which solves a system of equations
INCOMES = [0.0, 1.5, 1.5, 1e4, 7.0]


def raw_train() -> list[helpers.Row]:
    rows, _ = toy_data.raw_interactions()
    for i, row in enumerate(rows):
        row.pop("about", None)
        row["income"] = [INCOMES[i % 5] + i // 100]
        row["moment"] = row["time"]
        row["likes"] = ["a", "b", "c"][: i % 4]
        row["town"] = [f"t{i % 250}"]  # fifty of them twice, the others once
    rows[0]["income"] = []
    rows[1]["moment"] = []
    return rows


@pytest.fixture(scope="module")
def data_set(tmp_path_factory: pytest.TempPathFactory) -> Toy:
    return toy_data.make(tmp_path_factory.mktemp("lite_toy"), SPEC, raw_train())


def build(data_set: Toy, kind: str) -> RetrievalModel:
    tf.keras.utils.set_random_seed(1)
    config = MODEL.model_copy(update={"kind": kind})
    encodings = features.make_encodings(SPEC, config, data_set.transform_output)
    negatives = {"sampling": "uniform", "alpha": 1.0}
    catalogue = data.load_catalogue([str(f) for f in data_set.items.iterdir()], encodings, negatives)
    model = build_model(config, encodings, catalogue)
    batches = data.training_batches([str(f) for f in data_set.train.iterdir()], encodings, 3, 50, 1)
    model.compute_loss(next(iter(batches)))
    return model


def expected_embeddings(data_set: Toy, model: RetrievalModel) -> np.ndarray:
    """Of the train rows, from what Transform wrote, without any export."""
    records = next(iter(tf.data.TFRecordDataset([str(f) for f in data_set.train.iterdir()], "GZIP").batch(1000)))
    parsed = tf.io.parse_example(records, features.query_parse_spec(model.encodings))
    return model.query_embeddings(features.query_columns(parsed, model.encodings)).numpy()


def values(row: helpers.Row) -> dict[str, list]:
    made = {f.name: row.get(f.name, [])[-3:] for f in SPEC.query_features}
    made["likes"] = made["likes"][:2]
    return {name: [v.encode() if isinstance(v, str) else v for v in given] for name, given in made.items()}


@pytest.mark.parametrize("kind", CONVERTIBLE)
def test_the_numbers_of_the_model(kind: str, data_set: Toy, tmp_path: Path) -> None:
    model = build(data_set, kind)
    (tmp_path / "assets.extra").mkdir()
    lite.export_lite(model, data_set.transform_output.transform_features_layer().call, SPEC, str(tmp_path))
    shutil.copytree(Path(data_set.graph) / "transform_fn" / "assets", tmp_path / "assets")
    tower = LiteTower(tmp_path)
    expected = expected_embeddings(data_set, model)
    made = np.stack([tower.embed(values(row)) for row in data_set.raw_train])
    assert made.shape == ((300, 4, 32) if kind == "mind" else (300, 32))
    np.testing.assert_allclose(made, expected, atol=1e-6)


def test_a_release_answers_with_it(data_set: Toy, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    model = build(data_set, "dat")
    folder = tmp_path / "model"
    export.export_model(model, data_set.transform_output, SPEC, model.config, TrainConfig(), str(folder))
    items = np.random.default_rng(1).normal(size=[12, 32]).astype(np.float32)
    build_index(
        tmp_path / "index",
        embeddings=items,
        ids=[f"{i:02}".encode() for i in range(12)],
        attributes=[{}] * 12,
        model_fingerprint=folder_fingerprint(folder),
    )
    rows = {row["user"][0].encode(): n for n, row in enumerate(data_set.raw_train)}
    known = [(query_id, helpers.example(data_set.raw_train[rows[query_id]])) for query_id in sorted(rows)]
    root = tmp_path / "releases"
    version = write_release(
        root, model_name="toy", features=SPEC, model=folder, index=tmp_path / "index", queries=known
    )
    retriever = load_release(root / str(version))
    monkeypatch.setattr(retriever.tower, "_embed", None)  # the signature: who calls it fails
    scores = expected_embeddings(data_set, model)[rows[b"u7"]] @ items.T
    answer = retriever.recommend(query_id="u7", features={}, k=12)
    assert [int(hit.item_id) for hit in answer.hits] == np.argsort(-scores).tolist()
    np.testing.assert_allclose([hit.score for hit in answer.hits], np.sort(scores)[::-1], atol=1e-5)


def test_what_is_recovered_of_numbers(data_set: Toy) -> None:
    model = build(data_set, "two_tower")
    transform = data_set.transform_output.transform_features_layer().call
    columns = {c.key: c for c in lite.query_columns(model, transform, SPEC).columns}
    ages = np.array([row["age"][0] for row in data_set.raw_train if row.get("age")])
    assert columns["age"].mean == pytest.approx(ages.mean(), abs=1e-5)
    assert columns["age"].deviation == pytest.approx(ages.std(), rel=1e-6)
    transformed = [1.0, 1.5, 2.0, 9.0, 1e4]
    buckets = transform(features.from_serving({"income": tf.constant(transformed)}))["income"].values.numpy()
    boundaries = np.array(columns["income"].boundaries)
    assert [1 + (boundaries <= x).sum() for x in transformed] == buckets.tolist()
    assert set(boundaries.tolist()) <= {x + i for x in INCOMES for i in range(3)}  # quantiles are values that occur


def test_a_tower_that_cannot_be_converted_is_left_out(
    data_set: Toy, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / "assets.extra").mkdir()
    transform = data_set.transform_output.transform_features_layer().call
    with caplog.at_level(logging.INFO, logger="retrieval.progress"):
        lite.export_lite(build(data_set, "matrix_factorization"), transform, SPEC, str(tmp_path))
    assert [record.getMessage() for record in caplog.records if record.name == "retrieval.progress"] == [
        "the query tower is served by the SavedModel alone: TensorFlow Lite lacks MatrixSolve"
    ]
    assert not list((tmp_path / "assets.extra").iterdir())


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"kind": "text"}, "feature 'town' is text"),
        ({"hash_buckets": 5, "min_count": 1}, "feature 'town' is hashed"),
    ],
)
def test_features_that_the_savedmodel_alone_knows(data_set: Toy, change: dict, message: str) -> None:
    changed = [{**f.model_dump(), **(change if f.name == "town" else {})} for f in SPEC.features]
    spec = FeatureSpec.model_validate({**SPEC.model_dump(), "features": changed})
    with pytest.raises(lite.NotConvertibleError, match=message):
        lite.query_columns(
            build(data_set, "two_tower"), data_set.transform_output.transform_features_layer().call, spec
        )


def test_a_number_that_is_the_same_everywhere(data_set: Toy) -> None:
    def transform(columns: Mapping[str, tf.SparseTensor]) -> dict[str, tf.SparseTensor]:
        return {name: tf.SparseTensor(c.indices, c.values * 0.0, c.dense_shape) for name, c in columns.items()}

    with pytest.raises(lite.NotConvertibleError, match="feature 'age' is the same everywhere"):
        lite.query_columns(build(data_set, "two_tower"), transform, SPEC)
