"""A command as a child of an Airflow task: its output line by line, and nothing of it left when the task ends."""

from __future__ import annotations

import ctypes
import os
import signal
import subprocess
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path
from threading import Thread
from typing import IO

_PR_SET_PDEATHSIG = 1
_LIBC = ctypes.CDLL(None)


def _die_with_parent() -> None:
    # kill -9 of the task leaves nobody to end the command, which would hold the pipeline's lock against the retry.
    _LIBC.prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)


def run_command(
    command: Sequence[str],
    *,
    folder: Path,
    on_line: Callable[[str], None],
    grace_seconds: float = 10.0,
) -> tuple[int, str]:
    """Runs a command to its end; an exception in the meantime (timeout, the task cleared) ends its process group.

    Args:
      command: program and arguments; no shell.
      folder: working folder.
      on_line: called with each line of standard output and standard error, as it comes.
      grace_seconds: between SIGTERM and SIGKILL.

    Returns:
      The exit code (-N: ended by signal N), and what it wrote to standard error.

    Raises:
      OSError: the program is not there or cannot be run.
    """
    process = subprocess.Popen(
        command,
        cwd=folder,
        env={**os.environ, "PYTHONUNBUFFERED": "1", "COLUMNS": "140"},  # lines as they come, tables not squeezed
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        errors="replace",
        start_new_session=True,
        preexec_fn=_die_with_parent,
    )
    errors: list[str] = []

    def read(stream: IO[str] | None, kept: list[str] | None = None) -> None:
        for line in stream or ():
            on_line(line.rstrip("\n"))
            if kept is not None:
                kept.append(line)

    readers = [Thread(target=read, args=args, daemon=True) for args in ((process.stdout,), (process.stderr, errors))]
    try:
        for reader in readers:
            reader.start()
        code = process.wait()
    finally:
        # Also after a plain end: a worker that is left over would hold the pipes open.
        _end_group(process, grace_seconds)
    for reader in readers:
        reader.join(grace_seconds)
    return code, "".join(errors).strip()


def _end_group(process: subprocess.Popen[str], grace_seconds: float) -> None:
    """Ends what is left of the command's process group, Beam's workers included."""
    with suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGTERM)
    with suppress(subprocess.TimeoutExpired):
        process.wait(grace_seconds)
    with suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()
