"""Values of a Parquet file that Python's own types cannot hold."""

from __future__ import annotations

from datetime import date, datetime
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from components.ingestion.errors import BadValue
from components.ingestion.parquet_reader import read_parquet
from components.ingestion.values import timestamp_parser


@pytest.mark.parametrize(
    ("kind", "far", "good"),
    [
        (pa.timestamp("ms"), 10**15, datetime(1970, 1, 1, 0, 0, 1)),
        (pa.timestamp("ms", "Europe/Berlin"), -(10**15), datetime(1970, 1, 1, 0, 0, 1)),
        (
            pa.timestamp("ms"),
            2**64 // 1000 + 1,
            datetime(1970, 1, 1, 0, 0, 1),
        ),  # in microseconds it begins anew at 1970
        (pa.timestamp("us", "UTC"), 3 * 10**17, datetime(1970, 1, 1, 0, 0, 0, 1000)),
        (pa.date32(), 10**8, date(1972, 9, 27)),
    ],
)
def test_a_moment_that_no_datetime_holds_costs_its_row_only(
    tmp_path: Path, kind: pa.DataType, far: int, good: date
) -> None:
    numbers = pa.array([far, 1000, None], pa.int32() if pa.types.is_date(kind) else pa.int64())
    pq.write_table(pa.table({"at": numbers.cast(kind)}), tmp_path / "log.parquet")
    values = [record.values[0] for record in read_parquet(str(tmp_path / "log.parquet"), ["at"])]
    assert values[1:] == [good, None]
    for timestamp_format in ("unix_seconds", "unix_milliseconds", "iso8601", "%Y-%m-%d"):
        with pytest.raises(BadValue, match=r"^bad_date$"):
            timestamp_parser(timestamp_format)(values[0])


def test_a_text_that_is_no_utf8_costs_its_row_only(tmp_path: Path) -> None:
    texts = pa.Array.from_buffers(
        pa.string(), 3, [None, pa.py_buffer(np.array([0, 1, 3, 5], np.int32)), pa.py_buffer(b"a\xc3(bc")]
    )
    lists = pa.ListArray.from_arrays([0, 1, 1, 3], texts)  # ["a"], [], [broken, "bc"]
    pq.write_table(pa.table({"n": [1, 2, 3], "text": texts, "tags": lists}), tmp_path / "items.parquet")
    path = str(tmp_path / "items.parquet")
    read = [(r.number, r.reason or r.values) for r in read_parquet(path, ["n", "text"])]
    assert read == [(1, (1, "a")), (2, "broken_encoding"), (3, (3, "bc"))]
    read = [(r.number, r.reason or r.values) for r in read_parquet(path, ["tags"])]
    assert read == [(1, (["a"],)), (2, ([],)), (3, "broken_encoding")]
