"""Measures the server over synthetic releases and prints a table: python -m benchmarks.serving [--items N ...]

benchmarks/serving/README.md says how to read it. Releases are built once and kept below runs/bench/serving.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import platform
import shutil
import sys
from pathlib import Path

from benchmarks.serving.process import BenchmarkError, Server, ask, run, serving, started, tensorflow_seconds
from benchmarks.serving.report import table

ROOT = Path("runs/bench/serving")
RESULTS = "results.json"
# A change of any of these builds the releases anew.
SOURCES = (
    "benchmarks/serving/synthetic.py",
    "benchmarks/serving/build.py",
    "serving/searcher.py",
    "serving/release.py",
)
# In the table's words, the release, processes, whether each keeps to one core.
SERVERS = (
    ("tflite", "lite", 1, False),
    ("tflite, one core", "lite", 1, True),
    ("signature", "signature", 1, False),
    ("tflite x 2", "lite", 2, False),
    ("tflite x 2, one core each", "lite", 2, True),
)
CLIENTS = 32
OPEN_LOOP_SHARE = 0.7  # of what the clients got answered


def releases(items: int) -> Path:
    """The folder with the releases of so many items; built where it is missing.

    Raises:
      BenchmarkError: it could not be built.
    """
    code = hashlib.sha256(b"".join(Path(source).read_bytes() for source in SOURCES)).hexdigest()
    folder = ROOT / f"{items}-{code[:12]}"
    if not (folder / "done").exists():
        shutil.rmtree(folder, ignore_errors=True)
        _tell(f"building releases of {items:,} items")
        run("benchmarks.serving.build", items, folder)
        (folder / "done").touch()
    return folder


def measure(items: int, seconds: float) -> dict:
    """All measurements over one catalogue.

    Raises:
      BenchmarkError: a process failed, or an answer was wrong or missing.
    """
    folder = releases(items)
    [release] = (path for path in (folder / "lite").iterdir() if path.name.isdigit())
    _tell(f"{items:,} items: in one process, without RPC")
    result: dict = {"items": items, "inside": run("benchmarks.serving.inside", release), "servers": {}}
    # Beside each catalogue's own: on a shared machine only neighbours compare.
    _tell(f"{items:,} items: gRPC with nothing behind it")
    with started("benchmarks.serving.empty", log=folder / "server.log") as server:
        result["empty"] = _ask_all(server, seconds)
    for name, kind, processes, one_core in SERVERS:
        _tell(f"{items:,} items: server, {name}")
        with serving(folder / kind, folder, processes, one_core) as server:
            result["servers"][name] = _ask_all(server, seconds)
    return result


def _ask_all(server: Server, seconds: float) -> dict:
    asked = {"start_seconds": server.start_seconds, "one client": ask(server, "closed", 1, seconds)}
    many = asked[f"{CLIENTS} clients"] = ask(server, "closed", CLIENTS, 2 * seconds)
    asked["open loop"] = ask(server, "open", OPEN_LOOP_SHARE * many["per_second"], 2 * seconds)
    return asked


def _tell(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


def main() -> int:
    """The command line. Returns the exit code."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.serving", description=__doc__.split("\n")[0])
    parser.add_argument("--items", type=int, nargs="+", default=[100_000, 1_000_000], help="sizes of the catalogue")
    parser.add_argument("--seconds", type=float, default=5.0, help="of each measurement with one client; others twice")
    options = parser.parse_args()
    ROOT.mkdir(parents=True, exist_ok=True)
    try:
        results = {
            "machine": {"processor": platform.processor() or platform.machine(), "cores": os.cpu_count()},
            "load_before": os.getloadavg(),
            "tensorflow_seconds": tensorflow_seconds(),
            "catalogues": [measure(items, options.seconds) for items in options.items],
        }
    except BenchmarkError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    (ROOT / RESULTS).write_text(json.dumps(results, indent=2) + "\n")
    print(table(results))
    print(f"\nAll figures: {ROOT / RESULTS}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
