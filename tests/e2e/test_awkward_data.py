"""Small and awkward data through the whole pipeline: a served answer or a clear error, never a stack trace."""

from __future__ import annotations

import csv
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from serving.client import RetrievalClient
from serving.config import ServingConfig
from serving.server import Server
from tests.e2e.awkward import ITEMS, make_small, write
from tests.e2e.conftest import Workspace

pytestmark = [pytest.mark.slow, pytest.mark.timeout(1200)]


@pytest.fixture
def workspace(make_workspace: Callable[[], Workspace]) -> Workspace:
    return make_small(make_workspace())


def test_awkward_ids_arrive_whole_and_bad_rows_are_put_aside(workspace: Workspace) -> None:
    with (workspace.folder / "items.csv").open("a", newline="", encoding="utf-8") as out:
        csv.writer(out).writerows([["007", "most", "a second 007", 1], ["line\nbreak", "most", "two lines", 1]])
    with (workspace.folder / "i.csv").open("a", newline="", encoding="utf-8") as out:
        csv.writer(out).writerows([["u1", "not there", 2000], ["u1", "7", "nan"], ["", "7", 2000]])
    done = workspace.call("run")
    assert done.returncode == 0, done.stdout + done.stderr
    (quarantine,) = workspace.home.glob("artifacts/RetrievalExampleGen/quarantine/*")
    text = "".join(p.read_text() for p in quarantine.rglob("*") if p.is_file())
    for expected in ("not there", "nan", "a second 007", "two lines"):
        assert expected in text
    server = Server(workspace.home / "releases", "awkward", ServingConfig(port=0))
    server.start()
    try:
        with RetrievalClient(server.address) as client:
            answer = client.recommend(query_id='ünï,"q"', k=100, item_features=["title", "category"])
            assert {item.item_id for item in answer.items} == set(ITEMS)
            assert answer.known_query
            assert answer.truncated
            assert {i.features["title"] for i in answer.items if i.item_id == "007"} == {"title of 007"}
            assert not client.recommend(query_id="42", k=1).known_query  # 0042 is another user
    finally:
        server.stop()


def _fails(workspace: Workspace) -> subprocess.CompletedProcess[str]:
    done = workspace.call("run")
    assert done.returncode == 1, done.stdout
    assert "Traceback" not in done.stderr + done.stdout
    return done


def _only_header(folder: Path) -> None:
    (folder / "i.csv").write_text("user,item,at\n")


def _empty(folder: Path) -> None:
    (folder / "i.csv").write_text("")


def _one_interaction(folder: Path) -> None:
    (folder / "i.csv").write_text("user,item,at\nu1,7,1000\n")


def _no_category(folder: Path) -> None:
    (folder / "items.csv").write_text("item,title,price\n7,x,1\n")


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (_only_header, "i.csv"),
        (_empty, "i.csv"),
        (_one_interaction, "eval"),
        (_no_category, "category"),
    ],
)
def test_data_that_cannot_work_gets_a_clear_error(
    workspace: Workspace, spoil: Callable[[Path], None], message: str
) -> None:
    spoil(workspace.folder)
    assert message in _fails(workspace).stderr


def test_one_time_for_all_cannot_be_cut_by_date(workspace: Workspace) -> None:
    rows = [[f"u{n}", item, 1000] for n in range(20) for item in ITEMS[:4]]
    write(workspace.folder / "i.csv", [["user", "item", "at"], *rows])
    data = {**workspace.config["data"], "split": {"by": "time", "eval_from": "2020-01-01"}}
    workspace.write_config(data=data)
    assert "the eval split is empty" in _fails(workspace).stderr


def test_a_catalogue_of_one_item(workspace: Workspace) -> None:
    write(workspace.folder / "items.csv", [["item", "category", "title", "price"], ["7", "most", "seven", 1]])
    rows = [[f"u{n}", "7", 1000 + t] for n in range(30) for t in range(3)]
    write(workspace.folder / "i.csv", [["user", "item", "at"], *rows])
    workspace.write_config(evaluation={"exclude_seen": False})
    done = workspace.call("run")
    assert done.returncode == 0, done.stdout + done.stderr
    assert len(workspace.releases) == 1
