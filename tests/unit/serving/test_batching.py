from __future__ import annotations

import threading
import time
from collections.abc import Sequence
from concurrent.futures import Future, ThreadPoolExecutor

import pytest

from serving.batching import Batcher


class Doubling:
    """Doubles numbers, none of them 0; each call waits until it is let through."""

    def __init__(self) -> None:
        self.batches: list[list[int]] = []
        self.running = 0
        self._begun, self._let_through = threading.Semaphore(0), threading.Semaphore(0)

    def __call__(self, numbers: Sequence[int]) -> list[int]:
        self.running += 1
        assert self.running == 1
        self.batches.append(list(numbers))
        self._begun.release()
        assert self._let_through.acquire(timeout=20)
        self.running -= 1
        if 0 in numbers:
            raise ValueError("0")
        return [2 * number for number in numbers]

    def wait_until_begun(self) -> None:
        assert self._begun.acquire(timeout=20)

    def let_through(self, calls: int = 1) -> None:
        for _ in range(calls):
            self._let_through.release()


@pytest.fixture
def doubling() -> Doubling:
    return Doubling()


def _ask(pool: ThreadPoolExecutor, batcher: Batcher[int, int], number: int) -> Future[int]:
    """Asks in a thread of the pool, and returns once that waits in line."""
    before = len(batcher._waiting)
    future = pool.submit(batcher, number)
    while len(batcher._waiting) == before:
        assert not future.done()
    return future


def test_what_comes_meanwhile_is_the_next_batch(doubling: Doubling) -> None:
    batcher = Batcher[int, int](doubling, 1)
    with ThreadPoolExecutor(6) as pool:
        first = pool.submit(batcher, 1)
        doubling.wait_until_begun()
        second = [_ask(pool, batcher, number) for number in (2, 3, 4)]
        doubling.let_through()
        assert first.result(20) == 2
        doubling.wait_until_begun()
        third = _ask(pool, batcher, 5)
        doubling.let_through(2)
        assert [future.result(20) for future in second] == [4, 6, 8]
        assert third.result(20) == 10
    assert doubling.batches == [[1], [2, 3, 4], [5]]


def test_one_alone_does_not_wait(doubling: Doubling) -> None:
    doubling.let_through(2)
    batcher = Batcher[int, int](doubling, 1)
    assert [batcher(1), batcher(2)] == [2, 4]
    assert doubling.batches == [[1], [2]]


def test_one_that_fails_does_not_fail_the_others(doubling: Doubling) -> None:
    batcher = Batcher[int, int](doubling, 1)
    with ThreadPoolExecutor(6) as pool:
        first = pool.submit(batcher, 1)
        doubling.wait_until_begun()
        good, bad, another = (_ask(pool, batcher, number) for number in (2, 0, 3))
        doubling.let_through(5)
        assert (first.result(20), good.result(20), another.result(20)) == (2, 4, 6)
        with pytest.raises(ValueError, match="0"):
            bad.result(20)
    assert doubling.batches == [[1], [2, 0, 3], [2], [0], [3]]
    doubling.let_through()
    assert batcher(7) == 14


@pytest.mark.parametrize("lanes", [1, 2])
def test_a_wrong_number_of_answers_to_a_batch_leaves_nobody_waiting(lanes: int) -> None:
    gate = threading.Event()

    def first_alone(numbers: Sequence[int]) -> list[int]:
        """As a signature that does not keep the rows apart: right for one query, and so for each canary."""
        assert gate.wait(20)
        return [2 * numbers[0]]

    batcher = Batcher[int, int](first_alone, lanes)
    with ThreadPoolExecutor(6) as pool:
        running = [pool.submit(batcher, number) for number in range(lanes)]
        while batcher._running < lanes:
            assert not any(future.done() for future in running)
        waiting = [_ask(pool, batcher, number) for number in (5, 6, 7)]
        gate.set()
        assert [future.result(20) for future in (*running, *waiting)] == [*(0, 2)[:lanes], 10, 12, 14]
    assert batcher._running == 0


def test_no_answer_at_all_is_an_error() -> None:
    with pytest.raises(ValueError, match="0 answers came for 1 asked"):
        Batcher[int, int](lambda numbers: [], 1)(3)


def test_one_that_takes_long_holds_up_nobody_while_a_lane_is_free() -> None:
    gates = {number: threading.Event() for number in (1, 2, 3, 4)}
    batches: list[list[int]] = []

    def gated(numbers: Sequence[int]) -> list[int]:
        batches.append(list(numbers))
        for number in numbers:
            assert gates[number].wait(20)
        return [10 * number for number in numbers]

    batcher = Batcher[int, int](gated, 2)
    with ThreadPoolExecutor(6) as pool:
        long = pool.submit(batcher, 1)
        while batches != [[1]]:
            assert not long.done()
        second = pool.submit(batcher, 2)
        while batches != [[1], [2]]:
            assert not second.done()
        others = [_ask(pool, batcher, number) for number in (3, 4)]
        for number in (2, 3, 4):
            gates[number].set()
        assert [future.result(20) for future in (second, *others)] == [20, 30, 40]
        assert not long.done()
        gates[1].set()
        assert long.result(20) == 10
    assert batches == [[1], [2], [3, 4]]


@pytest.mark.parametrize("lanes", [1, 2, 5])
def test_many_threads_get_their_own_answers_and_give_back_their_lanes(
    lanes: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Threads that wake up late find that others went on without them.
    wait = threading.Event.wait

    def wake_late(event: threading.Event, timeout: float | None = None) -> bool:
        woken = wait(event, timeout)
        time.sleep(0.001)
        return woken

    def squares(numbers: Sequence[int]) -> list[int]:
        time.sleep(0.0005)
        return [number * number for number in numbers]

    monkeypatch.setattr(threading.Event, "wait", wake_late)
    batcher = Batcher[int, int](squares, lanes)
    with ThreadPoolExecutor(16) as pool:
        assert list(pool.map(batcher, range(2000))) == [number * number for number in range(2000)]
    assert batcher._running == 0
