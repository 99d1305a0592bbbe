"""When the pipeline runs. Imports neither Airflow nor TensorFlow."""

from __future__ import annotations

from datetime import date, datetime, time, timedelta, timezone
from typing import Annotated

from pydantic import Field, model_validator

from models.config import Frozen, NonNegativeInt, PositiveFloat, PositiveInt

Address = Annotated[str, Field(pattern=r"^[^:\s]+:[0-9]+$")]  # host:port


class ScheduleConfig(Frozen):
    """One run for each period, one span of data for each run. Days begin and end in UTC."""

    start: date  # the first period begins with this day
    end: date | None = None  # no period begins after this day; default: it goes on
    every_hours: PositiveInt = 24  # length of a period
    first_span: NonNegativeInt = 0  # the span of the first period; each period's is one more
    poke_minutes: PositiveFloat = 5.0  # between two looks for a span's data
    wait_hours: PositiveFloat = 24.0  # for a span's data, from the first look for it; then the run fails
    retries: NonNegativeInt = 2  # of each task
    retry_minutes: PositiveFloat = 5.0  # before each retry
    timeout_hours: PositiveFloat = 6.0  # of one try of one task
    release_by_hours: PositiveFloat | None = None  # after a period's end; a later release is an SLA miss
    keep_releases: PositiveInt | None = None  # the newest; older ones that nothing uses are removed after each release
    keep_runs: PositiveInt | None = None  # the newest training runs; artifacts and logs of older ones are removed
    server: Address | None = None  # asked after each release whether it answers with it
    alert: tuple[str, ...] = Field(default=(), strict=False)  # a command; gets the message on its standard input

    @model_validator(mode="after")
    def _ordered(self) -> ScheduleConfig:
        if self.end is not None and self.end < self.start:
            raise ValueError("end must not be earlier than start")
        return self

    @property
    def period(self) -> timedelta:
        return timedelta(hours=self.every_hours)

    @property
    def first_moment(self) -> datetime:
        return datetime.combine(self.start, time(), timezone.utc)

    @property
    def last_moment(self) -> datetime | None:
        """Of the day `end`: periods of hours may begin late on it."""
        return None if self.end is None else datetime.combine(self.end, time.max, timezone.utc)

    def span(self, moment: datetime) -> int:
        """The span of the period that a moment lies in.

        Raises:
          ValueError: the moment is before the first period.
        """
        # Airflow's moments are pendulum's, which do not divide by a timedelta.
        periods = int(moment.timestamp() - self.first_moment.timestamp()) // int(self.period.total_seconds())
        if periods < 0:
            raise ValueError(f"{moment:%Y-%m-%d %H:%M} is before schedule.start, {self.start}")
        return self.first_span + periods
