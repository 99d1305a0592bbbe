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
        self.answered: Future[Answer] = Future()
        self.others: list[_Call[Asked, Answer]] | None = None  # that its thread is to compute with it, if it is to
        self.turn = threading.Event()  # its answer is there, or the others


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
            if self._running < self._lanes:  # then nobody waits
                self._running += 1
                call.others = []
            else:
                self._waiting.append(call)
        if call.others is None:
            call.turn.wait()
        if call.others is not None:
            self._compute_batch([call, *call.others])
        return call.answered.result()

    def _compute_batch(self, batch: Sequence[_Call[Asked, Answer]]) -> None:
        self._answer(batch)
        with self._lock:
            following, self._waiting = self._waiting, []
            self._running -= not following
        # The lane goes on to the first that waits, with all who wait: nobody else can answer them, nor take the lane.
        for successor in following[:1]:
            successor.others = following[1:]
        for call in [*batch, *following[:1]]:
            call.turn.set()

    def _answer(self, batch: Sequence[_Call[Asked, Answer]]) -> None:
        try:
            answers = self._compute([call.asked for call in batch])
            if len(answers) != len(batch):
                raise ValueError(f"{len(answers)} answers came for {len(batch)} asked")  # noqa: TRY301
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
