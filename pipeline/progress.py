"""What a run shows: one line a component on the terminal, all other output in a log file."""

from __future__ import annotations

import atexit
import contextlib
import logging
import os
import re
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

from rich.console import Console

from pipeline.terminal import plain_console

_RUNNING = re.compile(r"Component (\S+) is running\.")
_FINISHED = re.compile(r"Component (\S+) is finished\.")
_CACHED = re.compile(r"A cached execution \d+ is used\.")


@contextlib.contextmanager
def quiet(log_file: Path) -> Iterator[Console]:
    """Sends all that this process and its children print to a file, and yields a console on the real output.

    File descriptors are redirected, not only sys.stdout, because TensorFlow's C++ code writes to them.
    """
    sys.stdout.flush()
    sys.stderr.flush()
    saved = os.dup(1), os.dup(2)
    log_file.parent.mkdir(parents=True, exist_ok=True)
    log = os.open(log_file, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)
    terminal = os.fdopen(os.dup(saved[0]), "w", buffering=1, encoding="utf-8")
    try:
        os.dup2(log, 1)
        os.dup2(log, 2)
        yield plain_console(file=terminal, width=None if terminal.isatty() else 110)
    finally:
        try:
            sys.stdout.flush()
            sys.stderr.flush()
        finally:
            # Also where the disk is full, and the log takes no more: nobody would see why the run failed.
            os.dup2(saved[0], 1)
            os.dup2(saved[1], 2)
            terminal.close()
            for descriptor in (log, *saved):
                os.close(descriptor)


def quiet_exit(log_file: Path) -> None:
    """Sends what is printed to standard error after the program's end to the log file.

    TensorFlow's function objects that are still alive complain when the interpreter takes modules down.
    """

    def redirect() -> None:
        sys.stderr.flush()
        os.dup2(os.open(log_file, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644), 2)

    log_file = log_file.absolute()
    log_file.parent.mkdir(parents=True, exist_ok=True)
    atexit.register(redirect)


@dataclass
class Progress(logging.Handler):
    """Follows the runner's log records, shows which component runs, how far, how long.

    Attributes:
      seconds: wall seconds of each finished component, in order.
      cached: the components whose earlier outputs were used.
      current: the component that runs, None between two.
    """

    console: Console
    total: int
    seconds: dict[str, float] = field(default_factory=dict)
    cached: set[str] = field(default_factory=set)
    current: str | None = None

    def __post_init__(self) -> None:
        super().__init__(level=logging.INFO)
        self._start = 0.0
        self._status = self.console.status("starting")

    # dataclass(eq=True) would make a handler unhashable, which logging needs.
    __hash__ = logging.Handler.__hash__

    def __enter__(self) -> Progress:
        for name in ("absl", "retrieval.progress"):
            logger = logging.getLogger(name)
            logger.addHandler(self)
            logger.setLevel(logging.INFO)
        self._status.start()
        return self

    def __exit__(self, *exc: object) -> None:
        self._status.stop()
        for name in ("absl", "retrieval.progress"):
            logging.getLogger(name).removeHandler(self)

    def emit(self, record: logging.LogRecord) -> None:
        message = record.getMessage()
        if record.name == "retrieval.progress":
            self.console.print(f"          {message}")
        elif match := _RUNNING.fullmatch(message):
            self.current, self._start = match[1], time.monotonic()
            self._status.update(f"{len(self.seconds) + 1} of {self.total} {self.current}")
        elif _CACHED.fullmatch(message) and self.current:
            self.cached.add(self.current)
        elif match := _FINISHED.fullmatch(message):
            self.seconds[match[1]] = time.monotonic() - self._start
            note = "  from the cache" if match[1] in self.cached else ""
            self.console.print(
                f"  [{len(self.seconds):2d}/{self.total}] {match[1]:<22}{self.seconds[match[1]]:7.1f} s{note}"
            )
            self.current = None
