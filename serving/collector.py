"""Python's garbage collector, where TensorFlow is imported."""

from __future__ import annotations

import gc
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def without_collector() -> Iterator[None]:
    """For imports and what else makes objects that stay.

    The collector would look through them again and again, a fifth to a third of the time that it takes to import
    TensorFlow and TFX; after the block it passes them over for good.
    """
    gc.disable()
    try:
        yield
    finally:
        gc.freeze()
        gc.enable()
