import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
import tensorflow as tf

from models.config import FeatureSpec
from serving.tower import Tower
from tests.unit.serving.tiny import SPEC, example

NOW = 1_700_000_123.9  # 123 is what the model makes of it


@pytest.fixture
def tower(model: Path, monkeypatch: pytest.MonkeyPatch) -> Tower:
    monkeypatch.setattr("serving.query_inputs.time.time", lambda: NOW)
    return Tower(model, SPEC)


def test_all_missing_but_the_time(tower: Tower) -> None:
    embedding = tower.embed("", None, {})
    assert embedding.dtype == np.float32
    assert embedding.tolist() == [0, 0, 0, 123]


def test_id_reaches_the_model(tower: Tower) -> None:
    assert tower.embed("alice", None, {}).tolist() == [100, 0, 0, 123]


def test_given_features(tower: Tower) -> None:
    features = {"w": [2.5], "tags": ["a", "b"], "history": [b"i1"], "time": [5007]}
    assert tower.embed("", None, features).tolist() == [2.5, 2, 1, 7]


def test_given_features_override_stored_ones(tower: Tower) -> None:
    stored = {"w": [1.5], "tags": [b"a"], "history": [b"i1", b"i2"], "time": [3]}
    assert tower.embed("", stored, {}).tolist() == [1.5, 1, 2, 3]
    assert tower.embed("", stored, {"tags": ["a", "b", "c"], "w": []}).tolist() == [0, 3, 2, 3]


def test_stored_missing_time_is_now(tower: Tower) -> None:
    assert tower.embed("", {}, {}).tolist()[3] == 123


def test_given_empty_time_is_missing(tower: Tower) -> None:
    assert tower.embed("", None, {"time": []}).tolist()[3] == -1


def test_integers_stand_for_floats(tower: Tower) -> None:
    assert tower.embed("", None, {"w": [3]}).tolist()[0] == 3


def test_history_keeps_the_last_and_tags_the_first(tower: Tower) -> None:
    assert tower.embed("", None, {"history": ["a", "", ""], "tags": ["a", "b", "c", "d"]}).tolist()[1:3] == [3, 0]


def test_queries_of_different_width_at_a_time_are_embedded_as_if_alone(
    tower: Tower, monkeypatch: pytest.MonkeyPatch
) -> None:
    histories = [["i1"] * (n % 3) for n in range(40)]
    signature, sizes = tower._embed, []

    def slow(**inputs: tf.Tensor) -> dict[str, tf.Tensor]:
        sizes.append(len(inputs["w"]))
        time.sleep(0.01)
        return signature(**inputs)

    monkeypatch.setattr(tower, "_embed", slow)
    with ThreadPoolExecutor(8) as pool:
        found = list(pool.map(lambda n: tower.embed("", None, {"w": [n], "history": histories[n]}).tolist(), range(40)))
    assert found == [[n, 0, n % 3, 123] for n in range(40)]
    assert max(sizes) > 1


@pytest.mark.parametrize(
    ("features", "message"),
    [
        ({"colour": ["red"]}, "feature 'colour' is not one of the query's, which are: history, tags, time, w"),
        ({"a": [1.0]}, "feature 'a' is not one of the query's"),  # the item's
        ({"user_id": ["alice"]}, "feature 'user_id' is not one"),
        ({"w": ["1"]}, "feature 'w' must be given as floats, got str '1'"),
        ({"tags": [1]}, "feature 'tags' must be given as strings, got int 1"),
        ({"time": [1.5]}, r"feature 'time' must be given as int64s, got float 1\.5"),
        ({"w": [1.0, 2.0]}, "feature 'w' takes one value, got 2"),
    ],
)
def test_bad_features(tower: Tower, features: dict[str, list], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        tower.embed("", None, features)


def test_predict_by_signature(tower: Tower) -> None:
    row = example(user_id=[b"alice"], w=[1.0], tags=[b"x"]).SerializeToString()
    outputs = tower.predict("serialized_examples", {"examples": np.array([row, row], dtype=object)})
    assert outputs["embedding"].tolist() == [[101, 1, 0, -1]] * 2


def test_model_with_other_inputs_is_refused(model: Path) -> None:
    fewer = FeatureSpec(**{**dict(SPEC), "features": tuple(f for f in SPEC.features if f.name != "w")})
    with pytest.raises(ValueError, match=r"the model's inputs are .*'w'.*, expected \['history', 'tags'"):
        Tower(model, fewer)


def test_model_without_the_signature_is_refused(tmp_path: Path) -> None:
    tf.saved_model.save(tf.Module(), str(tmp_path / "m"))
    with pytest.raises(ValueError, match="no signature 'serving_default'"):
        Tower(tmp_path / "m", SPEC)
