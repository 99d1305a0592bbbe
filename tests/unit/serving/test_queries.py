from pathlib import Path

import pytest

from serving.blobs import BlobError, write_table
from serving.queries import QueryStore, write_queries


def test_finds_what_was_written(tmp_path: Path) -> None:
    rows = [(b"", b"none"), (b"007", b"bond"), (b"7", b"seven"), ('ü,"\n'.encode(), b"")]
    assert write_queries(tmp_path / "q", rows) == 4
    store = QueryStore(tmp_path / "q")
    assert len(store) == 4
    assert [store.find(query_id) for query_id, _ in rows] == [stored for _, stored in rows]
    assert store.find(b"07") is None


@pytest.mark.parametrize("ids", [[b"b", b"a"], [b"a", b"a"]])
def test_ids_must_be_sorted_and_distinct(tmp_path: Path, ids: list[bytes]) -> None:
    with pytest.raises(ValueError, match="query 'a' comes after"):
        write_queries(tmp_path / "q", [(query_id, b"") for query_id in ids])


def test_tables_of_different_lengths_are_refused(tmp_path: Path) -> None:
    write_table(tmp_path / "q" / "ids", [b"a", b"b"])
    write_table(tmp_path / "q" / "examples", [b"1"])
    with pytest.raises(BlobError, match="2 ids, but 1 examples"):
        QueryStore(tmp_path / "q")


def test_sample_is_from_all_over_the_store(tmp_path: Path) -> None:
    rows = [(b"%d" % n, b"row %d" % n) for n in range(10)]
    write_queries(tmp_path / "q", rows)
    store = QueryStore(tmp_path / "q")
    assert store.sample(4) == [rows[0], rows[3], rows[6], rows[9]]
    assert store.sample(10) == store.sample(11) == rows
    write_queries(tmp_path / "none", [])
    assert QueryStore(tmp_path / "none").sample(4) == []
