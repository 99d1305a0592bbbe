"""The project's command line in processes that have what it needs of others loaded from the start.

To import TensorFlow, Beam and TFX takes longer than most of what a test does with a run. One process imports them, and
each command is a fork of it: the project's own modules are read anew, from the folder that the command works in.
"""

from __future__ import annotations

import multiprocessing
import os
import runpy
import sys
from collections.abc import Mapping, Sequence
from multiprocessing.context import ForkServerProcess
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
OUTPUT = (".stdout", ".stderr")

_CONTEXT = multiprocessing.get_context("forkserver")
_CONTEXT.set_forkserver_preload(
    [
        "pandas",
        "scann",
        "tensorflow_data_validation",
        "tensorflow_recommenders",
        "tensorflow_serving.apis.prediction_service_pb2_grpc",
        "tfx.components",
        "tfx.orchestration.local.local_dag_runner",
    ]
)


def _command(folder: str, arguments: Sequence[str], environment: Mapping[str, str]) -> None:
    os.setsid()
    os.chdir(folder)
    os.environ.clear()
    os.environ.update(environment)
    for descriptor, file in enumerate(OUTPUT, start=1):
        os.dup2(os.open(file, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o644), descriptor)
    sys.path[:] = [folder, *(entry for entry in sys.path if entry not in ("", str(ROOT)))]
    sys.argv = ["pipeline", *arguments]
    runpy.run_module("pipeline", run_name="__main__", alter_sys=True)


def start(folder: Path, arguments: Sequence[str], environment: Mapping[str, str]) -> ForkServerProcess:
    """`python -m pipeline` with `arguments` in `folder`, at the head of a process group of its own.

    Args:
      folder: has the project's packages; standard output and standard error go there, into the files `OUTPUT`.
      arguments: of the command line.
      environment: all of it.
    """
    process = _CONTEXT.Process(target=_command, args=(str(folder), list(arguments), dict(environment)))
    process.start()
    return process
