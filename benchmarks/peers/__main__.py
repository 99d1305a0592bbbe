"""Ranks the held-out rows of an exchange folder with the models of other libraries.

  python -m benchmarks.peers --exchange DIR [--output DIR] [--peer NAME ...]

DIR is runs/experiments/<data set>/exchange/<split> as `python -m pipeline experiment` writes it. Writes
OUTPUT/<peer>.npz (default: DIR/peers) for each peer and prints its figures. Environments are made when first needed.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

from benchmarks.peers.data import PeerError, read_exchange
from benchmarks.peers.environments import environment

# Library -> its Python, None for the project's own, and its peers.
LIBRARIES: dict[str, tuple[str | None, tuple[str, ...]]] = {
    "implicit": (None, ("most_popular", "item_knn", "als")),
    "deepmatch": ("3.10", ("deepmatch_dssm", "deepmatch_youtubednn", "deepmatch_mind")),
    "torch_rechub": ("3.11", ("rechub_youtubednn",)),
}


def rank_with(peers: Sequence[str], exchange: Path, output: Path) -> None:
    """Trains the peers, a process for each library, and writes OUTPUT/<peer>.npz.

    Raises:
      PeerError: the folder is not as it should be, or an environment or a library fails.
    """
    read_exchange(exchange)  # a fault shows before an environment is made
    # Which Keras this project wants (models/__init__.py) is not for the others' environments.
    inherited = {name: value for name, value in os.environ.items() if name != "TF_USE_LEGACY_KERAS"}
    settings = inherited | {"OPENBLAS_NUM_THREADS": "1", "TF_CPP_MIN_LOG_LEVEL": "3", "TQDM_DISABLE": "1"}
    for library, (version, names) in LIBRARIES.items():
        chosen = [name for name in names if name in peers]
        if not chosen:
            continue
        python = sys.executable if version is None else environment(library, version)
        command = [python, "-m", f"benchmarks.peers.{library}", "--exchange", str(exchange), "--output", str(output)]
        for name in chosen:
            command += ["--peer", name]
        if subprocess.run(command, env=settings, check=False).returncode:
            raise PeerError(f"{library} failed; its own message stands above")


def main() -> None:
    peers = [peer for _, names in LIBRARIES.values() for peer in names]
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.peers", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--exchange", type=Path, required=True)
    parser.add_argument("--output", type=Path)
    parser.add_argument("--peer", choices=peers, action="append", help="may be given several times; default: all")
    arguments = parser.parse_args()
    try:
        rank_with(arguments.peer or peers, arguments.exchange, arguments.output or arguments.exchange / "peers")
    except PeerError as e:
        sys.exit(str(e))


if __name__ == "__main__":
    main()
