"""Threads that stay on one core. Imports no TensorFlow.

Of Python's threads one runs at a time. Where the kernel spreads them over cores, each hand-over of the interpreter's
lock wakes another core and finds its caches cold.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager


def core_of(number: int) -> int:
    """The core for a process, by its number from 0: they take turns at those that this thread may run on."""
    allowed = sorted(os.sched_getaffinity(0))
    return allowed[number % len(allowed)]


def stay_on(core: int) -> None:
    """Keeps the calling thread, and those that it starts from now on, on one core."""
    os.sched_setaffinity(0, {core})  # 0 is the thread, not the process


@contextmanager
def staying_on(core: int) -> Iterator[None]:
    """Keeps the calling thread on one core meanwhile; those that it starts stay there."""
    before = os.sched_getaffinity(0)
    stay_on(core)
    try:
        yield
    finally:
        os.sched_setaffinity(0, before)
