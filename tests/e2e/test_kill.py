"""kill -9 in one component after the other: the next run ends well, and no half-made release is ever visible."""

from __future__ import annotations

import os
import re
import signal
import time
from collections.abc import Callable

import pytest

from serving.release import verify_release
from tests.e2e.conftest import Workspace

pytestmark = [pytest.mark.slow, pytest.mark.timeout(1200)]

COMPONENTS = (
    "CuratedSchema",
    "LatestBlessedModel",
    "LatestRelease",
    "RetrievalExampleGen",
    "StatisticsGen",
    "InteractionValidator",
    "ItemValidator",
    "AnomalyGate",
    "Transform",
    "NegativeSampler",
    "Trainer",
    "ItemIndexer",
    "RetrievalEvaluator",
    "ReleaseValidator",
    "ReleasePusher",
)
# Resolvers write nothing, and Transform stands for TFX's other components.
NOT_KILLED = {"LatestBlessedModel", "LatestRelease", "StatisticsGen", "InteractionValidator", "ItemValidator"}


def _kill_in(workspace: Workspace, component: str) -> None:
    """Starts a run and kills its whole process group as soon as the component has started."""
    process = workspace.start("run")
    started = f"Component {component} is running."
    deadline = time.monotonic() + 240
    while time.monotonic() < deadline:
        logs = sorted((workspace.home / "logs").glob("*.log"), key=lambda p: p.stat().st_mtime)
        mine = [log for log in logs if started in log.read_text(errors="replace")]
        if logs and mine and mine[-1] == logs[-1]:
            break
        assert process.exitcode is None, f"the run ended before {component} started"
        time.sleep(0.02)
    assert process.pid is not None
    os.killpg(process.pid, signal.SIGKILL)
    process.join()


def test_killed_in_one_component_after_the_other(make_workspace: Callable[[], Workspace]) -> None:
    workspace = make_workspace()
    for component in (name for name in COMPONENTS if name not in NOT_KILLED):
        for log in (workspace.home / "logs").glob("*.log"):
            log.unlink()
        _kill_in(workspace, component)
        assert workspace.releases == []
    done = workspace.call("run")
    assert done.returncode == 0, done.stdout + done.stderr
    names = re.findall(r"^\s*\[ ?\d+/\d+\] (\S+)", done.stdout, flags=re.MULTILINE)
    assert tuple(names) == COMPONENTS
    (version,) = workspace.releases
    verify_release(workspace.home / "releases" / str(version))
