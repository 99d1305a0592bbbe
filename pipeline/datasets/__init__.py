"""Public data sets brought into the pipeline's input form, one file each."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from pipeline.datasets.amazon_beauty import amazon_beauty
from pipeline.datasets.files import DatasetError
from pipeline.datasets.movielens import movielens
from pipeline.datasets.ta_feng import ta_feng
from pipeline.datasets.ta_feng_daily import ta_feng_daily

# Name -> what writes the set's files to a folder.
DOWNLOADED: dict[str, Callable[[Path], None]] = {"movielens": movielens, "ta_feng": ta_feng}
# Name -> the same from files in a folder of the user's, which comes first.
FROM_FOLDER: dict[str, Callable[[Path, Path], None]] = {
    "amazon_beauty": amazon_beauty,
    "ta_feng_daily": ta_feng_daily,
}

__all__ = ["DOWNLOADED", "FROM_FOLDER", "DatasetError", "amazon_beauty", "movielens", "ta_feng", "ta_feng_daily"]
