"""What clean removes beside artifacts; what it keeps is in test_metadata.py, and a whole run of it in tests/e2e."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from pipeline import clean
from pipeline.clean import _leftovers, _size
from pipeline.run import RunError
from tests.unit.pipeline.test_lineage import Store


def test_logs_and_checkpoints_from_before_and_unfinished_work(tmp_path: Path) -> None:
    for path in ("logs/old.log", "logs/new.log", "checkpoints/old/checkpoint", "checkpoints/new/checkpoint"):
        (tmp_path / path).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / path).write_text("five!")
    for name in ("logs/old.log", "checkpoints/old"):
        os.utime(tmp_path / name, (999, 999))
    for name in ("logs/new.log", "checkpoints/new"):
        os.utime(tmp_path / name, (1000, 1000))
    (tmp_path / "artifacts" / "Trainer" / ".system" / "stateful_working_dir").mkdir(parents=True)
    for number in (7, 8):  # of 8, TFX has recorded no output: it was killed
        (tmp_path / "artifacts" / "Trainer" / "model" / str(number)).mkdir(parents=True)
    # As it was called when the run was made, from another folder.
    uris = ["elsewhere/artifacts/Trainer/model/7", "elsewhere/artifacts/Transform/model/8"]
    found = {str(path.relative_to(tmp_path)) for path in _leftovers(tmp_path, 1000, uris)}
    assert found == {"artifacts/Trainer/.system", "artifacts/Trainer/model/8", "logs/old.log", "checkpoints/old"}
    assert _size(tmp_path / "logs" / "old.log") == _size(tmp_path / "checkpoints" / "old") == 5


def test_the_bad_rows_of_a_refused_run_stay_as_long_as_its_log(tmp_path: Path) -> None:
    system = tmp_path / "artifacts" / "RetrievalExampleGen" / ".system"
    new, old = (system / "stateful_working_dir" / run / "quarantine" for run in ("new", "old"))
    for folder, written in ((new, 1000), (old, 999)):
        folder.mkdir(parents=True)
        (folder / "rows.jsonl").touch()
        os.utime(folder, (written, written))
    (system / "executor_execution" / "7").mkdir(parents=True)
    found = {str(path.relative_to(system)) for path in _leftovers(tmp_path, 1000, [])}
    assert found == {"executor_execution", "stateful_working_dir/old"}
    assert _leftovers(tmp_path, 1001, []) == [system]


def test_a_home_without_any(tmp_path: Path) -> None:
    assert _leftovers(tmp_path, 1000, []) == []


def test_each_run_that_stays_is_told(tmp_path: Path) -> None:
    store = Store(tmp_path)
    for span in (3, 3, 3):
        store.trained(span, "first", None, MRR=0.1)
    kept = clean.clean(tmp_path, tmp_path / "releases", keep=2, dry_run=True).kept
    assert [(run.split(",")[0], why) for run, why in kept] == [("span 3", "newest")] * 2


def test_what_cannot_be_removed_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    Store(tmp_path).trained(1, "first", None, MRR=0.1)
    (tmp_path / "logs").mkdir()
    (tmp_path / "logs" / "old.log").touch()
    os.utime(tmp_path / "logs" / "old.log", (1, 1))

    def refuse(path: Path) -> None:
        raise PermissionError(13, "Permission denied", str(path))

    monkeypatch.setattr(Path, "unlink", refuse)
    with pytest.raises(RunError, match=r"old\.log: cannot be removed: Permission denied; run it again"):
        clean.clean(tmp_path, tmp_path / "releases", keep=1)
