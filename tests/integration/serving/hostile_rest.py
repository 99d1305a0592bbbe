"""Requests to the REST API that nobody means well with."""

from __future__ import annotations

import json
import random
from collections.abc import Iterator
from typing import NamedTuple
from urllib.parse import quote

from tests.integration.serving.hostile import EVIL_TEXTS

MODEL = "/v1/models/tiny"
METHODS = ("predict", "classify", "regress")
GOOD_ROW = {"user_id": "alice", "w": 1.0, "tags": ["x"], "history": ["i1"], "time": 5}
GOOD = (
    (f"{MODEL}:predict", {"instances": [GOOD_ROW]}),
    (f"{MODEL}:predict", {"signature_name": "half_plus_two", "inputs": [[1.0, 2], [3, 4]]}),
    (f"{MODEL}:classify", {"signature_name": "classify", "examples": [{"x": 1.0}]}),
    (f"{MODEL}:regress", {"signature_name": "regress", "context": {"x": 1.0}, "examples": [{}]}),
)
EVIL_VALUES = (
    "NaN", "-Infinity", "1e400", "9" * 5000, "null", "true", '"\\ud800"', '{"b64": "%"}', '{"b64": 5}',
    "[" * 970 + "]" * 970, "[" * 40 + "]" * 40, "[[], [1]]", "{}", "-0.0", "1e-400", '"\\u0000"',
)  # fmt: skip


class Ask(NamedTuple):
    """One request."""

    method: str
    path: str
    body: bytes


def ask(chance: random.Random) -> Ask:
    """A random one."""
    kind = chance.randrange(5)
    path, document = chance.choice(GOOD)
    body = json.dumps(document).encode()
    if kind == 0:
        return Ask("POST", path, chance.randbytes(chance.choice((0, 1, 50, 5000))))
    if kind == 1:
        at = chance.randrange(len(body))
        return Ask("POST", path, body[:at] + chance.choice((b"", b"\xff", b"[", b"}", b",")) + body[at + 1 :])
    if kind == 2:
        return Ask("POST", path, body.replace(chance.choice((b"1.0", b"[", b'"x"')), evil(chance), 1))
    if kind == 3:
        places = chance.choice(("/versions/{}:predict", "/labels/{}:predict", ":{}", "/{}", "/versions/{}"))
        return Ask(chance.choice(("GET", "POST", "PUT")), MODEL + places.format(text(chance)), body)
    return Ask("POST", f"{MODEL}:{chance.choice(METHODS)}", b'{"signature_name": %b, "instances": %b, "x": %b}' % (
        json.dumps(chance.choice((*EVIL_TEXTS, "regress", "half_plus_two"))).encode(), evil(chance), evil(chance)
    ))  # fmt: skip


def evil(chance: random.Random) -> bytes:
    return chance.choice(EVIL_VALUES).encode()


def text(chance: random.Random) -> str:
    return (
        quote(chance.choice(EVIL_TEXTS)[:1000], safe="") if chance.randrange(2) else "9" * chance.choice((1, 19, 500))
    )


def heavy() -> Iterator[Ask]:
    """What is large; each is refused."""
    lists = b'{"instances": [' + b"[]," * 5_000_000 + b"[]]}"
    examples = b'{"signature_name": "regress", "examples": [{"x": [' + b"1," * (1 << 20) + b"1]}]}"
    yield Ask("POST", f"{MODEL}:predict", lists)
    yield Ask("POST", f"{MODEL}:regress", examples)
