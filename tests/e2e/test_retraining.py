"""Spans one after the other: trained, warm-started, delivered twice, refused, told of and cleaned up."""

from __future__ import annotations

import re
import shutil
import subprocess

import pytest

from serving.release import verify_release
from tests.e2e.conftest import PACKAGES, ROOT, Workspace
from tests.spans import CONFIG, deliver, deliver_items

pytestmark = [pytest.mark.slow, pytest.mark.timeout(1800)]

RESOLVERS = {"LatestBlessedModel", "LatestRelease", "PreviousStatistics"}


@pytest.fixture(scope="module")
def workspace(tmp_path_factory: pytest.TempPathFactory) -> Workspace:
    folder = tmp_path_factory.mktemp("spans")
    for package in PACKAGES:
        shutil.copytree(ROOT / package, folder / package, ignore=shutil.ignore_patterns("__pycache__"))
    deliver_items(folder)
    for span in range(3):
        deliver(folder, span, users=60)
    made = Workspace(folder, CONFIG)
    made.write_config()
    return made


def run(workspace: Workspace, span: int, *more: str) -> subprocess.CompletedProcess[str]:
    return workspace.call("run", "--span", str(span), *more, timeout=1500)


def fresh(done: subprocess.CompletedProcess[str]) -> set[str]:
    """The components that were not answered from the cache."""
    lines = re.findall(r"^\s*\[ ?\d+/\d+\] (\S+)\s+[\d.]+ s(  from the cache)?$", done.stdout, flags=re.MULTILINE)
    return {name for name, cached in lines if not cached}


@pytest.fixture(scope="module")
def first(workspace: Workspace) -> int:
    done = run(workspace, 1)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "cold start: there is no earlier model" in done.stdout
    assert "epoch 3 of 3" in done.stdout
    (version,) = workspace.releases
    return version


@pytest.fixture(scope="module")
def second(workspace: Workspace, first: int) -> int:
    """Stage by stage, as a scheduler would."""
    done = run(workspace, 2, "--until", "train")
    assert done.returncode == 0, done.stdout + done.stderr
    assert "warm start, item_id_vocabulary: 40 kept, 0 new, 0 gone" in done.stdout
    # Span 0 has users 0 to 59, span 1 5 to 64: five came.
    assert "warm start, query_id_vocabulary: 60 kept, 5 new, 0 gone" in done.stdout
    assert "epoch 1 of 1" in done.stdout
    assert workspace.releases == [first]
    done = run(workspace, 2)
    assert done.returncode == 0, done.stdout + done.stderr
    assert fresh(done) == RESOLVERS | {"ItemIndexer", "RetrievalEvaluator", "ReleaseValidator", "ReleasePusher"}
    assert workspace.releases[0] == first
    verify_release(workspace.home / "releases" / str(workspace.releases[-1]))
    return workspace.releases[-1]


def test_a_span_delivered_again_changes_nothing_and_a_past_one_replaces_nothing(
    workspace: Workspace, first: int, second: int
) -> None:
    again = workspace.folder / "1"
    shutil.copy(again / "part.csv", again / "again.csv")
    done = run(workspace, 2)
    assert (done.returncode, fresh(done)) == (0, RESOLVERS | {"ReleasePusher"}), done.stdout + done.stderr
    done = run(workspace, 1)
    assert (done.returncode, fresh(done)) == (0, RESOLVERS | {"ReleasePusher"}), done.stdout + done.stderr
    assert f"nothing is published: release {second} of span 2 is later than span 1" in done.stdout
    assert workspace.releases == [first, second]


def test_a_span_of_too_few_rows_is_refused_and_the_release_stays(workspace: Workspace, second: int) -> None:
    missing = workspace.call("ready", "--span", "3")
    assert (missing.returncode, missing.stdout) == (4, "")
    assert "span 3 is not there yet: data.interactions.files: no file matches 3/*.csv" in missing.stderr
    deliver(workspace.folder, 3, users=20)
    assert workspace.call("ready", "--span", "3").returncode == 0
    before = workspace.releases
    done = run(workspace, 3, "--until", "validate")
    assert done.returncode == 3
    assert done.stderr.startswith("SpanGate refused: volume: span 3 has 100 rows, 0.3")
    assert "gates.volume.min_ratio is 0.5. Deliver span 3 again, or name it in data.split.skip" in done.stderr
    assert "Traceback" not in done.stderr
    assert workspace.releases == before


def test_history_and_lineage_tell_it(workspace: Workspace, first: int, second: int) -> None:
    history = workspace.call("history").stdout
    assert len(re.findall(rf"release ({first}|{second})", history)) == 2
    assert re.search(r"│ model \d+ │ 0\.\d{4} │ yes", history), history
    assert re.search(r"│ cold +│ 0\.\d{4} │ yes", history), history
    assert "HR@10" in history
    assert "MRR" not in history
    assert "SpanGate failed" in history
    done = workspace.call("lineage", str(second))
    assert done.returncode == 0, done.stderr
    trained = "trained on spans 0 to 1, evaluated on 2"
    for expected in (trained, "went on from model", "cold start: there is no earlier", "1/part.csv  sha256 "):
        assert expected in done.stdout
    wrong = workspace.call("lineage", "1")
    assert (wrong.returncode, wrong.stderr) == (
        1,
        f"no run has published release 1; there is: {first}, {second}\n",
    )


def test_clean_leaves_what_is_in_use(workspace: Workspace, first: int, second: int) -> None:
    shutil.rmtree(workspace.home / "releases" / str(first))
    artifacts = workspace.home / "artifacts"
    models = sorted((artifacts / "Trainer" / "model").iterdir(), key=lambda path: int(path.name))
    done = workspace.call("clean", "--keep", "1")
    assert done.returncode == 0, done.stderr
    assert f"kept: span 2, release {second} (release {second})" in done.stdout
    # The model of span 1 is what span 2's went on from; its index nobody needs.
    assert [model.is_dir() for model in models] == [True, True]
    assert len(list((artifacts / "ItemIndexer" / "index").iterdir())) == 1
    # Span 2 still comes from the cache.
    done = run(workspace, 2)
    assert (done.returncode, fresh(done)) == (0, RESOLVERS | {"ReleasePusher"}), done.stdout + done.stderr
    assert "removed" in workspace.call("history").stdout
