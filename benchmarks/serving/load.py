"""Asks a server from a process of its own: `python -m benchmarks.serving.load ADDRESS VERSION HOW NUMBER SECONDS`.

HOW is `closed`, with NUMBER clients that each wait for an answer before they ask again, or `open`, with NUMBER requests
a second at random moments whether or not earlier ones are answered; an open-loop latency counts from the moment the
request was due. Each client has a connection of its own. Requests are serialised before and answers are parsed and
checked after, so that the generator takes little of the machine. Prints one JSON object. Imports no TensorFlow.
"""

from __future__ import annotations

import json
import os
import sys
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field

import grpc
import numpy as np

from benchmarks.serving import synthetic
from serving.proto import retrieval_pb2

K = 100
METHOD = "/retrieval.v1.RetrievalService/Recommend"
WARM_UP_SECONDS = 2.0
DEADLINE_SECONDS = 20.0
OPEN_LOOP_CONNECTIONS = 32


@dataclass
class Answers:
    """What came back to one client, and how long it took."""

    seconds: list[float] = field(default_factory=list)
    contents: list[bytes] = field(default_factory=list)
    errors: list[str] = field(default_factory=list)


def _connect(address: str) -> tuple[grpc.Channel, Callable]:
    channel = grpc.insecure_channel(address, options=[("grpc.use_local_subchannel_pool", 1)])
    return channel, channel.unary_unary(METHOD)  # without serialisers bytes go in and bytes come out


def _requests() -> list[bytes]:
    users = np.random.default_rng(5).permutation(synthetic.USERS)
    return [retrieval_pb2.RecommendRequest(query_id=synthetic.user_id(user), k=K).SerializeToString() for user in users]


def closed_loop(address: str, clients: int, seconds: float, requests: list[bytes]) -> list[Answers]:
    """`clients` threads ask one request after the other."""
    stop = time.perf_counter() + seconds

    def ask(client: int, answers: Answers) -> None:
        channel, call = _connect(address)
        with channel:
            place = client * len(requests) // clients
            while (start := time.perf_counter()) < stop:
                try:
                    answers.contents.append(call(requests[place % len(requests)], timeout=DEADLINE_SECONDS))
                except grpc.RpcError as error:
                    answers.errors.append(error.code().name)
                answers.seconds.append(time.perf_counter() - start)
                place += 1

    collected = [Answers() for _ in range(clients)]
    threads = [threading.Thread(target=ask, args=(n, answers)) for n, answers in enumerate(collected)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return collected


def open_loop(address: str, rate: float, seconds: float, requests: list[bytes]) -> list[Answers]:
    """Requests at the moments of a Poisson process, spread over several connections."""
    answers = Answers()
    connections = [_connect(address) for _ in range(OPEN_LOOP_CONNECTIONS)]
    due = np.cumsum(np.random.default_rng(6).exponential(1 / rate, size=int(rate * seconds))).tolist()
    begun = time.perf_counter()

    def note(call: grpc.Future, moment: float) -> None:
        answers.seconds.append(time.perf_counter() - moment)
        if call.code() is grpc.StatusCode.OK:
            answers.contents.append(call.result())
        else:
            answers.errors.append(call.code().name)

    for place, offset in enumerate(due):
        moment = begun + offset
        if (early := moment - time.perf_counter()) > 0:
            time.sleep(early)
        _, method = connections[place % len(connections)]
        call = method.future(requests[place % len(requests)], timeout=DEADLINE_SECONDS)
        call.add_done_callback(lambda call, moment=moment: note(call, moment))
    while len(answers.seconds) < len(due):
        time.sleep(0.01)
    for channel, _ in connections:
        channel.close()
    return [answers]


def check(contents: list[bytes], version: int) -> None:
    """Raises ValueError where an answer has not K different items, best first, from the release asked for."""
    for content in contents:
        answer = retrieval_pb2.RecommendResponse.FromString(content)
        scores = [item.score for item in answer.items]
        if len({item.item_id for item in answer.items}) != K or scores != sorted(scores, reverse=True):
            raise ValueError(f"an answer is not {K} items, best first, but {len(answer.items)}: {answer.items}")
        if (answer.tower_version, answer.index_version, answer.known_query) != (version, version, True):
            raise ValueError(f"an answer comes from release {answer.tower_version}, or the query was not known")


def main(address: str, version: int, how: str, number: float, seconds: float) -> dict[str, object]:
    """Warms up, measures, checks. Returns times in milliseconds, and processor seconds of the generator."""
    requests = _requests()

    def run(length: float) -> list[Answers]:
        if how == "closed":
            return closed_loop(address, int(number), length, requests)
        return open_loop(address, number, length, requests)

    for answers in run(WARM_UP_SECONDS):
        check(answers.contents, version)
    print("measuring", flush=True)
    cpu, start = sum(os.times()[:2]), time.perf_counter()
    collected = run(seconds)
    elapsed, cpu = time.perf_counter() - start, sum(os.times()[:2]) - cpu
    print("measured", flush=True)
    for answers in collected:
        check(answers.contents, version)
    errors = [error for answers in collected for error in answers.errors]
    times = np.concatenate([answers.seconds for answers in collected]) * 1e3
    p50, p99 = np.percentile(times, [50, 99])
    return {
        "answers": len(times) - len(errors),
        "errors": {error: errors.count(error) for error in sorted(set(errors))},
        "per_second": (len(times) - len(errors)) / elapsed,
        "p50_ms": p50,
        "p99_ms": p99,
        "seconds": elapsed,
        "generator_cores": cpu / elapsed,
    }


if __name__ == "__main__":
    _, given_address, given_version, given_how, given_number, given_seconds = sys.argv
    measured = main(given_address, int(given_version), given_how, float(given_number), float(given_seconds))
    print(json.dumps(measured))
