"""A small real data set and the pipeline run on it, as a user would."""

from __future__ import annotations

import csv
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from multiprocessing.context import ForkServerProcess
from pathlib import Path
from typing import Any

import pytest
import yaml

from pipeline.datasets import movielens
from tests.e2e import forked
from tests.e2e.forked import ROOT

PACKAGES = ("pipeline", "components", "models", "serving")
CONFIG_OPTION = ("--config", "c.yaml")


@pytest.fixture(scope="session")
def movielens_sample(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The first 150 users of MovieLens-100K and all its items."""
    source = ROOT / "data" / "movielens"
    if not (source / "interactions.csv").exists():
        source = tmp_path_factory.mktemp("movielens")
        movielens(source)
    folder = tmp_path_factory.mktemp("sample")
    shutil.copy(source / "items.csv", folder)
    for name in ("interactions.csv", "users.csv"):
        with (source / name).open(newline="") as old, (folder / name).open("w", newline="") as new:
            rows = csv.reader(old)
            writer = csv.writer(new)
            writer.writerow(next(rows))
            writer.writerows(row for row in rows if int(row[0]) <= 150)
    return folder


@dataclass(frozen=True)
class Workspace:
    """A folder with a copy of the project's code, a configuration and data, run as a user would."""

    folder: Path
    config: dict[str, Any]

    @property
    def home(self) -> Path:
        return self.folder / "runs" / self.config["name"]

    @property
    def releases(self) -> list[int]:
        root = self.home / "releases"
        return sorted(int(p.name) for p in root.iterdir() if p.name.isdigit()) if root.exists() else []

    @property
    def environment(self) -> dict[str, str]:
        bin_folder = str(Path(sys.executable).parent)
        return {**os.environ, "PYTHONPATH": str(self.folder), "PATH": f"{bin_folder}:{os.environ['PATH']}"}

    def write_config(self, **changes: Any) -> None:
        (self.folder / "c.yaml").write_text(yaml.safe_dump({**self.config, **changes}))

    def command(self, *arguments: str) -> list[str]:
        return [sys.executable, "-m", "pipeline", *arguments, *CONFIG_OPTION]

    def start(self, *arguments: str) -> ForkServerProcess:
        """Leads a process group of its own; what it prints goes to .stdout and .stderr in the folder."""
        return forked.start(self.folder, [*arguments, *CONFIG_OPTION], self.environment)

    def call(self, *arguments: str, timeout: float = 600) -> subprocess.CompletedProcess[str]:
        process = self.start(*arguments)
        process.join(timeout)
        output, errors = ((self.folder / name).read_text() for name in forked.OUTPUT)
        if process.exitcode is None:
            process.kill()
            process.join()
            raise TimeoutError(f"{arguments} has not ended after {timeout} s: {output[-3000:]}{errors[-3000:]}")
        return subprocess.CompletedProcess(list(arguments), process.exitcode, output, errors)


@pytest.fixture(scope="module")
def make_workspace(tmp_path_factory: pytest.TempPathFactory, movielens_sample: Path) -> Callable[[], Workspace]:
    def make() -> Workspace:
        folder = tmp_path_factory.mktemp("workspace")
        for package in PACKAGES:
            shutil.copytree(ROOT / package, folder / package, ignore=shutil.ignore_patterns("__pycache__"))
        shutil.copy(ROOT / "local_runner.py", folder)
        config = yaml.safe_load((ROOT / "configs" / "movielens.yaml").read_text())
        config["name"] = "small"
        for part, name in (("interactions", "interactions.csv"), ("items", "items.csv"), ("queries", "users.csv")):
            shutil.copy(movielens_sample / name, folder)
            config["data"][part]["files"] = name
        config["train"] = {"epochs": 2, "batch_size": 512}
        config["evaluation"]["thresholds"] = [{"metric": "HR@100", "min_ratio_to_popular": 0.01}]
        workspace = Workspace(folder, config)
        workspace.write_config()
        return workspace

    return make
