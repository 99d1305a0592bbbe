"""Two releases behind a real server that splits the traffic, a week of visits to it, and `ab` over the week's logs."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from benchmarks.online_simulator import __main__ as simulator

pytestmark = pytest.mark.slow

USERS = 150


def test_a_week_behind_the_real_server(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(simulator, "ROOT", tmp_path)
    monkeypatch.setattr(simulator, "CASES", {"A/B": {"base": 70, "better": 30}})
    monkeypatch.setattr(simulator, "NOISE", {"base": 0.5, "better": 0.0})
    # Each visit's answer is compared with what the label had answered, and what `ab` finds with what was drawn.
    simulator.main(weeks=40, users=USERS, people=200)
    found = json.loads((tmp_path / "results.json").read_text())["A/B"]
    labels = found["live"]["ab"]["labels"]
    assert labels["control"]["users"] + labels["treatment"]["users"] == USERS
    assert labels["control"]["impressions"] + labels["treatment"]["impressions"] == 10 * found["live"]["visits"]
    assert found["live"]["ab"]["trusted"]
    for metric in found["metrics"].values():
        assert metric["relative_effect"] > 0.1
        # 31 of 40 weeks are six standard errors below 95 %.
        assert metric["coverage"][0] > 31 / 40
    assert found["metrics"]["CTR"]["mean_difference"] == pytest.approx(
        found["metrics"]["CTR"]["truth"][1] - found["metrics"]["CTR"]["truth"][0],
        abs=4 * found["metrics"]["CTR"]["sd_of_difference"] / 40**0.5,
    )
