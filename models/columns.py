"""The raw features of one query as the columns its tower takes, worked out without TensorFlow.

This says of a trained Transform graph's query side what a server needs to know, so that a request can do without that
graph's several hundred ops. `models.lite` writes it beside the tower; `Columns` reads it. Imports no TensorFlow.
"""

from __future__ import annotations

import bisect
import functools
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from models.config import Frozen, NonNegativeInt, PositiveFloat, PositiveInt

LARGEST_FLOAT32 = float(np.finfo(np.float32).max)
MISSING_TIMESTAMP = -1

Value = bytes | float | int


class Lookup(Frozen):
    """A string's line in a vocabulary file, counted from 1; one more than there are lines for any other string."""

    kind: Literal["lookup"] = "lookup"
    key: str  # name of the column
    feature: str  # name of the raw feature
    file: str  # below assets/
    width: NonNegativeInt = 0  # so many values, padded with 0; 0 where the column has no second axis
    missing: NonNegativeInt = 0  # stands for no value, where there is no second axis


class Buckets(Frozen):
    """1 + how many boundaries are no larger than a number; 0 for none."""

    kind: Literal["buckets"] = "buckets"
    key: str
    feature: str
    boundaries: tuple[float, ...] = Field(strict=False)  # float32, ascending


class ZScore(Frozen):
    """(x - mean) / deviation, cut at +-limit; 0 for none."""

    kind: Literal["z_score"] = "z_score"
    key: str
    feature: str
    mean: float
    deviation: PositiveFloat
    limit: PositiveFloat


class Moment(Frozen):
    """1 + (unix seconds // unit + shift) mod period: the hour, the weekday; 0 for none."""

    kind: Literal["moment"] = "moment"
    key: str
    feature: str
    unit: PositiveInt  # seconds
    shift: NonNegativeInt
    period: PositiveInt


class Period(Frozen):
    """1 + how many starts are no later than a moment."""

    kind: Literal["period"] = "period"
    key: str
    feature: str
    starts: tuple[int, ...] = Field(strict=False)  # unix seconds, ascending
    missing: NonNegativeInt  # stands for no moment


Column = Annotated[Lookup | Buckets | ZScore | Moment | Period, Field(discriminator="kind")]


class ColumnsConfig(Frozen):
    """All columns of a query tower."""

    columns: tuple[Column, ...] = Field(strict=False)


class Columns:
    """Works the columns out. Safe for any number of threads."""

    def __init__(self, config: ColumnsConfig, assets: Path) -> None:
        """Reads the vocabularies.

        Raises:
          OSError: a file is missing.
        """
        files = {column.file for column in config.columns if isinstance(column, Lookup)}
        vocabularies = {name: _read_vocabulary(assets / name) for name in sorted(files)}
        self._encoders = [(column.key, column.feature, _encoder(column, vocabularies)) for column in config.columns]

    def __call__(self, values: Mapping[str, Sequence[Value]]) -> dict[str, NDArray]:
        """Raw values by feature to columns by key.

        Args:
          values: of each feature what is given of it, at most as much as is declared; "", NaN, infinity and the
            timestamp -1 say missing.

        Returns:
          int64 [1] or [1, width]; float32 [1] for a z-score.
        """
        return {key: encode(values[feature]) for key, feature, encode in self._encoders}


def _encoder(column: Column, vocabularies: Mapping[str, Mapping[bytes, int]]) -> Callable[[Sequence[Any]], NDArray]:
    if isinstance(column, Lookup):
        lines = vocabularies[column.file]
        return functools.partial(_several if column.width else _single, column.width or column.missing, lines)
    if isinstance(column, Buckets):
        return functools.partial(_bucket, column.boundaries)
    if isinstance(column, ZScore):
        return functools.partial(_z_score, column.mean, column.deviation, column.limit)
    if isinstance(column, Period):
        return functools.partial(_period, column.starts, column.missing)
    return functools.partial(_moment, column.unit, column.shift, column.period)


def _single(missing: int, lines: Mapping[bytes, int], values: Sequence[bytes]) -> NDArray:
    found = [lines.get(value, len(lines) + 1) for value in values if value]
    return np.array(found[:1] or [missing], np.int64)


def _several(width: int, lines: Mapping[bytes, int], values: Sequence[bytes]) -> NDArray:
    unknown = len(lines) + 1
    found = [lines.get(value, unknown) for value in values if value]
    return np.array([found + [0] * (width - len(found))], np.int64)


def _period(starts: tuple[int, ...], missing: int, values: Sequence[int]) -> NDArray:
    moments = [value for value in values if value != MISSING_TIMESTAMP]
    return np.array([1 + bisect.bisect_right(starts, moments[0]) if moments else missing], np.int64)


def _moment(unit: int, shift: int, period: int, values: Sequence[int]) -> NDArray:
    moments = [value for value in values if value != MISSING_TIMESTAMP]
    return np.array([1 + (moments[0] // unit + shift) % period if moments else 0], np.int64)


def _numbers(values: Sequence[float]) -> list[float]:
    """As float32 has them, but of Python's type: NumPy's compares ten times as slowly."""
    return [float(np.float32(value)) for value in values if abs(value) <= LARGEST_FLOAT32]  # which NaN is not


def _bucket(boundaries: tuple[float, ...], values: Sequence[float]) -> NDArray:
    numbers = _numbers(values)
    return np.array([1 + bisect.bisect_right(boundaries, numbers[0]) if numbers else 0], np.int64)


def _z_score(mean: float, deviation: float, limit: float, values: Sequence[float]) -> NDArray:
    numbers = _numbers(values)
    score = (numbers[0] - mean) / deviation if numbers else 0.0
    return np.array([max(-limit, min(score, limit))], np.float32)


def _read_vocabulary(path: Path) -> dict[bytes, int]:
    lines = path.read_bytes().removesuffix(b"\n").split(b"\n")
    return {line: number for number, line in enumerate(lines, start=1)}
