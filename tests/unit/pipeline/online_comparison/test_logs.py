import gzip
from pathlib import Path

import pytest

from pipeline.online_comparison import table
from pipeline.online_comparison.logs import Logs, read_logs
from pipeline.online_comparison.table import LogError

SHOWN = """impression_id,time,query_id,label,item_id,position
r1,1000,ann,stable,i1,1
r1,1000,ann,stable,i2,2
r2,87400,ann,stable,i1,1
r3,1000,bea,stable,i9,1
r4,2000,cyd,canary,i1,1
r4,2000,cyd,canary,i3,2
r5,2000,dee,canary,i1,1
"""
HAPPENED = """impression_id,item_id,time,kind,value
r1,i1,1010,click,
r1,i2,1011,click,0
r1,i2,1500,order,10.5
r2,i1,87410,order,4
r4,i3,2010,click,
"""


def read(folder: Path, shown: str = SHOWN, happened: str = HAPPENED) -> Logs:
    files = folder / "shown.csv", folder / "happened.csv"
    files[0].write_text(shown)
    files[1].write_text(happened)
    return read_logs(files[:1], files[1:], "stable", "canary")


def users(logs: Logs) -> list[list[tuple[float, ...]]]:
    return [
        sorted(zip(arm.impressions, arm.clicks, arm.orders, arm.value, strict=True))
        for arm in (logs.control, logs.treatment)
    ]


# (impressions, clicks, orders, money) of bea and ann, and of dee and cyd.
EXPECTED = [[(1, 0, 0, 0), (3, 2, 2, 14.5)], [(1, 0, 0, 0), (2, 1, 0, 0)]]


def test_sums_by_user(tmp_path: Path) -> None:
    logs = read(tmp_path)
    assert users(logs) == EXPECTED
    assert logs.days == 1.0  # 1000 to 87400
    assert (logs.control.click_position, logs.treatment.click_position) == (1.5, 2.0)


def test_what_is_delivered_twice_counts_once(tmp_path: Path) -> None:
    again = "".join(HAPPENED.splitlines(keepends=True)[1:])
    more = "r1,i1,1015,click,\nr2,i1,87410,order,3\n"  # clicked again; another order at the same time
    logs = read(tmp_path, SHOWN + "r1,1000,ann,stable,i2,2\n", HAPPENED + again + more)
    assert users(logs) == [[(1, 0, 0, 0), (3, 2, 3, 17.5)], EXPECTED[1]]
    assert (logs.left_out.repeated_impressions, logs.left_out.repeated_outcomes) == (1, 6)


def test_who_changed_the_label_is_left_out(tmp_path: Path) -> None:
    # eve under both; fay under stable and a label that is not compared; gus under that one alone.
    more = "r6,1000,eve,stable,i1,1\nr7,1000,eve,canary,i1,1\nr8,1000,fay,stable,i1,1\n"
    other = "r9,1000,fay,third,i1,1\nr10,1000,gus,third,i1,1\n"
    logs = read(tmp_path, SHOWN + more + other, HAPPENED + "r6,i1,1010,click,\nr10,i1,1010,click,\n")
    assert users(logs) == EXPECTED
    assert (logs.left_out.changed_label, logs.left_out.changed_label_names) == (2, ("eve", "fay"))
    assert logs.left_out.changed_label_share == 2 / 6
    assert (logs.left_out.other_labels, logs.left_out.without_impression) == (2, 0)


def test_outcomes_without_an_impression_are_counted_and_named(tmp_path: Path) -> None:
    # An unknown impression; an unknown item; an item that this impression does not show.
    logs = read(tmp_path, happened=HAPPENED + "r99,i1,1,click,\nr1,i99,1,click,\nr3,i1,1,click,\n")
    assert users(logs) == EXPECTED
    assert logs.left_out.without_impression == 3
    assert logs.left_out.without_impression_share == 3 / 8
    happened = tmp_path / "happened.csv"
    assert logs.left_out.without_impression_rows == tuple(f"{happened}, row {row}" for row in (7, 8, 9))


def test_several_files_packed_in_small_pieces(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(table, "BLOCK_BYTES", 80)
    header, *rows = SHOWN.splitlines(keepends=True)
    first, second, happened = tmp_path / "1.csv.gz", tmp_path / "2.csv", tmp_path / "h.csv"
    first.write_bytes(gzip.compress((header + "".join(rows[:3])).encode()))
    # Other columns, another order of them, quotes, a byte order mark, CRLF.
    lines = [
        "\ufeffpage,query_id,time,label,item_id,impression_id,position",
        *(
            f'"a,b",{q},{t},{label},"{i}",{r},{p}'
            for r, t, q, label, i, p in (row.strip().split(",") for row in rows[3:])
        ),
    ]
    second.write_text("\r\n".join(lines) + "\r\n")
    happened.write_text(HAPPENED)
    assert users(read_logs([first, second], [happened], "stable", "canary")) == EXPECTED
    second.write_text(SHOWN.replace("r5,2000,dee,canary,i1,1", "r5,2000,dee,canary,i1,first"))
    with pytest.raises(LogError, match=r"2\.csv, row 8, column position: expected a whole number from 1, got 'first'$"):
        read_logs([second], [happened], "stable", "canary")


SHOWN_ERRORS = [
    ("r1,1000,ann,stable,i2,2", ",1000,ann,stable,i2,2", "row 3, column impression_id: expected an id, got ''"),
    ("r1,1000,ann,stable,i2,2", "r1,noon,ann,stable,i2,2", "row 3, column time: expected unix seconds, got 'noon'"),
    ("r1,1000,ann,stable,i2,2", "r1,,ann,stable,i2,2", "row 3, column time: expected unix seconds, got ''"),
    (
        "r3,1000,bea",
        "r3,1000,",
        r"row 5, column query_id: expected an id \(without one nothing was randomised\), got ''",
    ),
    ("cyd,canary,i3,2", "cyd,canary,i3,0", "row 7, column position: expected a whole number from 1, got '0'"),
    ("cyd,canary,i3,2", "cyd,canary,i3,1_0", "row 7, column position: expected a whole number from 1, got '1_0'"),
    (
        "r2,87400,ann,stable",
        "r1,87400,bob,stable",
        "row 4, column query_id: expected the same as in the impression's other",
    ),
    (
        "cyd,canary,i3",
        "cyd,stable,i3",
        "row 7, column label: expected the same as in the impression's other rows, got 'st",
    ),
    ("r1,1000,ann,stable,i2,2", "r1,1000,ann,stable,i1,2", "impression 'r1' shows item 'i1' at the positions 1 and 2"),
    ("r2,87400,ann", "r2,87400", "shown.csv: expected CSV in UTF-8 with a header: .*Row #4: Expected 6 columns, got 5"),
    (
        "r2,87400,ann,stable,i1,1",
        'r2,87400,ann,stable,i1,"1',
        "row 4, column position: a line break in a field, or a quote that is not closed",
    ),
    (
        "position\n",
        "place\n",
        "shown.csv: column position is missing; expected impression_id, time, .* got impression_id",
    ),
    ("item_id,position\n", "label,position\n", "shown.csv: column label stands more than once"),
    ("canary", "test", "no impression has the label 'canary'; the log has: stable, test"),
    ("bea,stable", "ann,stable", "label 'stable' alone answered 1 users; an interval needs two at least"),
]


@pytest.mark.parametrize(("old", "new", "message"), SHOWN_ERRORS)
def test_broken_impressions(tmp_path: Path, old: str, new: str, message: str) -> None:
    with pytest.raises(LogError, match=message):
        read(tmp_path, SHOWN.replace(old, new))


HAPPENED_ERRORS = [
    ("r1,i2,1011,click,0", "r1,,1011,click,0", "row 3, column item_id: expected an id, got ''"),
    ("r1,i2,1011,click,0", "r1,i2,1011,view,0", "row 3, column kind: expected click or order, got 'view'"),
    ("r1,i2,1011,click,0", "r1,i2,1011,click,7", "row 3, column value: expected nothing for a click, got '7'"),
    ("order,4", "order,-4", "row 5, column value: expected a number from 0, or nothing for a click, got '-4'"),
    ("order,4", "order,1_0", "row 5, column value: expected a number from 0, or nothing for a click, got '1_0'"),
    ("order,4", "order,inf", "row 5, column value: expected a number from 0, or nothing for a click, got 'inf'"),
    ("order,4", "order,", "row 5, column value: expected an order's value, got ''"),
]


@pytest.mark.parametrize(("old", "new", "message"), HAPPENED_ERRORS)
def test_broken_outcomes(tmp_path: Path, old: str, new: str, message: str) -> None:
    with pytest.raises(LogError, match=f"happened.csv, {message}"):
        read(tmp_path, happened=HAPPENED.replace(old, new))


def test_files_that_are_no_csv(tmp_path: Path) -> None:
    happened = tmp_path / "happened.csv"
    happened.write_text(HAPPENED)
    broken = tmp_path / "b.csv.gz"
    for content in (b"", b"\xff\xfe", SHOWN.encode(), gzip.compress(SHOWN.encode())[:-9], gzip.compress(b"a\n\xff\n")):
        broken.write_bytes(content)
        with pytest.raises(LogError, match=r"b\.csv\.gz: "):
            read_logs([broken], [happened], "stable", "canary")
