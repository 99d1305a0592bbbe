from __future__ import annotations

import math
from pathlib import Path

import pytest
from pydantic import ValidationError

from models.columns import Buckets, Columns, ColumnsConfig, Lookup, Moment, Period, ZScore

CONFIG = ColumnsConfig(
    columns=(
        Lookup(key="index", feature="user", file="users", missing=4),
        Lookup(key="history", feature="history", file="items", width=3),
        Buckets(key="age", feature="age", boundaries=(10.0, 20.0, 20.0)),
        ZScore(key="price", feature="price", mean=3.0, deviation=2.0, limit=10.0),
        Moment(key="hour", feature="time", unit=3600, shift=0, period=24),
        Moment(key="weekday", feature="time", unit=86400, shift=3, period=7),
        Period(key="period", feature="time", starts=(1000, 2000), missing=3),
    )
)
NOTHING = {"user": [], "history": [], "age": [], "price": [], "time": []}


@pytest.fixture
def columns(tmp_path: Path) -> Columns:
    (tmp_path / "users").write_bytes("ann\nzoë\n ann\n".encode())
    (tmp_path / "items").write_bytes(b"i7\ni1\n")
    return Columns(CONFIG, tmp_path)


def test_nothing_given(columns: Columns) -> None:
    made = columns(NOTHING)
    assert {key: value.tolist() for key, value in made.items()} == {
        "index": [4], "history": [[0, 0, 0]], "age": [0], "price": [0.0], "hour": [0], "weekday": [0],
        "period": [3],
    }  # fmt: skip
    assert {key: value.dtype.name for key, value in made.items()} == {
        "index": "int64", "history": "int64", "age": "int64", "price": "float32", "hour": "int64", "weekday": "int64",
        "period": "int64",
    }  # fmt: skip


@pytest.mark.parametrize(
    ("feature", "values", "key", "expected"),
    [
        ("user", [b"ann"], "index", 1),
        ("user", ["zoë".encode()], "index", 2),
        ("user", [b" ann"], "index", 3),
        ("user", [b"nobody"], "index", 4),
        ("user", [b""], "index", 4),
        ("history", [b"i1", b"", b"new", b"i7"], "history", [2, 3, 1]),
        ("history", [b"i1"], "history", [2, 0, 0]),
        ("age", [9.9], "age", 1),
        ("age", [10], "age", 2),
        ("age", [20.0], "age", 4),  # two boundaries at one place: nothing is in bucket 3
        ("age", [math.nan], "age", 0),
        ("age", [-math.inf], "age", 0),
        ("age", [1e39], "age", 0),  # infinite as a float32
        ("time", [999], "period", 1),
        ("time", [1000], "period", 2),
        ("time", [2000], "period", 3),
        ("time", [-1], "period", 3),  # a moment that is not given is the present
        ("price", [4], "price", 0.5),
        ("price", [3e38], "price", 10.0),
        ("price", [-17.5], "price", -10.0),
        ("price", [math.nan], "price", 0.0),
        ("time", [3 * 86400 + 5 * 3600], "hour", 6),  # Sunday, 5 o'clock
        ("time", [3 * 86400 + 5 * 3600], "weekday", 7),
        ("time", [-2], "hour", 24),  # the last second but one of a Wednesday
        ("time", [-2], "weekday", 3),
        ("time", [-1], "hour", 0),
    ],
)
def test_values(columns: Columns, feature: str, values: list, key: str, expected: object) -> None:
    assert columns({**NOTHING, feature: values})[key].tolist() == [expected]


def test_config_survives_its_file() -> None:
    assert ColumnsConfig.model_validate_json(CONFIG.model_dump_json()) == CONFIG


def test_unknown_kind_is_refused() -> None:
    with pytest.raises(ValidationError, match="does not match any of the expected tags"):
        ColumnsConfig.model_validate_json('{"columns": [{"kind": "hashed", "key": "a", "feature": "a"}]}')


def test_missing_vocabulary(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match="items"):
        Columns(CONFIG, tmp_path)
