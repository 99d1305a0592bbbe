import json
from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

from pipeline import cli
from pipeline.options import UserError


@pytest.fixture
def logs(tmp_path: Path) -> Path:
    """60 users under stable, 40 under canary, one impression of two items each.

    Under stable every third user clicks on the first item, under canary every second; every tenth orders for 20 or 30.
    """
    shown, happened = ["impression_id,time,query_id,label,item_id,position"], ["impression_id,item_id,time,kind,value"]
    for user in range(100):
        label, each, price = ("stable", 3, 20) if user < 60 else ("canary", 2, 30)
        shown += [f"r{user},{user * 864},u{user},{label},{item},{place}" for item, place in (("a", 1), ("b", 2))]
        if user % each == 0:
            happened.append(f"r{user},a,{user * 864},click,")
        if user % 10 == 0:
            happened.append(f"r{user},a,{user * 864},order,{price}")
    (tmp_path / "shown.csv").write_text("\n".join(shown))
    (tmp_path / "happened.csv").write_text("\n".join(happened))
    return tmp_path


def call(logs: Path, *options: str) -> Result:
    files = ["--impressions", str(logs / "shown.csv"), "--outcomes", str(logs / "happened.csv")]
    return CliRunner().invoke(cli.app, ["ab", *files, "--json", str(logs / "ab.json"), *options])


def test_figures(logs: Path) -> None:
    done = call(logs, "--control", "stable=60", "--treatment", "canary=40", "--detect", "0.1")
    assert (done.exit_code, done.exception) == (0, None)
    found = json.loads((logs / "ab.json").read_text())
    assert found["trusted"]
    assert found["days"] == pytest.approx(0.99)
    assert found["labels"]["control"] == {
        "label": "stable", "share": 60, "users": 60, "impressions": 120, "clicks": 20, "orders": 6, "gmv": 120.0,
        "mean_click_position": 1.0, "top_buyers_share": 20 / 120,
    }  # fmt: skip
    # 20 clicks of 120 items, 20 of 80; 6 orders of 20 for 60 users, 4 of 30 for 40.
    expected = {"CTR": (1 / 6, 1 / 4), "GMV/user": (2.0, 3.0), "GMV/impression": (1.0, 1.5)}
    for name, (control, treatment) in expected.items():
        metric = found["metrics"][name]
        assert (metric["control"], metric["treatment"]) == pytest.approx((control, treatment))
        assert metric["relative"][0] == pytest.approx(0.5)
        assert set(metric["planned"]) == {"effect", "power", "users_needed"}
    # Two items each: a user's part in CTR is half a click's indicator. var = p (1 - p) / 4 / (n - 1).
    variance = (1 / 3) * (2 / 3) / 4 / 59 + (1 / 2) * (1 / 2) / 4 / 39
    assert found["metrics"]["CTR"]["standard_error"] == pytest.approx(variance**0.5)
    assert found["sample_ratio_p"] == 1.0
    assert "+50.00%" in done.output
    assert "Sample ratio: as set" in done.output
    assert "CTR: an effect of 10.00% is found with a power of" in done.output
    assert "Note: one buyer of 6 under stable spent 16.7% of its GMV" in done.output  # 20 of 120


def test_sample_ratio_mismatch_is_refused(logs: Path) -> None:
    done = call(logs, "--control", "stable=90", "--treatment", "canary=10")
    assert done.exit_code == 3
    # (60 - 90)^2 / 90 + (40 - 10)^2 / 10 = 100: p = 1.5e-23
    assert (
        "NOT TO BE TRUSTED: sample ratio mismatch: canary has 40.00% of the users where 10.00% were set" in done.output
    )
    assert not json.loads((logs / "ab.json").read_text())["trusted"]


def test_too_many_outcomes_without_an_impression(logs: Path) -> None:
    with (logs / "happened.csv").open("a") as file:
        file.write("\nr500,a,1,click,")
    done = call(logs, "--control", "stable=60", "--treatment", "canary=40")
    assert done.exit_code == 3
    assert "NOT TO BE TRUSTED: 2.0% of the outcomes have no impression, such as" in done.output  # 1 of 51


def test_too_many_users_changed_their_label(logs: Path) -> None:
    with (logs / "shown.csv").open("a") as file:
        file.write("\nr500,1,u0,canary,a,1\nr501,1,u1,canary,a,1")
    done = call(logs, "--control", "stable=60", "--treatment", "canary=40")
    assert done.exit_code == 3
    assert "NOT TO BE TRUSTED: 2.0% of the users were answered by more than one label" in done.output
    assert "left out: 2 users whom more than one label answered, such as u0, u1" in done.output


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (("--control", "stable", "--treatment", "canary=10"), "--control stable: expected LABEL=PERCENT"),
        (("--control", "stable=90", "--treatment", "canary=x"), "--treatment canary=x: expected LABEL=PERCENT"),
        (("--control", "a=50", "--treatment", "a=50"), "--control and --treatment are both 'a'"),
        (("--control", "stable=60", "--treatment", "canary=41"), "expected shares of 100 percent together at most"),
        (("--control", "stable=60", "--treatment", "canary=40", "--json", "no/ab.json"), "there is no folder no"),
        (
            ("--control", "stable=60", "--treatment", "canary=40", "--json", "x" * 300),
            "cannot be written: File name too",
        ),
        (("--control", "stable=0", "--treatment", "canary=10"), "expected shares from 1 percent on"),
        (
            ("--control", "stable=90", "--treatment", "canary=10", "--detect", "0"),
            "--detect 0.0: expected a relative effect",
        ),
        (
            ("--control", "stable=60", "--treatment", "canary=40", "--detect", "1e-200"),
            "--detect 1e-200: expected a relative effect",
        ),
    ],
)
def test_bad_options(logs: Path, options: tuple[str, ...], message: str) -> None:
    done = call(logs, *options)
    assert isinstance(done.exception, UserError)
    assert message in str(done.exception)
