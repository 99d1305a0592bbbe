from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import pytest

from pipeline.experiments.exchange import ExchangeError, read_ranks, write_folder, write_ranks

QUERIES, ITEMS = ["a", "a", "ü"], ["01", "1", "1"]


def test_the_files(tmp_path: Path) -> None:
    write_folder(tmp_path / "x", [("a", "0,1", 5, 0)], [("a", "2")], [("0,1", ""), ("2", 'say "hi"')])
    assert (tmp_path / "x" / "train.csv").read_text() == 'query_id,item_id,timestamp,position\na,"0,1",5,0\n'
    assert (tmp_path / "x" / "test.csv").read_text() == "query_id,item_id\na,2\n"
    assert (tmp_path / "x" / "items.csv").read_text() == 'item_id,category\n"0,1",\n2,"say ""hi"""\n'


def test_ranks_come_back_in_the_order_asked_for(tmp_path: Path) -> None:
    write_ranks(tmp_path / "peers" / "p.npz", QUERIES, ITEMS, np.array([1, 2, 3]))
    rank = read_ranks(tmp_path / "peers" / "p.npz", ["ü", "a", "a"], ["1", "1", "01"])
    assert rank.tolist() == [3, 2, 1]
    assert rank.dtype == np.int64


@pytest.mark.parametrize(
    ("queries", "items", "rank", "message"),
    [
        (["a", "a"], ["01", "1"], [1, 2], "no rank for query 'ü', item '1', which is held out"),
        ([*QUERIES, "b"], [*ITEMS, "9"], [1, 2, 3, 4], "has query 'b', item '9', which is not held out"),
        ([*QUERIES, "a"], [*ITEMS, "1"], [1, 2, 3, 4], "1 rows stand there twice"),
        (QUERIES, ITEMS, [1, 0, 3], "rank 0; ranks begin at 1"),
    ],
)
def test_rows_that_do_not_match(
    queries: list[str], items: list[str], rank: list[int], message: str, tmp_path: Path
) -> None:
    write_ranks(tmp_path / "p.npz", queries, items, np.array(rank))
    with pytest.raises(ExchangeError, match=re.escape(f"p.npz: {message}")):
        read_ranks(tmp_path / "p.npz", QUERIES, ITEMS)


def test_files_that_are_no_ranks(tmp_path: Path) -> None:
    (tmp_path / "text.npz").write_text("rank")
    np.savez(tmp_path / "short.npz", query_id=np.array(["a"]), item_id=np.array(["1"]))
    np.savez(tmp_path / "float.npz", query_id=np.array(["a"]), item_id=np.array(["1"]), rank=np.array([1.5]))
    for name in ("text", "short", "none"):
        with pytest.raises(ExchangeError, match=rf"{name}\.npz: cannot be read as query_id, item_id and rank"):
            read_ranks(tmp_path / f"{name}.npz", ["a"], ["1"])
    with pytest.raises(ExchangeError, match="rank of integers"):
        read_ranks(tmp_path / "float.npz", ["a"], ["1"])
