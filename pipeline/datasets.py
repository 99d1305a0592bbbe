"""Public data sets, downloaded and brought into the pipeline's input form."""

from __future__ import annotations

import csv
import hashlib
import io
import os
import subprocess
import sys
import tempfile
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path


class DatasetError(RuntimeError):
    """A data set that cannot be had or is not what it should be."""


# MovieLens-100K (F. M. Harper, J. A. Konstan, 2015, doi:10.1145/2827872) may be used for research but not
# passed on, so it is not part of this repository. The RecBole package carries a copy on the package index.
_RECBOLE = "recbole==1.2.1"
_RECBOLE_SHA256 = "9c9948202011f37eb0a7c6768129313f00d6403ad221ec940d5e2d5d5f33a407"
_MOVIELENS = "recbole/dataset_example/ml-100k/ml-100k."


def _download_wheel(requirement: str, sha256: str, folder: Path) -> Path:
    """Downloads one wheel, without its dependencies, from the package index that pip is set up for."""
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


def _rows(wheel: zipfile.ZipFile, name: str) -> Iterator[dict[str, str]]:
    """Rows of a RecBole file: tab-separated UTF-8, its header fields `name:type`, nothing quoted."""
    with wheel.open(name) as raw:
        lines = csv.reader(io.TextIOWrapper(raw, "utf-8", newline=""), delimiter="\t", quoting=csv.QUOTE_NONE)
        header = [field.partition(":")[0] for field in next(lines)]
        for row in lines:
            yield dict(zip(header, row, strict=True))


def _write(path: Path, columns: list[str], rows: Iterator[list[str]]) -> None:
    temporary = path.with_name(f".tmp-{path.name}")
    with temporary.open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(columns)
        writer.writerows(rows)
        file.flush()
        os.fsync(file.fileno())
    temporary.replace(path)


def movielens(folder: Path) -> None:
    """Writes interactions.csv, items.csv and users.csv of MovieLens-100K.

    An item's category is the first of its genres, which are all in the column genres, separated by |.

    Args:
      folder: created if need be.

    Raises:
      DatasetError: the download failed or is not the expected file.
    """
    folder.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory() as scratch:
        wheel_file = _download_wheel(_RECBOLE, _RECBOLE_SHA256, Path(scratch))
        with zipfile.ZipFile(wheel_file) as wheel:
            users = _rows(wheel, f"{_MOVIELENS}user")
            columns = ["user_id", "age", "gender", "occupation", "zip_code"]
            _write(folder / "users.csv", columns, ([r[c] for c in columns] for r in users))
            items = _rows(wheel, f"{_MOVIELENS}item")
            _write(
                folder / "items.csv",
                ["item_id", "title", "year", "category", "genres"],
                (
                    [
                        r["item_id"],
                        r["movie_title"],
                        r["release_year"] if r["release_year"].isdigit() else "",  # two are no year
                        genres[0],
                        "|".join(genres),
                    ]
                    for r in items
                    for genres in [r["class"].split()]
                ),
            )
            interactions = _rows(wheel, f"{_MOVIELENS}inter")
            columns = ["user_id", "item_id", "rating", "timestamp"]
            _write(folder / "interactions.csv", columns, ([r[c] for c in columns] for r in interactions))


DATASETS: dict[str, Callable[[Path], None]] = {"movielens": movielens}
