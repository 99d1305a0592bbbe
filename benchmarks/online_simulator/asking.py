"""What the real server answers: for each person under each label, and for each visit of a week."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from benchmarks.online_simulator.world import World, item_number
from serving.client import Recommendations, Request, RetrievalClient
from serving.served import pick

RETRIEVED = 50
BATCH = 64
PATIENCE = 60.0  # seconds until the server must have followed the state file


class AnswerError(RuntimeError):
    """The server answered otherwise than it should have."""


def _ask(client: RetrievalClient, requests: Sequence[Request], label: str) -> list[Recommendations]:
    answers: list[Recommendations] = []
    for start in range(0, len(requests), BATCH):
        for answer in client.recommend_batch(requests[start : start + BATCH], label=label, timeout=60):
            if not isinstance(answer, Recommendations):
                raise AnswerError(str(answer))
            answers.append(answer)
    return answers


def _items(answer: Recommendations) -> list[int]:
    return [item_number(item.item_id) for item in answer.items]


def retrieved(client: RetrievalClient, people: int, label: str, version: int) -> NDArray[np.int64]:
    """int [people, RETRIEVED]: what the release with a label retrieves for each person.

    Raises:
      AnswerError: another label or version answered.
    """
    requests = [Request(query_id=f"p{row}", features={"person": float(row)}, k=RETRIEVED) for row in range(people)]
    answers = _ask(client, requests, label)
    other = [answer for answer in answers if (answer.label, answer.index_version) != (label, version)]
    if other:
        raise AnswerError(
            f"label {label}, version {version} was asked, {other[0].label} {other[0].index_version} answered"
        )
    return np.array([_items(answer) for answer in answers])


def wait_for_split(client: RetrievalClient, traffic: Mapping[str, int]) -> None:
    """Returns when the server splits the traffic so.

    Raises:
      AnswerError: it does not in time.
    """
    ids = [f"probe{number}" for number in range(500)]
    expected = [pick(traffic, query_id) for query_id in ids]
    requests = [Request(query_id=query_id, features={"person": 0.0}, k=1) for query_id in ids]
    end = time.monotonic() + PATIENCE
    while [answer.label for answer in _ask(client, requests, "")] != expected:
        if time.monotonic() > end:
            raise AnswerError(f"the server does not split the traffic as {dict(traffic)}")
        time.sleep(0.2)


def visit(client: RetrievalClient, world: World, query_id: str, person: int) -> tuple[str, NDArray[np.int64]]:
    """One visit as a shop has it: asks without a label, ranks, and shows.

    Returns:
      (label that answered, int [SHOWN] items).
    """
    answer = client.recommend(query_id=query_id, features={"person": float(person)}, k=RETRIEVED, timeout=60)
    return answer.label, world.rank(np.array([person]), np.array([_items(answer)]))[0]
