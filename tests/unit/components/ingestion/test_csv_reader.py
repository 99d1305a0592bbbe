"""The CSV reader on every kind of bad input."""

from __future__ import annotations

import io
import tracemalloc
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from components.ingestion.csv_reader import CsvReader, physical_lines, split_fields
from components.ingestion.errors import BadValue, IngestionError
from tests.unit.components.ingestion.helpers import write


def read(path: Path, max_row_bytes: int = 1000, delimiter: str = ",") -> list[tuple]:
    with CsvReader(str(path), delimiter, max_row_bytes) as reader:
        return [(record.number, record.reason or record.values) for record in reader]


def read_text(folder: Path, text: str | bytes, **kwargs: int) -> list[tuple]:
    return read(write(folder / "f.csv", text), **kwargs)


def test_rows_have_the_number_of_their_line(tmp_path: Path) -> None:
    assert read_text(tmp_path, "a,b\n1,2\n\n3,4") == [(2, ["1", "2"]), (4, ["3", "4"])]


def test_bom_and_crlf_are_no_part_of_the_values(tmp_path: Path) -> None:
    path = write(tmp_path / "f.csv", b"\xef\xbb\xbfa,b\r\n1,2\r\n\r\n3,\r\n")
    with CsvReader(str(path), ",", 100) as reader:
        assert reader.columns == ["a", "b"]
        assert [record.values for record in reader] == [["1", "2"], ["3", ""]]


def test_bom_before_a_quoted_header(tmp_path: Path) -> None:
    path = write(tmp_path / "f.csv", b'\xef\xbb\xbf"a","b"\r\n"1","2"\r\n')
    with CsvReader(str(path), ",", 100) as reader:
        assert reader.columns == ["a", "b"]
        assert [record.values for record in reader] == [["1", "2"]]


def test_quoted_fields_hold_delimiters_quotes_and_newlines(tmp_path: Path) -> None:
    text = 'a,b\n"x,y","say ""hi"""\n"two\r\nlines",2\n"",""\n5,6\n'
    assert read_text(tmp_path, text) == [
        (2, ["x,y", 'say "hi"']),
        (3, ["two\r\nlines", "2"]),
        (5, ["", ""]),
        (6, ["5", "6"]),
    ]


def test_a_quote_inside_an_unquoted_field_stands_for_itself(tmp_path: Path) -> None:
    assert read_text(tmp_path, 'a,b\n5" disc,1\n') == [(2, ['5" disc', "1"])]


def test_text_after_a_closing_quote_is_bad(tmp_path: Path) -> None:
    assert read_text(tmp_path, 'a,b\n"x"y,1\n2,3\n') == [(2, "bad_quotes"), (3, ["2", "3"])]


def test_an_unclosed_quote_costs_one_row(tmp_path: Path) -> None:
    text = 'a,b\n"x,1\n2,3\n"q",4\n5,6\n'
    # Joined, lines 2 to 4 give the field 'x,1\n2,3\n' followed by q, which is no row.
    assert read_text(tmp_path, text) == [(2, "unclosed_quote"), (3, ["2", "3"]), (4, ["q", "4"]), (5, ["5", "6"])]


def test_an_unclosed_quote_at_the_end_of_the_file(tmp_path: Path) -> None:
    assert read_text(tmp_path, 'a,b\n1,"x\n2,3') == [(2, "unclosed_quote"), (3, ["2", "3"])]


def test_a_join_with_the_wrong_number_of_columns_is_taken_back(tmp_path: Path) -> None:
    text = 'a,b\n"x,1\ny",2,3\n4,5\n'
    assert read_text(tmp_path, text) == [(2, "unclosed_quote"), (3, "wrong_column_count"), (4, ["4", "5"])]


def test_an_unclosed_quote_reads_ahead_no_further_than_a_row_may_be_long(tmp_path: Path) -> None:
    # The quote closes on line 5; lines 2 to 5 have 5 + 4 + 4 + 4 = 17 bytes with their newlines.
    text = 'a,b\n"x,1\n2,3\n2,3\n",4\n'
    assert read_text(tmp_path, text, max_row_bytes=17) == [(2, ["x,1\n2,3\n2,3\n", "4"])]
    assert read_text(tmp_path, text, max_row_bytes=16) == [
        (2, "unclosed_quote"),
        (3, ["2", "3"]),
        (4, ["2", "3"]),
        (5, "unclosed_quote"),
    ]


def test_where_every_line_leaves_a_quote_open_none_is_read_far_ahead() -> None:
    # Two fields that are over, and a third that is open: the line after it would be the fourth field's.
    asked = []
    with pytest.raises(BadValue, match=r"^unclosed_quote$"):
        split_fields('a","b","c\n', ",", lambda: asked.append(1) or 'a","b","c\n', columns=3)
    assert len(asked) == 1
    with pytest.raises(BadValue, match=r"^unclosed_quote$"):
        split_fields('1,2,3,"c\n', ",", lambda: pytest.fail("it read on"), columns=3)
    assert split_fields('1,2,"c\n', ",", lambda: 'd"\n', columns=3) == ["1", "2", "c\nd"]


def test_wrong_column_count(tmp_path: Path) -> None:
    assert read_text(tmp_path, "a,b\n1\n1,2,3\n1,2\n") == [
        (2, "wrong_column_count"),
        (3, "wrong_column_count"),
        (4, ["1", "2"]),
    ]


def test_broken_utf8_costs_its_row(tmp_path: Path) -> None:
    assert read_text(tmp_path, b"a,b\n\xff\xfe,1\n\xc3\xa9,2\n") == [(2, "broken_encoding"), (3, ["é", "2"])]


def test_a_long_line_is_skipped_and_its_beginning_kept(tmp_path: Path) -> None:
    path = write(tmp_path / "f.csv", "a,b\n" + "x" * 3000 + ",1\n2,3\n" + "y" * 11)
    with CsvReader(str(path), ",", 10) as reader:
        found = [(record.number, record.reason, record.values, record.raw) for record in reader]
    assert found == [
        (2, "too_long", None, "x" * 500),
        (3, None, ["2", "3"], "2,3"),
        (4, "too_long", None, "y" * 11),
    ]


def test_a_line_as_long_as_allowed(tmp_path: Path) -> None:
    assert read_text(tmp_path, "a,b\n123,567\n1234,678\n", max_row_bytes=7) == [(2, ["123", "567"]), (3, "too_long")]


@pytest.mark.parametrize("quote", ["", '"'])
def test_a_line_of_100_megabytes_is_one_bad_row_and_never_in_memory(tmp_path: Path, quote: str) -> None:
    path = tmp_path / "f.csv"
    with path.open("w") as file:
        file.write("a,b\n" + quote)
        for _ in range(100):
            file.write("x" * 1_000_000)
        file.write(quote + ",1\n2,3\n")
    tracemalloc.start()
    found = read(path, max_row_bytes=1 << 20)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert found == [(2, "too_long"), (3, ["2", "3"])]
    assert peak < 8 << 20  # chunks of 1 MiB, a row of at most 1 MiB


def test_gzip_and_other_delimiters(tmp_path: Path) -> None:
    assert read(write(tmp_path / "f.csv.gz", "a\tb\n1,5\t2\n"), delimiter="\t") == [(2, ["1,5", "2"])]


def test_a_gzip_file_that_was_cut_off_is_an_error(tmp_path: Path) -> None:
    path = write(tmp_path / "f.csv.gz", "a,b\n" + "".join(f"{i},{i * i}\n" for i in range(1000)))
    path.write_bytes(path.read_bytes()[:-20])
    with pytest.raises(IngestionError, match=r"f\.csv\.gz: damaged gzip file after line \d+"):
        read(path)


def test_an_empty_file_has_no_columns(tmp_path: Path) -> None:
    with CsvReader(str(write(tmp_path / "f.csv", "")), ",", 10) as reader:
        assert reader.columns == []
        assert list(reader) == []


def test_a_header_that_is_no_utf8_is_an_error(tmp_path: Path) -> None:
    path = write(tmp_path / "f.csv", "a,b\n1,2\n".encode("utf-16"))
    with pytest.raises(IngestionError, match=r"f\.csv: the header cannot be read \(broken_encoding\); expected UTF-8"):
        CsvReader(str(path), ",", 10)


@given(
    st.lists(st.binary(max_size=12).filter(lambda line: b"\n" not in line), max_size=8),
    st.integers(min_value=1, max_value=9),
    st.booleans(),
)
def test_lines_do_not_depend_on_the_chunks(lines: list[bytes], chunk_bytes: int, ends_in_newline: bool) -> None:
    content = b"\n".join(lines) + (b"\n" if lines and ends_in_newline else b"")
    expected = content.split(b"\n")
    last = expected.pop()
    whole = [(line + b"\n", False) if len(line) <= 5 else (line, True) for line in expected]
    if last:
        whole.append((last, len(last) > 5))
    found = list(physical_lines(io.BytesIO(content), 5, chunk_bytes))
    assert [too_long for _, too_long in found] == [too_long for _, too_long in whole]
    for (line, too_long), (expected_line, _) in zip(found, whole, strict=True):
        assert expected_line.startswith(line) if too_long else line == expected_line


@given(st.lists(st.lists(st.text(st.characters(exclude_categories=["Cs"])), min_size=2, max_size=2), min_size=1))
def test_what_is_written_quoted_is_read_back(tmp_path_factory: pytest.TempPathFactory, table: list[list[str]]) -> None:
    def quoted(value: str) -> str:
        return '"' + value.replace('"', '""') + '"'

    text = "a,b\n" + "".join(",".join(map(quoted, row)) + "\n" for row in table)
    path = write(tmp_path_factory.mktemp("csv") / "f.csv", text)
    assert [values for _, values in read(path, max_row_bytes=1 << 20)] == table
