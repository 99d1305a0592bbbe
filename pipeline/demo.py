"""The whole way once: from the download to a served recommendation."""

from __future__ import annotations

import contextlib
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

from components.ingestion.checks import check_inputs
from pipeline.config import load_config
from pipeline.datasets import movielens
from pipeline.report import print_recommendations, print_run
from pipeline.run import RunError, run_pipeline
from pipeline.terminal import plain_console
from serving.client import RetrievalClient, RetrievalError

_QUERIES = ("42", "196", "405")


@contextlib.contextmanager
def _server(config_file: Path, log: Path) -> Iterator[str]:
    """A server process of the newest release on a free port; yields its address and ends it afterwards."""
    with log.open("a") as noise:
        process = subprocess.Popen(
            [sys.executable, "-m", "pipeline", "serve", "--config", str(config_file), "--port", "0"],
            stdout=subprocess.PIPE,
            stderr=noise,
            text=True,
        )
        try:
            ready = next((line for line in process.stdout or () if line.startswith("serving ")), None)
            if ready is None:
                raise RunError(f"the server did not start; its messages are in {log}")
            plain_console().print(ready.strip())
            yield ready.split()[-1]
        finally:
            process.send_signal(signal.SIGTERM)
            process.wait(timeout=60)


def run_demo(config_file: Path) -> None:
    """Downloads MovieLens-100K if need be, runs the pipeline, serves the release and asks it over gRPC.

    Raises:
      IngestionError: a part of the data is there and another is missing, or is not what the configuration says.
      RunError: a component failed, the model was not blessed, or the server did not start or answer.
    """
    console = plain_console()
    config = load_config(config_file)
    folder = Path(config.data.interactions.files).parent
    # One that is there may be the user's own: what is missing beside it is told by the check.
    if not any((folder / name).exists() for name in ("interactions.csv", "items.csv", "users.csv")):
        console.print(f"Downloading MovieLens-100K into {folder}")
        movielens(folder)
    check_inputs(config.ingestion(0))
    result = run_pipeline(config)
    print_run(result)
    if result.release is None:
        raise RunError("the model was not blessed, so there is no new release to serve")
    shown = [*config.data.items.show, config.data.items.category]
    try:
        with _server(config_file, result.log) as address, RetrievalClient(address) as client:
            for query in _QUERIES:
                answer = client.recommend(query_id=query, k=10, exclude_seen=True, item_features=shown)
                print_recommendations(query, answer, shown)
    except RetrievalError as e:
        raise RunError(f"the server did not answer: {e}") from e
    print(
        "Try next (source .venv/bin/activate first):\n"
        f"  python -m pipeline serve --config {config_file}\n"
        f"  python -m pipeline recommend --config {config_file} --query-id 42 --k 10   (in another terminal)\n"
        f"  python -m pipeline run --config {config_file}   (again: what did not change comes from the cache)\n"
        "  cp configs/your_data.yaml configs/mine.yaml   (your own data: docs/your_data.md)"
    )
