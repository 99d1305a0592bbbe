"""What is said when a run needs a human: to the log, and to the configuration's alert command."""

from __future__ import annotations

import logging
import subprocess
from collections.abc import Sequence
from typing import Any

_LOG = logging.getLogger(__name__)
_TIMEOUT_SECONDS = 60


def _send(command: Sequence[str], message: str) -> None:
    _LOG.error(message)
    if not command:
        return
    try:
        subprocess.run(command, input=message + "\n", text=True, timeout=_TIMEOUT_SECONDS, check=True)
    except (OSError, subprocess.SubprocessError) as error:
        # The task has failed already; that nobody was told belongs into its log, and must not hide why it failed.
        _LOG.error("the alert command failed: %s", error)


def alert_failure(context: Any, *, command: Sequence[str]) -> None:
    """Airflow's on_failure_callback: names DAG, period, task and reason.

    Args:
      context: of the task that failed for good.
      command: gets the message on its standard input; () logs only.
    """
    task = context["task_instance"]
    reason = str(context.get("exception") or "it was killed or marked as failed")
    _send(
        command,
        f"{task.dag_id}, period from {context['data_interval_start']:%Y-%m-%d %H:%M}: {task.task_id} failed: {reason}\n"
        f"Log: {task.log_url}",
    )


def alert_late(dag: Any, tasks: str, *_: Any, command: Sequence[str]) -> None:
    """Airflow's sla_miss_callback: names the DAG and its late tasks, each with its logical date."""
    _send(command, f"{dag.dag_id}: late: {'; '.join(tasks.strip().splitlines())}")
