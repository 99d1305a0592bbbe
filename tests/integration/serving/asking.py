"""How tests start a server as a process, hold it up and look at it."""

import math
import sys
import time
from collections.abc import Callable
from pathlib import Path

import grpc
import tensorflow as tf
from grpc_health.v1 import health_pb2, health_pb2_grpc

from serving.client import RetrievalClient, RetrievalError
from tests.unit.serving import tiny


def health(address: str, service: str = "") -> int:
    with grpc.insecure_channel(address) as channel:
        request = health_pb2.HealthCheckRequest(service=service)
        return health_pb2_grpc.HealthStub(channel).Check(request, timeout=30).status


def command(*arguments: object) -> list[str]:
    return [sys.executable, "-m", "serving.server", *map(str, arguments)]


class Gated(tiny.TinyModel):
    """Stays in TensorFlow with the query "slow" from `folder`/started to `folder`/go."""

    def __init__(self, folder: Path) -> None:
        super().__init__()
        self._started, self._go = str(folder / "started"), str(folder / "go")

    @tf.function(input_signature=tiny.TinyModel.serving_default.input_signature)
    def serving_default(self, user_id, w, tags, history, time):
        rounds = 0
        if tf.reduce_any(user_id == "slow"):
            tf.io.write_file(self._started, "")
            # The pattern hangs on the loop's variable, and the answer on the rounds, lest TensorFlow leaves them out.
            while tf.size(tf.io.matching_files(tf.strings.substr(tf.strings.as_string(rounds), 0, 0) + self._go)) == 0:
                rounds += 1
        return super().serving_default(user_id, tf.where(rounds < 0, math.nan, w), tags, history, time)


def wait_until(condition: Callable[[], bool]) -> None:
    for _ in range(6000):
        if condition():
            return
        time.sleep(0.01)
    raise AssertionError("a minute went by in vain")


def refuses(address: str) -> bool:
    # A call that comes in just as the server stops may get no answer before the drain is over: not waited for so long.
    with RetrievalClient(address, timeout=2) as client:
        try:
            client.recommend(query_id="alice", k=1)
        except RetrievalError as error:
            return error.status == "UNAVAILABLE"
    return False
