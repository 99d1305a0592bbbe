from __future__ import annotations

import logging
import shutil
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest

from models.lite import COLUMNS, TOWER
from serving.query_inputs import read_stored
from serving.retriever import load_release
from serving.tower import Tower
from tests.unit.serving import tiny
from tests.unit.serving.tiny_lite import add_lite

STORED = {query_id.decode(): read_stored(stored.SerializeToString()) for query_id, stored in tiny.QUERIES}
QUERIES = [("", None), *STORED.items()]


@pytest.fixture(scope="module")
def with_lite(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return add_lite(tiny.save_model(tmp_path_factory.mktemp("lite") / "m"))


def without_signature(tower: Tower, monkeypatch: pytest.MonkeyPatch) -> Tower:
    """A tower whose signature fails, so that only TensorFlow Lite can have answered."""

    def fail(**inputs: object) -> None:
        raise AssertionError("the signature was called")

    monkeypatch.setattr(tower, "_embed", fail)
    return tower

    tower = Tower(with_lite, tiny.SPEC)
    assert tower.use_lite(QUERIES)
    return without_signature(tower, monkeypatch)


@pytest.fixture
def tower(with_lite: Path, monkeypatch: pytest.MonkeyPatch) -> Tower:
    tower = Tower(with_lite, tiny.SPEC)
    assert tower.use_lite(QUERIES)
    return without_signature(tower, monkeypatch)


@pytest.mark.parametrize(
    ("query_id", "features", "expected"),
    [
        ("alice", {"time": [1005]}, [100, 0, 0, 5]),
        ("nobody", {"time": [-1], "w": [2]}, [2, 0, 0, -1]),
        ("", {"time": [], "w": [float("nan")]}, [0, 0, 0, -1]),
        ("", {"time": [0], "history": ["a", "x", "i1"], "tags": ["a", "b", "c", "d"]}, [0, 3, 2, 0]),
        ("", {"time": [0], "history": ["a", "", "x"], "tags": ["", "é", ""]}, [0, 1, 1, 0]),
    ],
)
def test_numbers_of_the_signature(tower: Tower, query_id: str, features: dict, expected: list[float]) -> None:
    embedding = tower.embed(query_id, None, features)
    assert embedding.dtype == np.float32
    assert embedding.tolist() == expected


def test_stored_values(tower: Tower) -> None:
    stored = STORED["bob"]
    assert tower.embed("bob", stored, {"time": [7]}).tolist() == [0, 2, 0, 7]


def test_bad_features_are_refused_as_ever(tower: Tower) -> None:
    with pytest.raises(ValueError, match="feature 'w' must be given as floats, got str '1'"):
        tower.embed("", None, {"w": ["1"]})


def test_threads_do_not_mix_their_answers(tower: Tower) -> None:
    def ask(number: int) -> bool:
        asked = {"w": [float(number)], "time": [number], "tags": ["x"] * (number % 4)}
        return tower.embed("", None, asked).tolist() == [number, number % 4, 0, number % 1000]

    with ThreadPoolExecutor(8) as pool:
        assert all(pool.map(ask, range(4000)))


def test_a_release_answers_with_it(with_lite: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    version = tiny.publish(tmp_path / "r", with_lite, tmp_path / "index")
    retriever = load_release(tmp_path / "r" / str(version))
    without_signature(retriever.tower, monkeypatch)
    answer = retriever.recommend(query_id="", features={"w": [1.0]}, k=2)
    assert [(hit.item_id, hit.score) for hit in answer.hits] == [(b"i5", 5.0), (b"i4", 4.0)]


def test_without_one_the_signature_answers(model: Path, caplog: pytest.LogCaptureFixture) -> None:
    tower = Tower(model, tiny.SPEC)
    with caplog.at_level(logging.INFO, logger="serving.tower"):
        assert not tower.use_lite(QUERIES)
    assert "has no TensorFlow Lite model: its signature embeds the queries" in caplog.text
    assert tower.embed("alice", None, {"time": []}).tolist() == [100, 0, 0, -1]


def test_one_that_differs_is_not_used(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    folder = add_lite(tiny.save_model(tmp_path / "m"), offset=2e-4)
    tower = Tower(folder, tiny.SPEC)
    stored = {"time": [1]}
    assert not tower.use_lite([("", stored)])
    assert "the TensorFlow Lite model is not used, it differs by 2.0e-04 from the signature" in caplog.text
    assert tower.embed("alice", None, {"time": []}).tolist() == [100, 0, 0, -1]


@pytest.mark.parametrize(
    ("file", "content"),
    [
        (f"assets.extra/{TOWER}", b""),
        (f"assets.extra/{TOWER}", b"\0\0\0\0TFL3 and no more"),
        (f"assets.extra/{COLUMNS}", None),
        (f"assets.extra/{COLUMNS}", b'{"columns": []}'),
        ("assets/words", None),
    ],
)
def test_a_damaged_one_is_not_used(
    with_lite: Path, tmp_path: Path, file: str, content: bytes | None, caplog: pytest.LogCaptureFixture
) -> None:
    shutil.copytree(with_lite, tmp_path / "m")
    (tmp_path / "m" / file).unlink()
    if content is not None:
        (tmp_path / "m" / file).write_bytes(content)
    tower = Tower(tmp_path / "m", tiny.SPEC)
    assert not tower.use_lite(QUERIES)
    assert "the TensorFlow Lite model does not work, it is not used" in caplog.text
    assert tower.embed("alice", None, {"time": []}).tolist() == [100, 0, 0, -1]
