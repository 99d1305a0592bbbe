"""Airflow operators that call the pipeline's command line. Import no TensorFlow: a DAG file imports them."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from airflow.exceptions import AirflowException, AirflowFailException, AirflowSensorTimeout
from airflow.models.baseoperator import BaseOperator
from airflow.sensors.base import BaseSensorOperator

from pipeline.airflow.process import run_command
from pipeline.exit_codes import NOT_YET, OK, REFUSED


class CommandOperator(BaseOperator):
    """Runs one command of the pipeline. A refusal (exit code 3) fails at once, another failure may be retried."""

    template_fields: Sequence[str] = ("command",)
    ui_color = "#e8f7e4"

    def __init__(self, *, command: Sequence[str], folder: str, **kwargs: Any) -> None:
        """Args:
        command: program and arguments, templates of Jinja.
        folder: working folder, where the configuration's relative paths start.
        kwargs: of BaseOperator.
        """
        super().__init__(**kwargs)
        self.command = list(command)
        self.folder = folder

    def execute(self, context: Any) -> None:
        code, message = run_command(self.command, folder=Path(self.folder), on_line=self.log.info)
        if code == REFUSED:
            raise AirflowFailException(message)
        if code != OK:
            raise AirflowException(_failure(self.command, code, message))


class DataSensor(BaseSensorOperator):
    """Waits until `ready` finds the span's data. Gives its slot back between two looks."""

    template_fields: Sequence[str] = ("command",)
    ui_color = "#fff7dc"

    def __init__(self, *, command: Sequence[str], folder: str, **kwargs: Any) -> None:
        """Args: as CommandOperator's, kwargs of BaseSensorOperator."""
        super().__init__(mode="reschedule", **kwargs)
        self.missing = ""
        self.command = list(command)
        self.folder = folder

    def poke(self, context: Any) -> bool:
        code, self.missing = run_command(self.command, folder=Path(self.folder), on_line=self.log.info)
        if code not in (OK, NOT_YET):
            raise AirflowException(_failure(self.command, code, self.missing))
        return code == OK

    def execute(self, context: Any) -> Any:
        try:
            return super().execute(context)
        except AirflowSensorTimeout as error:
            raise AirflowSensorTimeout(f"{self.missing}\n{error}") from error


def _failure(command: Sequence[str], code: int, message: str) -> str:
    ended = f"exit code {code}" if code >= 0 else f"signal {-code}"
    return f"{message or 'no message'}\n({ended} of: {' '.join(command)})"
