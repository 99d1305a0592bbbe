"""Configuration of ingestion. Imports no TensorFlow."""

from __future__ import annotations

import re
from collections.abc import Iterable
from datetime import date, datetime, timezone
from pathlib import PurePath
from typing import Annotated, Literal

from pydantic import AfterValidator, Field, field_validator, model_validator

from models.config import FeatureSpec, Frozen, NonNegativeInt, PositiveInt, Share

TIMESTAMP_FORMATS = ("unix_seconds", "unix_milliseconds", "iso8601")
DATE_PARTS = {"{YYYY}": "%Y", "{MM}": "%m", "{DD}": "%d"}
_PLACEHOLDER_AT_WILDCARD = re.compile(r"[*?\]]\{SPAN\}|\{SPAN\}[*?\[0-9]|[0-9]\{SPAN\}")


def _names_files(pattern: str) -> str:
    if not PurePath(pattern).name:
        raise ValueError("expected a file's name or a pattern of it")
    if _PLACEHOLDER_AT_WILDCARD.search(pattern):
        raise ValueError("{SPAN} must not touch a wildcard or a digit: span 1 would match the files of span 10 too")
    return pattern


Pattern = Annotated[str, AfterValidator(_names_files)]


class FileConfig(Frozen):
    """Where rows come from."""

    # Path or pattern (*, ?); {SPAN} is replaced by the span's number, {YYYY}, {MM} and {DD} by its day.
    files: Pattern
    format: Literal["csv", "parquet", "tfrecord"] = "csv"  # csv: .gz is unpacked; tfrecord: of tf.Examples
    delimiter: Annotated[str, Field(min_length=1, max_length=1)] = ","  # csv only


class InteractionFiles(FileConfig):
    query_id: str
    item_id: str
    timestamp: str
    timestamp_format: str = "unix_seconds"  # unix_seconds, unix_milliseconds, iso8601, or a strptime pattern (UTC)
    ready: Pattern | None = None  # pattern of a file that says that a span is complete, as {SPAN}/_SUCCESS

    @field_validator("timestamp_format")
    @classmethod
    def _reads_moments(cls, timestamp_format: str) -> str:
        if timestamp_format in TIMESTAMP_FORMATS:
            return timestamp_format
        moment = datetime(2001, 2, 3, 4, 5, 6, tzinfo=timezone.utc)
        try:
            year = datetime.strptime(moment.strftime(timestamp_format), timestamp_format).year
        except (ValueError, re.error):  # a directive that strptime does not know, or one that stands twice
            year = None
        if year != moment.year:
            raise ValueError(
                f"expected {', '.join(TIMESTAMP_FORMATS)} or a pattern as in strptime that gives the year, such as "
                f'"%d.%m.%Y %H:%M"'
            )
        return timestamp_format


class ItemFiles(FileConfig):
    id: str
    category: str
    show: tuple[str, ...] = Field(default=(), strict=False)  # further columns a recommendation may return, as text

    @field_validator("show")
    @classmethod
    def _each_once(cls, show: tuple[str, ...]) -> tuple[str, ...]:
        twice = [column for column in show if show.count(column) > 1]
        if twice:
            raise ValueError(f"{twice[0]!r} stands twice")
        return show


class QueryFiles(FileConfig):
    id: str


def _utc(value: object) -> object:
    if isinstance(value, str):
        value = datetime.fromisoformat(value.replace("Z", "+00:00"))
    elif not isinstance(value, datetime) and hasattr(value, "isoformat"):  # YAML reads 1998-03-01 as a date
        value = datetime.fromisoformat(value.isoformat())
    if isinstance(value, datetime) and value.tzinfo is None:
        value = value.replace(tzinfo=timezone.utc)
    return value


class SplitByTime(Frozen):
    """Train before eval_from, eval from there on, test from test_from on. Dates are UTC."""

    by: Literal["time"]
    eval_from: datetime
    test_from: datetime | None = None

    _as_utc = field_validator("eval_from", "test_from", mode="before")(_utc)

    @model_validator(mode="after")
    def _ordered(self) -> SplitByTime:
        if self.test_from is not None and self.test_from <= self.eval_from:
            raise ValueError("test_from must be later than eval_from")
        return self


class SplitByLast(Frozen):
    """The last `test` interactions of each query are test, the `eval` before them eval, the rest train.

    Ties in time are broken at random with the seed. A query keeps at least one interaction in train.
    """

    by: Literal["last"]
    eval: NonNegativeInt = 1
    test: NonNegativeInt = 0
    seed: NonNegativeInt = 7

    @model_validator(mode="after")
    def _holds_something_out(self) -> SplitByLast:
        if self.eval + self.test == 0:
            raise ValueError("eval and test are both 0: nothing would be held out")
        return self


def _day(value: object) -> object:
    return date.fromisoformat(value) if isinstance(value, str) else value


class SplitBySpan(Frozen):
    """Train on the `window` spans before the run's own, which is eval.

    With `first_day` the spans are days in UTC, and an interaction that was delivered with a later span than its day's
    is late: it is not evaluated.
    """

    by: Literal["span"]
    window: PositiveInt
    first_span: NonNegativeInt = 0  # the first there is: the window of an early run begins here
    first_day: date | None = None  # the day of first_span
    skip: tuple[NonNegativeInt, ...] = Field(default=(), strict=False)  # deliveries that are not to be used: not read

    _as_day = field_validator("first_day", mode="before")(_day)

    def reach(self, span: int) -> range:
        """The spans that a run might read: those of its window, and last its own. At the start of time the window
        is shorter."""
        return range(max(self.first_span, span - self.window), span + 1)


Split = SplitByTime | SplitByLast | SplitBySpan


class DataConfig(Frozen):
    """The files, and what becomes of their rows."""

    interactions: InteractionFiles
    items: ItemFiles
    queries: QueryFiles | None = None
    split: Annotated[Split, Field(discriminator="by")]
    deduplicate: bool = False  # of several interactions of a query with one item keep the first
    max_bad_share: Share = 0.01  # more bad rows in a span or a catalogue stop the run
    max_row_bytes: PositiveInt = 1_048_576  # longer CSV rows are bad rows

    @model_validator(mode="after")
    def _spans_have_files_of_their_own(self) -> DataConfig:
        by_span = isinstance(self.split, SplitBySpan)
        files = self.interactions.files
        if by_span and "{SPAN}" not in files and not all(name in files for name in DATE_PARTS):
            raise ValueError(
                "split by span needs {SPAN} or {YYYY}, {MM} and {DD} in interactions.files: a span's rows are those "
                "of its files"
            )
        dated = any(name in files for files in self._patterns() for name in DATE_PARTS)
        if dated and not (isinstance(self.split, SplitBySpan) and self.split.first_day):
            raise ValueError("{YYYY}, {MM} and {DD} in file patterns need split: {by: span, first_day: ...}")
        return self

    @property
    def has_spans(self) -> bool:
        """Whether a span's number or day says which files are read."""
        return any(name in files for files in self._patterns() for name in ("{SPAN}", *DATE_PARTS))

    def _patterns(self) -> list[str]:
        patterns = [self.interactions.files, self.interactions.ready, self.items.files]
        return [p for p in (*patterns, self.queries and self.queries.files) if p]


class IngestionConfig(Frozen):
    """What the ingestion component is given: the files, the columns, the span."""

    data: DataConfig
    features: FeatureSpec
    span: NonNegativeInt = 0

    def skipping(self, more: Iterable[int]) -> IngestionConfig:
        """The same in a split by span, with these spans in `skip` too, and without those that are out of reach.

        So it says what is read and nothing else: as a parameter of a component it is part of TFX's key to the cache.
        """
        split = self.data.split
        if not isinstance(split, SplitBySpan):
            return self
        named = {*split.skip, *more}
        split = split.model_copy(update={"skip": tuple(s for s in split.reach(self.span) if s in named)})
        return self.model_copy(update={"data": self.data.model_copy(update={"split": split})})
