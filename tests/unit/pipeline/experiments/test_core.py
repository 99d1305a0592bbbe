from __future__ import annotations

from pathlib import Path

import pandas as pd
import pytest

from components.ingestion.config import DataConfig, SplitByLast, SplitByTime
from pipeline.experiments import core
from pipeline.experiments.core import Core, experiment_split, five_core, make_core
from pipeline.run import RunError


def _pairs(rows: list[tuple[str, str]]) -> pd.DataFrame:
    return pd.DataFrame(rows, columns=["user", "item"])


def test_a_user_that_falls_below_five_takes_its_item_along() -> None:
    """Users a-e choose items 1-5. f chooses 1-4 and 6; item 6 has g-j beside f, who have it alone."""
    full = [(user, item) for user in "abcde" for item in "12345"]
    chain = [("f", item) for item in "12346"] + [(user, "6") for user in "ghij"]
    # g-j go first (one item each), then item 6 (one user), then f (four items).
    assert sorted(five_core(_pairs(full + chain)).itertuples(index=False, name=None)) == sorted(full)


def test_nothing_is_left_of_a_sparse_set() -> None:
    assert five_core(_pairs([("a", "1"), ("b", "2")])).empty


def _data(folder: Path, rows: list[str]) -> DataConfig:
    (folder / "i.csv").write_text("user,item,at\n" + "".join(f"{row}\n" for row in rows))
    (folder / "items.csv").write_text("item,group\n" + "".join(f"{i},g\n" for i in "01234567"))
    interactions = {"files": str(folder / "i.csv"), "query_id": "user", "item_id": "item", "timestamp": "at"}
    items = {"files": str(folder / "items.csv"), "id": "item", "category": "group"}
    return DataConfig.model_validate({"interactions": interactions, "items": items, "split": {"by": "last"}})


# 25 pairs at seconds 0..24, and item 7, which has one user.
ROWS = [f"0{user},{item},{5 * user + item}" for user in range(5) for item in range(5)] + ["00,7,99"]


@pytest.mark.parametrize("rows", [[*ROWS, "00,0,50"], ["00,0,50", *ROWS]], ids=["after", "before"])
def test_the_core_on_disk_and_its_cuts(rows: list[str], tmp_path: Path) -> None:
    # The pair 00,0 comes again at second 50, in a row after all others or before them: it counts once, at second 0.
    made = make_core(_data(tmp_path, rows), tmp_path / "out")
    assert len((made.folder / "interactions.csv").read_text().splitlines()) == 1 + 25 + 1
    assert "00,0,0" in (made.folder / "interactions.csv").read_text()
    assert (made.folder / "items.csv").read_text() == "item,group\n0,g\n1,g\n2,g\n3,g\n4,g\n"
    # Of 25 seconds 0..24 the place int(0.8 * 25) = 20 and int(0.9 * 25) = 22.
    assert (made.eval_from, made.test_from) == (20, 22)


def test_two_may_make_the_same_core_at_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    data, write, made = _data(tmp_path, ROWS), core._write, []

    def write_while_another_does(data: DataConfig, folder: Path) -> dict[str, int]:
        if not made:
            made.append(1)
            made.append(make_core(data, tmp_path / "out"))
        return write(data, folder)

    monkeypatch.setattr(core, "_write", write_while_another_does)
    assert make_core(data, tmp_path / "out") == made[1]
    assert list((tmp_path / "out").iterdir()) == [made[1].folder]


def test_the_fingerprint_is_of_the_content_and_not_of_the_place(tmp_path: Path) -> None:
    def fingerprint(name: str, rows: list[str]) -> str:
        (tmp_path / name).mkdir()
        return make_core(_data(tmp_path / name, rows), tmp_path / name).fingerprint

    one = fingerprint("one", ROWS)
    assert fingerprint("same", ROWS) == one
    assert fingerprint("shorter", ROWS[:-1]) != one
    assert fingerprint("as_long", [*ROWS[:-1], "00,7,98"]) != one


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        (ROWS[:3], "its 5-core is empty"),
        ([*ROWS, "x,1,soon"], "column 'at' has a moment that cannot be read"),
        ([*ROWS, "x,1,"], "column 'at' lacks 1 values"),
    ],
)
def test_what_cannot_be_used(rows: list[str], message: str, tmp_path: Path) -> None:
    with pytest.raises(RunError, match=message):
        make_core(_data(tmp_path, rows), tmp_path / "out")


def test_missing_files_and_columns(tmp_path: Path) -> None:
    data = _data(tmp_path, ROWS)
    gone = data.model_copy(update={"items": data.items.model_copy(update={"files": str(tmp_path / "no.csv")})})
    with pytest.raises(RunError, match=r"data\.items\.files: no file matches .*no\.csv"):
        make_core(gone, tmp_path / "out")
    renamed = data.model_copy(update={"items": data.items.model_copy(update={"id": "sku"})})
    with pytest.raises(RunError, match="no column 'sku'"):
        make_core(renamed, tmp_path / "out")


def test_splits_of_the_two_evaluations() -> None:
    core = Core(Path("x"), "f", eval_from=80, test_from=90)
    last, name = experiment_split(core, "last", "eval")
    assert isinstance(last, SplitByLast)
    assert (last.eval, last.test, name) == (1, 1, "eval")
    # The rows held out for eval are trained on when test is ranked.
    last, name = experiment_split(core, "last", "test")
    assert isinstance(last, SplitByLast)
    assert (last.eval, last.test, name) == (0, 1, "test")
    by_time, name = experiment_split(core, "time", "eval")
    assert isinstance(by_time, SplitByTime)
    assert by_time.test_from is not None
    assert (by_time.eval_from.timestamp(), by_time.test_from.timestamp(), name) == (80, 90, "eval")
    by_time, name = experiment_split(core, "time", "test")
    assert isinstance(by_time, SplitByTime)
    assert (by_time.eval_from.timestamp(), by_time.test_from, name) == (90, None, "eval")
    with pytest.raises(RunError, match="more than one moment"):
        experiment_split(Core(Path("x"), "f", 90, 90), "time", "test")
