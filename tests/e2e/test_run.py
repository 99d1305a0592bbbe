"""The real pipeline on real data, run and run again, served and asked."""

from __future__ import annotations

import contextlib
import csv
import json
import re
import signal
import subprocess
from collections.abc import Callable, Iterator

import pytest

from serving.client import RetrievalClient
from tests.e2e.conftest import Workspace

pytestmark = [pytest.mark.slow, pytest.mark.timeout(1200)]

# Resolvers and importers are not cached by TFX; the pusher always looks whether its release is still there.
NEVER_CACHED = {"LatestBlessedModel", "LatestRelease", "ReleasePusher"}


def _components(output: str) -> dict[str, bool]:
    """Component -> whether it came from the cache, from a run's progress lines."""
    lines = re.findall(r"^\s*\[ ?\d+/\d+\] (\S+)\s+[\d.]+ s(  from the cache)?$", output, flags=re.MULTILINE)
    return {name: bool(cached) for name, cached in lines}


@pytest.fixture(scope="module")
def first(make_workspace: Callable[[], Workspace]) -> tuple[Workspace, subprocess.CompletedProcess[str]]:
    """In a process that is started as a user would."""
    workspace = make_workspace()
    done = subprocess.run(
        workspace.command("run"),
        cwd=workspace.folder, env=workspace.environment, capture_output=True, text=True, timeout=600, check=False,
    )  # fmt: skip
    return workspace, done


@pytest.fixture(scope="module")
def workspace(first: tuple[Workspace, subprocess.CompletedProcess[str]]) -> Workspace:
    done = first[1]
    assert done.returncode == 0, done.stdout + done.stderr
    return first[0]


@contextlib.contextmanager
def _serving(workspace: Workspace) -> Iterator[tuple[subprocess.Popen[str], str]]:
    process = subprocess.Popen(
        workspace.command("serve", "--port", "0"),
        cwd=workspace.folder,
        env=workspace.environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
    )
    try:
        assert process.stdout is not None
        ready = process.stdout.readline()
        assert ready.startswith("serving small version "), ready
        yield process, ready.split()[-1]
    finally:
        process.kill()
        process.wait()


def test_validate_accepts_the_sample(workspace: Workspace) -> None:
    done = workspace.call("validate")
    assert (done.returncode, done.stdout) == (
        0,
        "c.yaml: the configuration is valid and its files have the columns it names\n",
    )


def test_first_run_shows_progress_metrics_index_and_release(
    first: tuple[Workspace, subprocess.CompletedProcess[str]], workspace: Workspace
) -> None:
    output = first[1].stdout
    components = _components(output)
    assert not any(components.values())
    assert len(components) == 15
    assert list(components)[-1] == "ReleasePusher"
    assert "epoch 2 of 2" in output
    for expected in ("HR@50", "HR@100", "MRR", "most popular", "recall@100", "Release: version"):
        assert expected in output
    (version,) = workspace.releases
    assert f"version {version}" in output
    log = workspace.folder / re.search(r"write to\s+(\S+\.log)", output).group(1)  # type: ignore[union-attr]
    assert "Component Trainer is finished." in log.read_text()
    assert "WARNING" not in output


def test_the_release_is_one_pair_in_the_layout_that_tf_serving_polls(workspace: Workspace) -> None:
    (version,) = workspace.releases
    folder = workspace.home / "releases" / str(version)
    release = json.loads((folder / "release.json").read_text())
    index = json.loads((folder / "index" / "index.json").read_text())
    assert (folder / "saved_model.pb").is_file()
    assert (folder / "assets.extra" / "tf_serving_warmup_requests").is_file()
    assert release["version"] == version
    assert release["model_fingerprint"] == index["model_fingerprint"]
    assert index["items"] == 1682
    assert not list(folder.rglob("*.pkl"))
    assert {p.name for p in folder.parent.iterdir()} == {str(version), ".lock"}


def test_a_server_answers_for_the_release(workspace: Workspace) -> None:
    with _serving(workspace) as (process, address):
        done = workspace.call("recommend", "--query-id", "42", "--k", "10", "--address", address)
        assert done.returncode == 0, done.stderr
        assert f"release {workspace.releases[-1]}" in done.stdout
        assert len(re.findall(r"^│ +\d+ │", done.stdout, flags=re.MULTILINE)) == 10
        with RetrievalClient(address) as client:
            seen = client.recommend(query_id="42", k=1000, exclude_seen=False)
            new = client.recommend(query_id="42", k=1000, exclude_seen=True)
            stranger = client.recommend(query_id="nobody", k=5)
            westerns = client.recommend(
                query_id="42", k=1000, allow={"genres": ["Western"]}, deny={"year": ["1995"]}, item_features=["genres"]
            )
        interactions = (workspace.folder / "interactions.csv").read_text().splitlines()
        had = {line.split(",")[1] for line in interactions if line.startswith("42,")}
        assert had
        assert had & {item.item_id for item in seen.items}
        assert not had & {item.item_id for item in new.items}
        assert seen.known_query
        assert (len(stranger.items), stranger.known_query) == (5, False)
        catalogue = list(csv.DictReader((workspace.folder / "items.csv").open(encoding="utf-8")))
        expected = {
            item["item_id"] for item in catalogue if "Western" in item["genres"].split("|") and item["year"] != "1995"
        }
        assert expected
        assert {item.item_id for item in westerns.items} == expected
        assert all("Western" in item.features["genres"].split("|") for item in westerns.items)
        assert westerns.truncated_by == ("filters",)
        process.send_signal(signal.SIGTERM)
        assert process.wait(timeout=30) == 0


def test_recommend_without_a_server_says_what_to_do(workspace: Workspace) -> None:
    done = workspace.call("recommend", "--query-id", "42", "--address", "127.0.0.1:9")
    assert done.returncode == 1
    assert "Is a server running? Start one with: python -m pipeline serve" in done.stderr
    assert "Traceback" not in done.stderr


def test_second_run_on_unchanged_input_uses_the_cache_and_adds_no_release(workspace: Workspace) -> None:
    before = workspace.releases
    done = workspace.call("run")
    assert done.returncode == 0, done.stdout + done.stderr
    # The model that the first run blessed is the baseline now: a new input, so the evaluator runs once more, and what
    # reads its blessing.
    fresh = {name for name, cached in _components(done.stdout).items() if not cached}
    assert fresh == NEVER_CACHED | {"RetrievalEvaluator", "ReleaseValidator"}
    again = workspace.call("run")
    assert {name for name, cached in _components(again.stdout).items() if not cached} == NEVER_CACHED
    assert workspace.releases == before


def test_an_unblessed_model_is_not_released(workspace: Workspace) -> None:
    before = workspace.releases
    workspace.write_config(evaluation={"thresholds": [{"metric": "HR@50", "min_value": 1.5}]})
    done = workspace.call("run")
    workspace.write_config()
    assert done.returncode == 3
    assert "HR@50" in done.stdout.split("Not blessed:")[1]
    assert "the model was not blessed, so nothing was released" in done.stderr
    assert workspace.releases == before


def test_bad_data_stops_the_run_and_the_release_stays(workspace: Workspace) -> None:
    before = workspace.releases
    interactions = workspace.folder / "interactions.csv"
    good = interactions.rename(workspace.folder / "good.csv")
    interactions.write_text(good.read_text() + "1,no-such-item,3,881250949\n" * 5000)
    done = workspace.call("run")
    good.rename(interactions)
    assert done.returncode == 3
    assert "RetrievalExampleGen refused: " in done.stderr
    assert "unknown_item" in done.stderr
    assert "Traceback" not in done.stderr
    assert workspace.releases == before


def test_an_anomaly_stops_the_run_with_the_feature_named(workspace: Workspace) -> None:
    features = [
        {**f, "values": ["M"]} if f["name"] == "gender" else f  # half of the users are F
        for f in workspace.config["features"]
    ]
    workspace.write_config(features=features)
    done = workspace.call("run")
    again = workspace.call("run")
    workspace.write_config()
    for failed in (done, again):  # a failure is not cached away
        assert failed.returncode == 3
        assert "AnomalyGate refused: " in failed.stderr
        assert "gender" in failed.stderr


def test_changed_model_code_trains_a_new_model_on_cached_data(workspace: Workspace) -> None:
    before = workspace.releases
    source = workspace.folder / "models" / "dat.py"
    source.write_text(source.read_text() + "\n# changed\n")
    done = workspace.call("run")
    assert done.returncode == 0, done.stdout + done.stderr
    components = _components(done.stdout)
    assert components["RetrievalExampleGen"]
    assert components["StatisticsGen"]
    assert not components["Trainer"]
    assert not components["ItemIndexer"]
    assert workspace.releases[-1] > before[-1]
    assert len(workspace.releases) == len(before) + 1
