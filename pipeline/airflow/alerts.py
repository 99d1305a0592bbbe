"""What is said when a run needs a human: to the log, and to the configuration's alert command."""

from __future__ import annotations

import logging
import subprocess
from collections.abc import Sequence
from datetime import timedelta
from typing import Any

_LOG = logging.getLogger(__name__)
_TIMEOUT_SECONDS = 60


def _send(command: Sequence[str], folder: str, message: str) -> None:
    _LOG.error(message)
    if not command:
        return
    try:
        subprocess.run(command, cwd=folder, input=message + "\n", text=True, timeout=_TIMEOUT_SECONDS, check=True)
    except (OSError, subprocess.SubprocessError) as error:
        # The task has failed already; that nobody was told belongs into its log, and must not hide why it failed.
        _LOG.error("the alert command failed: %s", error)


def alert_failure(context: Any, *, command: Sequence[str], folder: str) -> None:
    """Airflow's on_failure_callback: names DAG, period, task and reason.

    Args:
      context: of the task that failed for good.
      command: gets the message on its standard input; () logs only.
      folder: where it runs.
    """
    task = context["task_instance"]
    reason = str(context.get("exception") or "it was killed or marked as failed")
    _send(
        command,
        folder,
        f"{task.dag_id}, period from {context['data_interval_start']:%Y-%m-%d %H:%M}: {task.task_id} failed: {reason}\n"
        f"Log: {task.log_url}",
    )


def alert_late(
    dag: Any, _tasks: str, _blocking: str, misses: Sequence[Any], *_: Any,
    period: timedelta, command: Sequence[str], folder: str,
) -> None:  # fmt: skip
    """Airflow's sla_miss_callback: names the DAG and its late tasks, each with its period as `alert_failure` does.

    Args:
      dag: whose tasks are late.
      misses: Airflow's SlaMiss, dated by the end of the period. That is the logical date of the run after it.
      period: the length of one.
      command, folder: as of `alert_failure`.
    """
    late = [f"{miss.task_id} of the period from {miss.execution_date - period:%Y-%m-%d %H:%M}" for miss in misses]
    _send(command, folder, f"{dag.dag_id}: late: {'; '.join(late)}")
