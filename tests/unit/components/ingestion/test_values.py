"""Conversion of single values."""

from __future__ import annotations

from datetime import date, datetime, timedelta, timezone

import pytest

from components.ingestion.errors import BadValue
from components.ingestion.values import timestamp_parser, to_categories, to_category, to_id, to_number, to_text

DAY = 86_400


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        ("007", b"007"),
        ("a,b", b"a,b"),
        ('"', b'"'),
        (" x ", b" x "),
        ("né", "né".encode()),
        (7, b"7"),
        (b"7", b"7"),
        ([7], b"7"),
    ],
)
def test_ids_are_kept_as_they_are(value: object, expected: bytes) -> None:
    assert to_id(value) == expected


@pytest.mark.parametrize(
    ("value", "reason"),
    [
        ("", "missing_id"),
        (None, "missing_id"),
        ([], "missing_id"),
        (float("nan"), "missing_id"),
        (7.0, "bad_id"),
        (["a", "b"], "bad_id"),
        ("line\nbreak", "bad_id"),
        ("line\rbreak", "bad_id"),
        ("a\0b", "nul_byte"),
        (b"\xff", "broken_encoding"),
        ("\udcff", "broken_encoding"),
    ],
)
def test_bad_ids(value: object, reason: str) -> None:
    with pytest.raises(BadValue, match=rf"^{reason}$"):
        to_id(value)


def test_texts() -> None:
    assert to_text("") is None
    assert to_text(["x"]) == b"x"
    assert to_text(True) == b"True"
    assert to_text(float("nan")) is None
    assert to_text(2.5) == b"2.5"
    assert to_text("two\nlines") == b"two\nlines"


def test_categories() -> None:
    assert to_category("") is None
    assert to_category(" a b ") == b" a b "
    assert to_categories("a||b c|", "|") == [b"a", b"b c"]
    assert to_categories(["a|b", "", "c"], "|") == [b"a|b", b"c"]
    assert to_categories(None, "|") == []


@pytest.mark.parametrize("value", ["two\nlines", b"two\rlines", ["two\r\nlines"]])
def test_a_category_with_a_line_break_would_be_lost_by_the_vocabularies(value: object) -> None:
    with pytest.raises(BadValue, match=r"^line_break$"):
        to_category(value)
    with pytest.raises(BadValue, match=r"^line_break$"):
        to_categories(value, "|")


@pytest.mark.parametrize(("value", "expected"), [("1.5", 1.5), ("-2e3", -2000.0), ("", None), (None, None), ([3], 3.0)])
def test_numbers(value: object, expected: float | None) -> None:
    assert to_number(value) == expected


@pytest.mark.parametrize("value", ["x", "nan", "inf", "-inf", "1e39", "1_000", "1,5", float("nan"), [1.0, 2.0]])
def test_bad_numbers(value: object) -> None:
    with pytest.raises(BadValue, match=r"^bad_number$"):
        to_number(value)


@pytest.mark.parametrize(
    ("timestamp_format", "value", "expected"),
    [
        ("unix_seconds", "881250949", 881_250_949),
        ("unix_seconds", "881250949.9", 881_250_949),
        ("unix_seconds", 881_250_949, 881_250_949),
        ("unix_seconds", "", None),
        ("unix_milliseconds", "881250949999", 881_250_949),
        ("unix_milliseconds", "881250949999.5", 881_250_949),
        ("unix_milliseconds", "10000000000", 10_000_000),
        ("iso8601", "1970-01-02", DAY),
        ("iso8601", "1970-01-02T00:00:01Z", DAY + 1),
        ("iso8601", "1970-01-02T02:00:00.500+02:00", DAY),
        ("iso8601", "1970-01-02T00:00:01.123456789Z", DAY + 1),
        ("iso8601", "1970-01-02T05:30:00+0530", DAY),
        ("iso8601", "1970-01-02 00:00:01.5+00", DAY + 1),
        ("iso8601", "1970-01-01T19:00-05", DAY),
        ("%m/%d/%Y", "01/02/1970", DAY),
        ("%Y-%m-%d %H:%M %z", "1970-01-02 01:00 +0100", DAY),
        ("unix_seconds", datetime(1970, 1, 2, 0, 0, 1, 999_999), DAY + 1),
        ("unix_seconds", datetime(1970, 1, 2, tzinfo=timezone(timedelta(hours=1))), DAY - 3600),
        ("unix_seconds", date(1970, 1, 2), DAY),
    ],
)
def test_timestamps(timestamp_format: str, value: object, expected: int | None) -> None:
    assert timestamp_parser(timestamp_format)(value) == expected


@pytest.mark.parametrize(
    ("timestamp_format", "value"),
    [
        ("unix_seconds", "yesterday"),
        ("unix_seconds", "-1"),
        ("unix_seconds", "1_000"),
        ("unix_seconds", "nan"),
        ("unix_seconds", "inf"),
        ("unix_seconds", "881250949000"),  # milliseconds
        ("unix_milliseconds", "9999999999"),  # seconds
        ("unix_milliseconds", 881_250_949),
        ("iso8601", "1970-13-01"),
        ("iso8601", "1969-12-31"),
        ("iso8601", "1970-01-02T00:00:00+01:00+01"),
        ("%m/%d/%Y", "2/30/2000"),
        ("unix_seconds", [1, 2]),
    ],
)
def test_bad_dates(timestamp_format: str, value: object) -> None:
    with pytest.raises(BadValue, match=r"^bad_date$"):
        timestamp_parser(timestamp_format)(value)
