"""The `tfx` command creates and runs the pipeline from local_runner.py."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.e2e.awkward import make_small
from tests.e2e.conftest import Workspace

pytestmark = [pytest.mark.slow, pytest.mark.timeout(1200)]


def test_pipeline_create_and_run_create(make_workspace: Callable[[], Workspace], tmp_path: Path) -> None:
    workspace = make_small(make_workspace())
    tfx = str(Path(sys.executable).parent / "tfx")
    environment = {**workspace.environment, "RETRIEVAL_CONFIG": "c.yaml", "HOME": str(tmp_path)}

    def call(*arguments: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [tfx, *arguments, "--engine", "local"],
            cwd=workspace.folder,
            env=environment,
            capture_output=True,
            text=True,
            check=False,
        )

    created = call("pipeline", "create", "--pipeline_path", "local_runner.py")
    assert created.returncode == 0, created.stdout + created.stderr
    assert 'Pipeline "awkward" created successfully.' in created.stdout
    done = call("run", "create", "--pipeline_name", "awkward")
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
    assert len(workspace.releases) == 1
