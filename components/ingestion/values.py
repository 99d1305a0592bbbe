"""Conversion of single values, whatever the file format: text, numbers, moments.

CSV gives `str` only, "" being a missing value. Parquet and TFRecord give `str`, `bytes`, `bool`,
`int`, `float`, `datetime`, lists of those, or None.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable
from datetime import date, datetime, timezone
from functools import lru_cache

from components.ingestion.errors import BadValue

# The last second of the year 9999: a larger number is surely not in seconds.
MAX_TIMESTAMP = 253_402_300_799
# In milliseconds 26 April 1970, in seconds the year 2286: a smaller number is surely not in milliseconds.
MIN_MILLISECONDS = 10_000_000_000
MAX_FLOAT32 = 3.4028234663852886e38

_FRACTION = re.compile(r"(?<=:\d\d)[.,]\d+")
_SHORT_OFFSET = re.compile(r"(?<=:\d\d[+-]\d\d)(\d\d)?$")
_EPOCH = datetime(1970, 1, 1, tzinfo=timezone.utc)


def to_text(value: object) -> bytes | None:
    """A text value as UTF-8, kept as it is; None if it is missing.

    Raises:
      BadValue: "broken_encoding", "nul_byte", or "bad_text" for several values.
    """
    if isinstance(value, str):
        try:
            text = value.encode()
        except UnicodeEncodeError:
            raise BadValue("broken_encoding") from None
    elif value is None:
        return None
    elif isinstance(value, bytes):
        try:
            value.decode()
        except UnicodeDecodeError:
            raise BadValue("broken_encoding") from None
        text = value
    elif isinstance(value, list):
        if len(value) > 1:
            raise BadValue("bad_text")
        return to_text(value[0]) if value else None
    elif isinstance(value, float) and math.isnan(value):
        return None
    else:
        text = str(value).encode()
    if b"\0" in text:
        raise BadValue("nul_byte")
    return text or None


def _has_line_break(text: bytes) -> bool:
    """Transform's vocabularies are files of one value a line, and leave such a value out without a word."""
    return b"\n" in text or b"\r" in text


def to_category(value: object) -> bytes | None:
    """A value that a vocabulary can have; None if it is missing.

    Raises:
      BadValue: "line_break", or what `to_text` raises.
    """
    text = to_text(value)
    if text is not None and _has_line_break(text):
        raise BadValue("line_break")
    return text


def to_id(value: object) -> bytes:
    """An id as UTF-8, kept as it is: leading zeros, quotes and spaces too.

    Raises:
      BadValue: "missing_id", "bad_id" for a float, a list or an id with a line break, or what `to_text` raises.
    """
    if isinstance(value, list) and len(value) == 1:
        value = value[0]
    # 7.0 and 7 would be two ids in two files; a float id is a mistake of the export.
    if isinstance(value, float | list) and value != []:
        raise BadValue("missing_id" if isinstance(value, float) and math.isnan(value) else "bad_id")
    text = to_text(value)
    if text is None:
        raise BadValue("missing_id")
    if _has_line_break(text):
        raise BadValue("bad_id")
    return text


def to_categories(value: object, separator: str) -> list[bytes]:
    """Several values that a vocabulary can have: a list as it is, one text split at the separator.

    Raises:
      BadValue: as `to_category`.
    """
    parts = value if isinstance(value, list) else None
    if parts is None:
        text = to_category(value)
        return [part for part in text.split(separator.encode()) if part] if text else []
    return [text for text in map(to_category, parts) if text is not None]


def to_number(value: object) -> float | None:
    """A number that fits a finite float32; None if it is missing.

    Raises:
      BadValue: "bad_number", also for NaN and the infinities.
    """
    if isinstance(value, list) and len(value) <= 1:
        value = value[0] if value else None
    if value is None or value == "" or value == b"":
        return None
    if isinstance(value, bytes):
        value = value.decode(errors="replace")
    # Python reads "1_000" as a number; a file that says so means something else.
    if isinstance(value, str) and "_" in value:
        raise BadValue("bad_number")
    try:
        number = float(value)  # type: ignore[arg-type]
    except (TypeError, ValueError):
        raise BadValue("bad_number") from None
    if not abs(number) <= MAX_FLOAT32:
        raise BadValue("bad_number")
    return number


def _seconds(moment: datetime) -> int:
    if moment.tzinfo is None:
        moment = moment.replace(tzinfo=timezone.utc)
    return math.floor((moment - _EPOCH).total_seconds())


def _unix(text: str) -> int:
    if "_" in text:
        raise ValueError(text)
    try:
        return int(text)
    except ValueError:
        return math.floor(float(text))


def _unix_from_milliseconds(text: str) -> int:
    milliseconds = _unix(text)
    if milliseconds < MIN_MILLISECONDS:
        raise ValueError(text)
    return milliseconds // 1000


def _iso8601(text: str) -> int:
    # Python 3.10 knows neither the "Z" of ISO 8601, nor offsets without a colon, as PostgreSQL and strftime write them,
    # nor fractions other than of 3 or 6 digits.
    if text.endswith(("Z", "z")):
        text = text[:-1] + "+00:00"
    text = _FRACTION.sub("", text, count=1)
    return _seconds(datetime.fromisoformat(_SHORT_OFFSET.sub(lambda found: f":{found[1] or '00'}", text)))


def timestamp_parser(timestamp_format: str) -> Callable[[object], int | None]:
    """Makes the parser of moments.

    Args:
      timestamp_format: "unix_seconds", "unix_milliseconds", "iso8601" or a strptime pattern. What
        names no time zone is UTC.

    Returns:
      A function from a value to unix seconds, rounded down; None if the value is missing. It raises
      BadValue "bad_date" for what does not parse, for moments before 1970 and after 9999, and for milliseconds
      that would be before 26 April 1970.
    """

    # Days repeat: strptime is the slowest step of reading without the cache.
    @lru_cache(maxsize=65_536)
    def parse(text: str) -> int:
        if timestamp_format == "unix_seconds":
            return _unix(text)
        if timestamp_format == "unix_milliseconds":
            return _unix_from_milliseconds(text)
        if timestamp_format == "iso8601":
            return _iso8601(text)
        return _seconds(datetime.strptime(text, timestamp_format))

    def to_timestamp(value: object) -> int | None:
        if isinstance(value, list) and len(value) <= 1:
            value = value[0] if value else None
        if value is None or value == "" or value == b"":
            return None
        try:
            if isinstance(value, datetime):
                seconds = _seconds(value)
            elif isinstance(value, date):
                seconds = _seconds(datetime(value.year, value.month, value.day, tzinfo=timezone.utc))
            elif isinstance(value, bytes):
                seconds = parse(value.decode())
            elif isinstance(value, str | int | float):
                seconds = parse(str(value))
            else:
                raise BadValue("bad_date")
        except (ValueError, OverflowError):
            raise BadValue("bad_date") from None
        if not 0 <= seconds <= MAX_TIMESTAMP:
            raise BadValue("bad_date")
        return seconds

    return to_timestamp
