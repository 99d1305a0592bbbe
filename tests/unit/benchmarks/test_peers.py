"""What all peers share: reading the exchange folder, histories, ranking, choosing. No peer's library is needed."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from benchmarks.peers import __main__ as command
from benchmarks.peers.choosing import Peer, Setting, choose
from benchmarks.peers.data import (
    HISTORY,
    Exchange,
    PeerError,
    Rows,
    histories_before,
    histories_of_all,
    hold_out_last,
    read_exchange,
)
from benchmarks.peers.ranking import Score, ranks, write_ranks
from pipeline.experiments import exchange as exchange_format


def _rows(*pairs: tuple[int, int]) -> Rows:
    table = np.array(pairs, np.int64)
    return Rows(table[:, 0], table[:, 1])


def _folder(folder: Path) -> Path:
    """Items a, b, c, d; u has b then a, v has c; d is held out for u, a for v, c for w, whom train does not know."""
    exchange_format.write_folder(
        folder,
        [("u", "b", 10, 0), ("u", "a", 20, 1), ("v", "c", 15, 0)],
        [("u", "d"), ("v", "a"), ("w", "c")],
        [("a", "x"), ("b", "y"), ("c", "x"), ("d", "")],
    )
    return folder


def test_the_exchange_folder_becomes_integers(tmp_path: Path) -> None:
    read = read_exchange(_folder(tmp_path))
    assert read.query_ids == ["u", "v", "w"]
    assert read.item_ids == ["a", "b", "c", "d"]
    assert read.category.tolist() == [1, 2, 1, 0]
    assert list(zip(read.train.query.tolist(), read.train.item.tolist(), strict=True)) == [(0, 1), (0, 0), (1, 2)]
    assert list(zip(read.test.query.tolist(), read.test.item.tolist(), strict=True)) == [(0, 3), (1, 0), (2, 2)]


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("items.csv", "item_id\na\n", r"items\.csv: columns item_id, expected item_id,category"),
        ("items.csv", "item_id,category\na,x\na,y\n", r"items\.csv, line 3: item 'a' stands twice"),
        (
            "train.csv",
            "query_id,item_id,timestamp,position\nu,z,1,0\n",
            r"train\.csv, line 2: item 'z' is not in items",
        ),
        (
            "train.csv",
            "query_id,item_id,timestamp,position\nu,a,1,first\n",
            r"line 2: position 'first', expected a num",
        ),
        ("train.csv", "query_id,item_id,timestamp,position\nu,a\n", r"train\.csv, line 2: 2 values, expected 4"),
        ("test.csv", "query_id,item_id\n", r"test\.csv: no row, expected at least one"),
    ],
)
def test_a_fault_in_the_folder_is_named(tmp_path: Path, name: str, content: str, message: str) -> None:
    (_folder(tmp_path) / name).write_text(content)
    with pytest.raises(PeerError, match=message):
        read_exchange(tmp_path)


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(PeerError, match=r"items\.csv: cannot be read: No such file or directory"):
        read_exchange(tmp_path)


def test_histories_hold_what_came_before_and_at_the_end_all() -> None:
    rows = _rows((0, 4), (0, 2), (0, 7), (2, 5))
    history, length = histories_before(rows, 3)
    assert history.shape == (4, HISTORY)
    assert [row[:3].tolist() for row in history] == [[0, 0, 0], [5, 0, 0], [5, 3, 0], [0, 0, 0]]
    assert length.tolist() == [0, 1, 2, 0]
    history, length = histories_of_all(rows, 3)
    assert [row[:4].tolist() for row in history] == [[5, 3, 8, 0], [0, 0, 0, 0], [6, 0, 0, 0]]
    assert length.tolist() == [3, 0, 1]


def test_a_long_history_keeps_the_last_items() -> None:
    rows = Rows(np.zeros(HISTORY + 3, np.int64), np.arange(HISTORY + 3))
    history, length = histories_before(rows, 1)
    # Before the last row, of index 52, lie items 0 to 51; the last 50 are 2 to 51, held as 3 to 52.
    assert history[-1].tolist() == list(range(3, 53))
    assert length[-1] == HISTORY


def test_validation_takes_the_last_row_of_queries_with_two() -> None:
    stay, taken = hold_out_last(_rows((0, 4), (0, 2), (1, 3), (2, 5), (2, 6), (2, 1)))
    assert list(zip(stay.query, stay.item, strict=True)) == [(0, 4), (1, 3), (2, 5), (2, 6)]
    assert list(zip(taken.query, taken.item, strict=True)) == [(0, 2), (2, 1)]


def _constant(*scores: float) -> Score:
    return lambda queries: np.tile(np.array(scores), (len(queries), 1))


# Items 0 to 4 all have a train row of query 9, so that each is known.
KNOWN = [(9, item) for item in range(5)]


def test_a_rank_counts_the_items_that_score_at_least_as_high() -> None:
    # Query 0 has seen item 0. Of the others 4 scores above item 2, and 3 the same: rank 3.
    rank = ranks(_rows((0, 0), *KNOWN), _rows((0, 2)), 10, 5, _constant(9.0, 1.0, 2.0, 2.0, 3.0))
    assert rank.tolist() == [3]


def test_the_other_held_out_items_are_not_ranked() -> None:
    # Held out are 1 and 3; 0 is seen; ranked beside each are 2 and 4, with 2.0 and 5.0.
    rank = ranks(_rows((0, 0), *KNOWN), _rows((0, 1), (0, 3)), 10, 5, _constant(9.0, 1.0, 2.0, 3.0, 5.0))
    assert rank.tolist() == [3, 2]


def test_one_score_for_all_ranks_last() -> None:
    assert ranks(_rows(*KNOWN), _rows((0, 2)), 10, 5, _constant(1.0, 1.0, 1.0, 1.0, 1.0)).tolist() == [5]


def test_nan_and_items_without_a_train_row_are_lowest() -> None:
    nan = float("nan")
    assert ranks(_rows(*KNOWN), _rows((0, 2)), 10, 5, _constant(-5.0, -4.0, nan, -3.0, -2.0)).tolist() == [5]
    # Item 4 has no train row: its high score counts for nothing, and as a target it is last.
    known = _rows(*KNOWN[:4])
    assert ranks(known, _rows((0, 2)), 10, 5, _constant(0.0, 0.0, 1.0, 0.0, 9.0)).tolist() == [1]
    assert ranks(known, _rows((0, 4)), 10, 5, _constant(0.0, 0.0, 1.0, 0.0, 9.0)).tolist() == [5]


def test_ranks_are_read_by_the_experiments(tmp_path: Path) -> None:
    exchange = read_exchange(_folder(tmp_path))
    write_ranks(tmp_path / "peers" / "some.npz", exchange, np.array([1, 2, 3]))
    read = exchange_format.read_ranks(tmp_path / "peers" / "some.npz", ["w", "u", "v"], ["c", "d", "a"])
    assert read.tolist() == [3, 1, 2]
    assert [path.name for path in (tmp_path / "peers").iterdir()] == ["some.npz"]


def test_the_best_setting_and_epoch_of_the_validation_split_are_chosen() -> None:
    # Query 1 has all of the 60 items, 59 last. Query 0 has 0, 1, 2. So 2 and 59 are held out to choose by.
    train = _rows((0, 0), (0, 1), (0, 2), *((1, item) for item in range(60)))
    exchange = Exchange(["q", "r"], [str(i) for i in range(60)], np.zeros(60, np.int64), train, _rows((0, 5)))
    seen = []

    def fit(exchange: Exchange, rows: Rows, setting: Setting) -> Iterator[Score]:
        seen.append(len(rows))
        for better in setting["better"]:
            # `better` other items beat item 2, which query 0 has held out.
            scores = np.where(np.arange(60) >= 60 - better, 2.0, 0.0)
            scores[2] = 1.0
            yield lambda queries, scores=scores: np.tile(scores, (len(queries), 1))

    settings = [{"better": [55, 10]}, {"better": [20, 5, 30]}]
    # Query 1 has nothing else to rank: rank 1. Of the items that beat item 2, 59 is the one that no row is left of:
    # query 0's ranks are 55, 10 and 20, 5, 30.
    assert choose(Peer(settings, fit), exchange) == (settings[1], 2)
    assert seen == [61, 61]


def test_other_environments_get_their_own_keras(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    python = tmp_path / "python"
    script = f'#!/bin/sh\necho "${{TF_USE_LEGACY_KERAS-none}} $OPENBLAS_NUM_THREADS" > {tmp_path}/environment\n'
    python.write_text(script)
    python.chmod(0o755)
    monkeypatch.setattr(command, "environment", lambda library, version: str(python))
    monkeypatch.setenv("TF_USE_LEGACY_KERAS", "1")
    command.rank_with(["deepmatch_dssm"], _folder(tmp_path / "exchange"), tmp_path)
    assert (tmp_path / "environment").read_text() == "none 1\n"
