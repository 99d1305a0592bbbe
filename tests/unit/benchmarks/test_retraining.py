from __future__ import annotations

from pathlib import Path

import pytest

from benchmarks.retraining.__main__ import cut_into_days, main, make_config
from benchmarks.retraining.report import Pair, Trained, report
from pipeline.config import PipelineConfig, validate


def trained(hits: float, seconds: float) -> Trained:
    return Trained({"HR@50": hits, "HR@100": 2 * hits, "MRR": hits / 10}, seconds)


def test_the_table_and_what_it_comes_to() -> None:
    text = report([Pair(3, trained(0.2, 40), trained(0.2, 10)), Pair(4, trained(0.1, 20), trained(0.11, 7))])
    assert "| 4 | 0.1000 | 0.1100 | 0.2000 | 0.2200 | 0.0100 | 0.0110 | 20.0 | 7.0 |" in text
    # Ratios 1 and 1.1: mean 1.05, sd 0.0707, t(0.975, 1) = 12.706: half = 12.706 * 0.0707 / sqrt(2) = 0.635.
    assert "- HR@50: 1.050 ± 0.635" in text
    # 0.25 and 0.35.
    assert "- time of the Trainer: 0.300 ± 0.635" in text
    assert "- in all 60 s cold, 17 s warm" in text
    with pytest.raises(ValueError, match="no span has both"):
        report([])


def test_days_are_folders(tmp_path: Path) -> None:
    source = tmp_path / "interactions.csv"
    source.write_text("user_id,item_id,timestamp\nu,a,973036800\nv,b,973123200\nu,c,973123200\n")
    (tmp_path / ".tmp-days" / "0").mkdir(parents=True)  # left by a call that was interrupted
    cut_into_days(source, tmp_path / "days", share=1)
    found = {p.parent.name: p.read_text().split() for p in (tmp_path / "days").rglob("*.csv")}
    header = "user_id,item_id,timestamp"
    assert found == {"0": [header, "u,a,973036800"], "1": [header, "v,b,973123200", "u,c,973123200"]}
    cut_into_days(source, tmp_path / "some", share=0.5)
    users = {line.split(",")[0] for p in (tmp_path / "some").rglob("*.csv") for line in p.read_text().split()[1:]}
    # crc32 of "v" is 0x6b643b84, below half of 2**32, of "u" 0xf26d6a3e.
    assert users == {"v"}


def test_missing_data_is_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(SystemExit, match=r"there is no data/ta_feng/interactions\.csv: run python -m pipeline data"):
        main()
    assert list(tmp_path.iterdir()) == []


def test_both_configurations_are_valid(tmp_path: Path) -> None:
    for warm in (None, {"epochs": 1, "optimizer": "keep"}):
        config = validate(PipelineConfig, make_config(tmp_path, "x", 14, 5, warm), "test")
        assert (config.train.warm_start is None) == (warm is None)
