"""The demo downloads into an empty folder only."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml

from components.ingestion.errors import IngestionError
from pipeline import demo


@pytest.fixture
def config_file(tmp_path: Path) -> Path:
    config = yaml.safe_load(Path("configs/movielens.yaml").read_text())
    config["root"] = str(tmp_path / "runs")
    for kind in ("interactions", "items", "queries"):
        config["data"][kind]["files"] = str(tmp_path / "data" / Path(config["data"][kind]["files"]).name)
    (tmp_path / "data").mkdir()
    (tmp_path / "c.yaml").write_text(yaml.safe_dump(config))
    return tmp_path / "c.yaml"


def test_what_is_there_is_not_overwritten(config_file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    own = config_file.parent / "data" / "items.csv"
    own.write_text("item_id,title,year,category,genres\n1,mine,1999,a,a\n")
    monkeypatch.setattr(demo, "movielens", lambda folder: pytest.fail("it was downloaded"))
    with pytest.raises(IngestionError, match=r"data\.interactions\.files: no file matches .*interactions\.csv"):
        demo.run_demo(config_file)
    assert own.read_text().endswith("mine,1999,a,a\n")


def test_an_empty_folder_is_filled(config_file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[Path] = []
    monkeypatch.setattr(demo, "movielens", asked.append)
    with pytest.raises(IngestionError, match="no file matches"):
        demo.run_demo(config_file)
    assert asked == [config_file.parent / "data"]
