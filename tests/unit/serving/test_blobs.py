from pathlib import Path

import numpy as np
import pytest

from serving.blobs import BlobError, BlobTable, write_table

AWKWARD = [b"", b"007", b"7", b'a,"b"\nc', b"a\x00b", b"\xff\xfe", "日本語".encode(), b"a\r\n"]


def test_rows_survive_byte_for_byte(tmp_path: Path) -> None:
    assert write_table(tmp_path / "t", iter(AWKWARD)) == len(AWKWARD)
    table = BlobTable(tmp_path / "t")
    assert [table[row] for row in range(len(table))] == AWKWARD
    assert table.take(np.array([3, 0, 3])) == [AWKWARD[3], b"", AWKWARD[3]]
    with pytest.raises(IndexError, match="row 8 of 8"):
        table[8]


def test_find_in_sorted_table(tmp_path: Path) -> None:
    rows = sorted(AWKWARD)
    write_table(tmp_path / "t", rows)
    table = BlobTable(tmp_path / "t")
    assert [table.find(row) for row in rows] == list(range(len(rows)))
    assert table.find(b"00") is None
    assert table.find(b"\xff\xff") is None


@pytest.mark.parametrize("rows", [[], [b""], [b"", b""]])
def test_tables_without_data(tmp_path: Path, rows: list[bytes]) -> None:
    write_table(tmp_path / "t", rows)
    table = BlobTable(tmp_path / "t")
    assert len(table) == len(rows)
    assert [table[row] for row in range(len(rows))] == rows
    assert table.find(b"x") is None


def test_truncated_data_is_refused(tmp_path: Path) -> None:
    write_table(tmp_path / "t", [b"abc", b"def"])
    (tmp_path / "t" / "data.bin").write_bytes(b"abcde")
    with pytest.raises(BlobError, match="does not fit the 5 bytes"):
        BlobTable(tmp_path / "t")


def test_truncated_offsets_are_refused(tmp_path: Path) -> None:
    write_table(tmp_path / "t", [b"abc", b"def"])
    offsets = tmp_path / "t" / "offsets.npy"
    offsets.write_bytes(offsets.read_bytes()[:-8])
    with pytest.raises(BlobError, match="cannot read it"):
        BlobTable(tmp_path / "t")


@pytest.mark.parametrize(
    "offsets",
    [
        np.array([0, 5, 3, 6]),  # falls
        np.array([1, 3, 6]),  # does not start at 0
        np.array([0.0, 6.0]),  # floats
        np.array([[0, 6]]),  # two axes
    ],
)
def test_inconsistent_offsets_are_refused(tmp_path: Path, offsets: np.ndarray) -> None:
    write_table(tmp_path / "t", [b"abc", b"def"])
    np.save(tmp_path / "t" / "offsets.npy", offsets)
    with pytest.raises(BlobError, match=r"offsets\.npy"):
        BlobTable(tmp_path / "t")


def test_pickled_offsets_are_refused(tmp_path: Path) -> None:
    write_table(tmp_path / "t", [b"abc"])
    np.save(tmp_path / "t" / "offsets.npy", np.array([0, 3], dtype=object), allow_pickle=True)
    with pytest.raises(BlobError, match="cannot read it"):
        BlobTable(tmp_path / "t")


def test_missing_table_is_refused(tmp_path: Path) -> None:
    with pytest.raises(BlobError, match="cannot read it"):
        BlobTable(tmp_path / "absent")
