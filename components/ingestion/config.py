"""Configuration of ingestion. Imports no TensorFlow."""

from __future__ import annotations

from datetime import datetime, timezone
from typing import Annotated, Literal

from pydantic import Field, field_validator, model_validator

from models.config import FeatureSpec, Frozen, NonNegativeInt, PositiveInt, Share


class FileConfig(Frozen):
    """Where rows come from."""

    files: Annotated[str, Field(min_length=1)]  # path or pattern (*, ?); {SPAN} is replaced by the span's number
    format: Literal["csv", "parquet", "tfrecord"] = "csv"  # csv: .gz is unpacked; tfrecord: of tf.Examples
    delimiter: Annotated[str, Field(min_length=1, max_length=1)] = ","  # csv only


class InteractionFiles(FileConfig):
    query_id: str
    item_id: str
    timestamp: str
    timestamp_format: str = "unix_seconds"  # unix_seconds, unix_milliseconds, iso8601, or a strptime pattern (UTC)


class ItemFiles(FileConfig):
    id: str
    category: str
    show: tuple[str, ...] = Field(default=(), strict=False)  # further columns a recommendation may return, as text


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


class DataConfig(Frozen):
    """The files, and what becomes of their rows."""

    interactions: InteractionFiles
    items: ItemFiles
    queries: QueryFiles | None = None
    split: Annotated[SplitByTime | SplitByLast, Field(discriminator="by")]
    deduplicate: bool = False  # of several interactions of a query with one item keep the first
    max_bad_share: Share = 0.01  # more bad rows than this, in any of the files, stop the run
    max_row_bytes: PositiveInt = 1_048_576  # longer CSV rows are bad rows


class IngestionConfig(Frozen):
    """What the ingestion component is given: the files, the columns, the span."""

    data: DataConfig
    features: FeatureSpec
    span: NonNegativeInt = 0
