"""Ta-Feng as it would have been delivered: a folder for each day. What scheduled retraining is shown on."""

from __future__ import annotations

import csv
import shutil
from collections import defaultdict
from datetime import datetime, timezone
from pathlib import Path

from pipeline.datasets.files import DatasetError, write_csv

_FIRST_DAY = datetime(2000, 11, 1, tzinfo=timezone.utc)
_DAY_SECONDS = 86_400


def ta_feng_daily(source: Path, folder: Path) -> None:
    """Cuts Ta-Feng into spans: <span>/interactions.csv, with span 0 for 2000-11-01, and items.csv and users.csv beside.

    Args:
      source: the folder that `data ta_feng` wrote.
      folder: created if need be.

    Raises:
      DatasetError: the source lacks a file, or its interactions are not what `data ta_feng` writes.
    """
    for name in ("interactions.csv", "items.csv", "users.csv"):
        if not (source / name).is_file():
            raise DatasetError(f"{source}: expected {name} in it; python -m pipeline data ta_feng writes it")
    spans: defaultdict[int, list[list[str]]] = defaultdict(list)
    with (source / "interactions.csv").open(encoding="utf-8", newline="") as file:
        rows = csv.reader(file)
        columns = next(rows, [])
        if "timestamp" not in columns:
            raise DatasetError(f"{source}/interactions.csv: columns {','.join(columns)}, expected timestamp among them")
        place = columns.index("timestamp")
        for row in rows:
            try:
                span = (int(row[place]) - int(_FIRST_DAY.timestamp())) // _DAY_SECONDS
            except (IndexError, ValueError) as e:
                raise DatasetError(
                    f"{source}/interactions.csv, line {rows.line_num}: expected unix seconds in column timestamp"
                ) from e
            spans[span].append(row)
    if not spans:
        raise DatasetError(f"{source}/interactions.csv: has no row")
    if min(spans) < 0:
        raise DatasetError(f"{source}/interactions.csv: has an interaction before {_FIRST_DAY:%Y-%m-%d}")
    for span, of_span in sorted(spans.items()):
        (folder / str(span)).mkdir(parents=True, exist_ok=True)
        write_csv(folder / str(span) / "interactions.csv", columns, of_span)
    for name in ("items.csv", "users.csv"):
        shutil.copyfile(source / name, folder / name)
