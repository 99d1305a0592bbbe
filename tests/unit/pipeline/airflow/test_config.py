"""Periods and their spans."""

from __future__ import annotations

from collections.abc import Callable
from datetime import date, datetime, timedelta, timezone
from pathlib import Path

import pytest
import yaml

from pipeline.airflow.config import ScheduleConfig
from pipeline.config import ConfigError, load_config


def _utc(*parts: int) -> datetime:
    return datetime(*parts, tzinfo=timezone.utc)


def test_each_day_is_one_span_more() -> None:
    daily = ScheduleConfig(start=date(2000, 11, 8), first_span=7)
    assert daily.span(_utc(2000, 11, 8)) == 7
    assert daily.span(_utc(2000, 11, 8, 23, 59)) == 7
    assert daily.span(_utc(2000, 11, 9)) == 8
    assert daily.span(_utc(2001, 2, 28)) == 119  # 22 days left in November after the 8th, 31, 31, 28, and 7


def test_periods_of_six_hours_and_of_a_week() -> None:
    assert ScheduleConfig(start=date(2026, 1, 1), every_hours=6).span(_utc(2026, 1, 2, 18)) == 7  # 4 of the 1st, 0 to 3
    weekly = ScheduleConfig(start=date(2026, 1, 5), every_hours=168)
    assert (weekly.span(_utc(2026, 1, 11)), weekly.span(_utc(2026, 1, 12))) == (0, 1)
    assert weekly.period == timedelta(days=7)


def test_a_moment_before_the_start_has_no_span() -> None:
    with pytest.raises(ValueError, match=r"2000-11-07 00:00 is before schedule\.start, 2000-11-08"):
        ScheduleConfig(start=date(2000, 11, 8)).span(_utc(2000, 11, 7))


@pytest.mark.parametrize(
    ("change", "line"),
    [
        ({"end": date(2000, 10, 31)}, "schedule: end must not be earlier than start"),
        ({"every_hours": 0}, "schedule.every_hours: input should be greater than 0 (given: 0)"),
        ({"server": "8500"}, "schedule.server: string should match pattern"),
        ({"cron": "@daily"}, "schedule.cron: unknown key"),
    ],
)
def test_what_makes_no_sense_is_refused(
    write_config: Callable[..., Path], change: dict[str, object], line: str
) -> None:
    with pytest.raises(ConfigError) as error:
        load_config(write_config({"start": date(2000, 11, 1), **change}))
    assert f"c.yaml: {line}" in str(error.value)


def test_the_spans_of_schedule_and_split_agree(write_config: Callable[..., Path]) -> None:
    file = write_config({"start": date(2000, 11, 8), "first_span": 8})
    text = file.read_text()
    config = yaml.safe_load(text)
    config["data"]["split"] = {"by": "span", "window": 7, "first_day": date(2000, 11, 1)}
    config["data"]["interactions"]["files"] = "{SPAN}.csv"
    file.write_text(yaml.safe_dump(config))
    with pytest.raises(ConfigError, match=r"schedule\.first_span must be 7: by data\.split that is the span of 20"):
        load_config(file)
    config["schedule"].update(first_span=7, every_hours=12)
    file.write_text(yaml.safe_dump(config))
    with pytest.raises(ConfigError, match=r"schedule\.every_hours must be 24"):
        load_config(file)


def test_the_first_run_needs_a_span_to_train_on(write_config: Callable[..., Path]) -> None:
    file = write_config({"start": date(2026, 1, 1), "first_span": 5})
    config = yaml.safe_load(file.read_text())
    config["data"]["interactions"]["files"] = "{SPAN}.csv"
    for split in ({"first_span": 5}, {"first_span": 9}, {"first_span": 5, "first_day": date(2026, 1, 1)}):
        config["data"]["split"] = {"by": "span", "window": 7, **split}
        file.write_text(yaml.safe_dump(config))
        first = split["first_span"]
        with pytest.raises(
            ConfigError, match=rf"schedule\.first_span must be {first + 1} or more: span {first} is the f"
        ):
            load_config(file)
    config["data"]["split"] = {"by": "span", "window": 7, "first_span": 4}
    file.write_text(yaml.safe_dump(config))
    load_config(file)
