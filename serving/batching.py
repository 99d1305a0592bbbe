"""What many threads ask for at a time, computed in one call. Imports no TensorFlow."""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from typing import Generic, TypeVar

Asked = TypeVar("Asked")
Answer = TypeVar("Answer")


class _Call(Generic[Asked, Answer]):
    def __init__(self, asked: Asked) -> None:
        self.asked = asked
        self.turn = threading.Event()  # its answer is there, or it leads the next batch
        self.answered: Future[Answer] = Future()


class Batcher(Generic[Asked, Answer]):
    """Calls a function with all that waits for it. Safe for any number of threads.

    There is no timer: who comes first is computed alone and at once. What comes while `lanes` calls run is the next
    batch, computed by the thread of its first caller. So a batch has at most as many as there are threads.
    """

    def __init__(self, compute: Callable[[Sequence[Asked]], Sequence[Answer]], lanes: int) -> None:
        """Args:
        compute: gives as many answers as it is asked for, in that order.
        lanes: so many calls of it run at a time; with one alone, a call that takes long would hold up everybody.
        """
        self._compute = compute
        self._lanes = lanes
        self._lock = threading.Lock()
        self._waiting: list[_Call[Asked, Answer]] = []
        self._running = 0

    def __call__(self, asked: Asked) -> Answer:
        """The answer; raises what `compute` raises for this one alone."""
        call = _Call[Asked, Answer](asked)
        with self._lock:
            self._waiting.append(call)
            leads = self._running < self._lanes
            self._running += leads
        if not leads:
            call.turn.wait()
        if not call.answered.done():
            self._lead()
        return call.answered.result()

    def _lead(self) -> None:
        with self._lock:
            batch, self._waiting = self._waiting, []
        if batch:  # another lane may have taken all that waited
            self._answer(batch)
        with self._lock:
            successors = self._waiting[:1]
            self._running -= not successors
        for call in [*batch, *successors]:
            call.turn.set()

    def _answer(self, batch: Sequence[_Call[Asked, Answer]]) -> None:
        try:
            answers = self._compute([call.asked for call in batch])
        except Exception as error:  # noqa: BLE001 - raised where the answer is taken
            if len(batch) == 1:
                batch[0].answered.set_exception(error)
            else:
                # One that cannot be computed must not fail the others.
                for call in batch:
                    self._answer([call])
            return
        for call, answer in zip(batch, answers, strict=True):
            call.answered.set_result(answer)
