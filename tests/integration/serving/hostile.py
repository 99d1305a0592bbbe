"""Requests that nobody means well with, each with the statuses that answer it rightly."""

from __future__ import annotations

import random
import socket
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import tensorflow as tf
from grpc import StatusCode
from grpc_health.v1 import health_pb2
from tensorflow.core.framework import tensor_pb2
from tensorflow_serving.apis import (
    classification_pb2,
    get_model_metadata_pb2,
    get_model_status_pb2,
    inference_pb2,
    input_pb2,
    model_management_pb2,
    predict_pb2,
    regression_pb2,
)

from serving.proto import retrieval_pb2
from tests.unit.serving import tiny

RECOMMEND = "/retrieval.v1.RetrievalService/Recommend"
BATCH = "/retrieval.v1.RetrievalService/RecommendBatch"
PREDICT = "/tensorflow.serving.PredictionService/Predict"
CLASSIFY = "/tensorflow.serving.PredictionService/Classify"
REGRESS = "/tensorflow.serving.PredictionService/Regress"
MULTI = "/tensorflow.serving.PredictionService/MultiInference"
METADATA = "/tensorflow.serving.PredictionService/GetModelMetadata"
STATUS = "/tensorflow.serving.ModelService/GetModelStatus"
RELOAD = "/tensorflow.serving.ModelService/HandleReloadConfigRequest"
HEALTH = "/grpc.health.v1.Health/Check"
PATHS = (RECOMMEND, BATCH, PREDICT, CLASSIFY, REGRESS, MULTI, METADATA, STATUS, RELOAD, HEALTH)
RELEASES = "r"  # the folder of the releases, seen from where the server runs
OTHER_PATHS = ("/", "/retrieval.v1.RetrievalService/recommend", "/%00/x", "/a/b/c", "/retrieval.v1.RetrievalService/")

INVALID, FULL = StatusCode.INVALID_ARGUMENT, StatusCode.RESOURCE_EXHAUSTED
NEVER = {StatusCode.UNKNOWN, StatusCode.INTERNAL, StatusCode.UNAVAILABLE, StatusCode.DATA_LOSS, StatusCode.ABORTED}
ANY = frozenset(set(StatusCode) - NEVER)  # where chance may also make a good request
CHANGED = frozenset({StatusCode.OK, StatusCode.UNAVAILABLE})  # unavailable: others' changes are being written
EVIL_BYTES = (b"\xff\xfe", b"\xed\xa0\x80", b"\xc0\x80", b"\xf4\x90\x80\x80", b"\x80", b"\xe2\x82")
EVIL_TEXTS = (
    "",
    "\x00",
    "a\r\nb: c",
    "\u202e",
    "%00%s%n",
    "'; --",
    "\U0001f600" * 50,
    "x" * 100_000,
    "../../etc/passwd",
)
NUMBERS = (float("nan"), float("inf"), -float("inf"), 3e38, -3e38, 1e-45, 0.0)
GOOD_ROW = {
    "user_id": tf.make_tensor_proto(["alice"]),
    "w": tf.make_tensor_proto([1.0]),
    "tags": tf.make_tensor_proto([["x"]]),
    "history": tf.make_tensor_proto([["i1"]]),
    "time": tf.make_tensor_proto([5], dtype=tf.int64),
}
ONE_EXAMPLE = input_pb2.Input(example_list={"examples": [tiny.example(x=[1.0])]})


class Attack(NamedTuple):
    """One call."""

    path: str
    message: bytes
    right: frozenset[StatusCode]


def attack(chance: random.Random) -> Attack:
    """A random one."""
    return chance.choice(KINDS)(chance)


def noise(chance: random.Random) -> Attack:
    path = chance.choice(PATHS + OTHER_PATHS)
    return Attack(path, chance.randbytes(chance.choice((0, 1, 5, 50, 5000))), ANY)


def mutated(chance: random.Random) -> Attack:
    path, message = chance.choice(GOOD)
    content = bytearray(message)
    for _ in range(chance.randint(1, 8)):
        at = chance.randrange(len(content) + 1)
        change = chance.randrange(4)
        if change == 0:
            content[at:at] = chance.randbytes(chance.randint(1, 4))
        elif change == 1:
            del content[at : at + chance.randint(1, 8)]
        elif change == 2:
            content[at:at] = content[: chance.randint(0, 60)]
        elif content:
            content[at % len(content)] ^= 1 << chance.randrange(8)
    return Attack(path, bytes(content), ANY | CHANGED if path == RELOAD else ANY)


def recommend(right: frozenset[StatusCode], **fields: Any) -> Attack:
    given = {name: retrieval_pb2.FeatureValue(**value) for name, value in fields.pop("features", {}).items()}
    return Attack(RECOMMEND, retrieval_pb2.RecommendRequest(features=given, **fields).SerializeToString(), right)


def empty(chance: random.Random) -> Attack:
    path = chance.choice((RECOMMEND, PREDICT, CLASSIFY, REGRESS, MULTI, METADATA, STATUS))
    return Attack(path, b"", frozenset({INVALID}))


def amount(chance: random.Random) -> Attack:
    k = chance.choice((2**31 - 1, -1, -(2**31), 1001, 2**30))
    return recommend(frozenset({INVALID}), query_id="alice", k=k)


def numbers(chance: random.Random) -> Attack:
    values = [chance.choice(NUMBERS) for _ in range(chance.randint(1, 3))]
    feature = {"floats": {"values": values}}
    right = {StatusCode.OK, INVALID} if len(values) == 1 else {INVALID}
    return recommend(frozenset(right), query_id="bob", features={"w": feature}, k=chance.randint(0, 1000))


def kinds(chance: random.Random) -> Attack:
    wrong = {
        "w": [{}, {"strings": {"values": ["1"]}}, {"floats": {"values": [1.0] * 10_000}}],
        "tags": [{}, {"int64s": {"values": [-(2**63), 2**63 - 1]}}, {"floats": {"values": [float("nan")]}}],
        "time": [{"floats": {"values": [0.5]}}, {"strings": {"values": ["now"]}}, {"int64s": {"values": [1, 2]}}],
        "user_id": [{"strings": {"values": ["alice"]}}],
        chance.choice(EVIL_TEXTS): [{"strings": {"values": [chance.choice(EVIL_TEXTS)]}}],
    }
    name = chance.choice(list(wrong))
    return recommend(frozenset({INVALID}), query_id="u", features={name: chance.choice(wrong[name])})


def texts(chance: random.Random) -> Attack:
    text, other = chance.choice(EVIL_TEXTS), chance.choice(EVIL_TEXTS)
    field = chance.choice(("query_id", "model", "item_features", "exclude_ids", "features"))
    if field == "query_id":
        return recommend(frozenset({StatusCode.OK, INVALID}), query_id=text, k=3)
    if field == "model":
        right = StatusCode.NOT_FOUND if text else StatusCode.OK
        return recommend(frozenset({right}), query_id="alice", model=text)
    if field == "features":
        strings = {"strings": {"values": [text, other] * 5}}
        return recommend(
            frozenset({StatusCode.OK}), query_id=other, features={"tags": strings, "history": strings}, k=1
        )
    right = INVALID if field == "item_features" else StatusCode.OK
    return recommend(frozenset({right}), query_id="alice", **{field: [text, other]})


def no_utf8(chance: random.Random) -> Attack:
    """Bytes that are no text in each text field of a RecommendRequest: model 1, query_id 5, exclude 11, features 20."""
    evil = chance.choice(EVIL_BYTES)
    tag = chance.choice((1, 5, 11, 20))
    key = bytes([tag << 3 | 2]) if tag < 16 else bytes([(tag << 3 | 2) & 0x7F | 0x80, tag >> 4])
    return Attack(RECOMMEND, key + bytes([len(evil)]) + evil, frozenset({INVALID}))


def predict(right: frozenset[StatusCode], inputs: dict[str, tensor_pb2.TensorProto], **spec: object) -> Attack:
    request = predict_pb2.PredictRequest(model_spec={"name": "tiny", **spec}, inputs=inputs)
    return Attack(PREDICT, request.SerializeToString(), right)


def tensors(chance: random.Random) -> Attack:
    """Declared shapes that promise what is not there, types of no use, contents of the wrong length."""
    sizes = chance.choice(([2**31], [2**62, 4], [2**40, 0], [-1], [-(2**63)], [2**32, 2**32], [1] * 300, [1 << 24], []))
    dtype = chance.choice((0, 1, 2, 3, 7, 9, 14, 19, 20, 21, 101, 102, 999, -5))
    tensor = tensor_pb2.TensorProto(dtype=dtype, tensor_shape={"dim": [{"size": size} for size in sizes]})
    filled = chance.randrange(5)
    if filled == 0:
        tensor.float_val.append(1.0)
    elif filled == 1:
        tensor.tensor_content = chance.randbytes(chance.randint(1, 40))
    elif filled == 2:
        tensor.string_val.append(b"\xff")
    elif filled == 3:
        tensor.tensor_shape.unknown_rank = True
    name = chance.choice(list(GOOD_ROW))
    return predict(frozenset({INVALID}), {**GOOD_ROW, name: tensor})


def specs(chance: random.Random) -> Attack:
    version = chance.choice(({"value": -1}, {"value": 2**63 - 1}, {"value": 0}))
    kind = chance.randrange(3)
    if kind == 0:
        return predict(frozenset({StatusCode.NOT_FOUND}), GOOD_ROW, version=version)
    if kind == 1:
        name = chance.choice(EVIL_TEXTS) or "x"
        return predict(frozenset({StatusCode.FAILED_PRECONDITION}), GOOD_ROW, signature_name=name)
    return predict(frozenset({INVALID}), GOOD_ROW, version_label=chance.choice(EVIL_TEXTS))


def examples(chance: random.Random) -> Attack:
    rows = [chance.randbytes(chance.choice((1, 7, 300))) for _ in range(chance.choice((1, 3, 100)))]
    inputs = {"examples": tf.make_tensor_proto(rows)}
    signature = chance.choice(("serialized_examples", "item_examples"))
    return predict(frozenset({StatusCode.OK, INVALID}), inputs, signature_name=signature)


def batch(chance: random.Random) -> Attack:
    """Each request in it is wrong by itself, which is told beside the other answers."""
    count = chance.choice((0, 1, 5, 64, 65))
    attacks = [chance.choice((amount, numbers, kinds, texts))(chance) for _ in range(min(count, 5))]
    requests = [retrieval_pb2.RecommendRequest.FromString(one.message) for one in attacks]
    requests += [retrieval_pb2.RecommendRequest()] * (count - len(requests))
    message = retrieval_pb2.RecommendBatchRequest(requests=requests).SerializeToString()
    return Attack(BATCH, message, frozenset({StatusCode.OK if count <= 64 else INVALID}))


def feature(chance: random.Random) -> tf.train.Feature:
    kind = chance.randrange(4)
    if kind == 0:
        return tf.train.Feature(float_list={"value": chance.choices(NUMBERS, k=chance.choice((0, 1, 1, 1000)))})
    if kind == 1:
        return tf.train.Feature(bytes_list={"value": [chance.choice(EVIL_BYTES)]})
    return tf.train.Feature() if kind == 2 else tf.train.Feature(int64_list={"value": [-(2**63)]})


def inputs(chance: random.Random) -> input_pb2.Input:
    """Examples for signatures that take one float x, and perhaps x2."""
    rows = [
        tf.train.Example(features={"feature": {chance.choice(("x", "x2", "", "\x00")): feature(chance)}})
        for _ in range(chance.choice((0, 1, 1, 3, 300)))
    ]
    kind = chance.randrange(3)
    if kind == 0:
        return input_pb2.Input()
    if kind == 1:
        return input_pb2.Input(example_list={"examples": rows})
    context = tf.train.Example(features={"feature": {"x": feature(chance)}})
    return input_pb2.Input(example_list_with_context={"examples": rows, "context": context})


def inference(chance: random.Random) -> Attack:
    signatures = ("classify", "regress", "regress", "serving_default", "item_examples", "", "x" * 100_000)
    given, path, right = inputs(chance), chance.choice((CLASSIFY, REGRESS, MULTI)), {StatusCode.OK, INVALID}
    if path != MULTI:
        kind = classification_pb2.ClassificationRequest if path == CLASSIFY else regression_pb2.RegressionRequest
        request = kind(model_spec={"name": "tiny", "signature_name": chance.choice(signatures)}, input=given)
        return Attack(path, request.SerializeToString(), frozenset(right))
    methods = ("tensorflow/serving/classify", "tensorflow/serving/regress", "tensorflow/serving/predict", "", "\x00")
    tasks = [
        inference_pb2.InferenceTask(
            model_spec={
                "name": chance.choice(("tiny", "tiny", "tiny", "")),
                "signature_name": chance.choice(signatures),
            },
            method_name=chance.choice(methods),
        )
        for _ in range(chance.choice((0, 1, 2, 100)))
    ]
    message = inference_pb2.MultiInferenceRequest(tasks=tasks, input=given).SerializeToString()
    return Attack(path, message, frozenset(right | {StatusCode.UNIMPLEMENTED}))


def reloaded(right: set[StatusCode] | frozenset[StatusCode], *models: dict[str, Any]) -> Attack:
    named = [{"name": "tiny", "base_path": RELEASES, "model_platform": "tensorflow", **model} for model in models]
    request = model_management_pb2.ReloadConfigRequest(config={"model_config_list": {"config": named}})
    return Attack(RELOAD, request.SerializeToString(), frozenset(right))


def reload(chance: random.Random) -> Attack:
    """Other models, paths and platforms, versions and labels that there cannot be, and a few that change something."""
    text = chance.choice(EVIL_TEXTS)
    kind = chance.randrange(7)
    if kind == 0:
        paths = (text, "/", "/dev/null/x", "/proc/self/root", f"{RELEASES}/" * 2000, "\ud7ff", RELEASES.upper())
        return reloaded({INVALID}, {"base_path": chance.choice(paths)})
    if kind == 1:
        versions = chance.choice(([], [0], [-1], [-(2**63), 5], [5], [2**63 - 1] * 100, range(1, 102)))
        return reloaded({INVALID}, {"model_version_policy": {"specific": {"versions": versions}}})
    if kind == 2:
        labels = chance.choice(({text: 1}, {"a": 0}, {"a": -1, text: 2**63 - 1}))
        return reloaded({StatusCode.FAILED_PRECONDITION}, {"version_labels": labels})
    if kind == 3:
        return reloaded({INVALID}, *chance.choice(([], [{}] * 2, [{}] * 1000, [{"name": text}], [{}, {"name": text}])))
    if kind == 4:
        labels = dict.fromkeys(map(str, range(101)), 1)
        wrong = ({"model_platform": text or "x"}, {"logging_config": {}}, {"version_labels": labels})
        return reloaded({INVALID}, chance.choice(wrong))
    if kind == 5:
        config = chance.choice(({}, {"custom_model_config": {"type_url": text, "value": chance.randbytes(50)}}))
        request = model_management_pb2.ReloadConfigRequest(config=config)
        return Attack(RELOAD, request.SerializeToString(), frozenset({INVALID}))
    policies = ({"latest": {"num_versions": 2**32 - 1}}, {"latest": {}}, {"all": {}}, {})
    return reloaded(CHANGED, {"model_version_policy": chance.choice(policies)})


KINDS: tuple[Callable[[random.Random], Attack], ...] = (
    noise, mutated, mutated, empty, amount, numbers, kinds, texts, no_utf8, tensors, tensors, specs, examples, batch,
    inference, inference, reload,
)  # fmt: skip
GOOD = (
    *[
        recommend(ANY, query_id="alice", k=3, features=features)[:2]
        for features in ({}, {"w": {"floats": {"values": [1.0]}}, "tags": {"strings": {"values": ["a", "b"]}}})
    ],
    (PREDICT, predict_pb2.PredictRequest(model_spec={"name": "tiny"}, inputs=GOOD_ROW).SerializeToString()),
    (BATCH, retrieval_pb2.RecommendBatchRequest(requests=[{"query_id": "alice", "k": 2}] * 2).SerializeToString()),
    *[
        (path, kind(model_spec={"name": "tiny", "signature_name": name}, input=ONE_EXAMPLE).SerializeToString())
        for path, kind, name in (
            (CLASSIFY, classification_pb2.ClassificationRequest, "classify"),
            (REGRESS, regression_pb2.RegressionRequest, "regress"),
        )
    ],
    (
        MULTI,
        inference_pb2.MultiInferenceRequest(
            tasks=[
                {
                    "model_spec": {"name": "tiny", "signature_name": "regress"},
                    "method_name": "tensorflow/serving/regress",
                }
            ],
            input=ONE_EXAMPLE,
        ).SerializeToString(),
    ),
    (
        METADATA,
        get_model_metadata_pb2.GetModelMetadataRequest(
            model_spec={"name": "tiny"}, metadata_field=["signature_def"]
        ).SerializeToString(),
    ),
    reloaded(CHANGED, {"model_version_policy": {"all": {}}})[:2],
    (STATUS, get_model_status_pb2.GetModelStatusRequest(model_spec={"name": "tiny"}).SerializeToString()),
    (HEALTH, health_pb2.HealthCheckRequest().SerializeToString()),
)


def heavy() -> Iterator[Attack]:
    """What is too large to send thousands of."""
    ids = [f"{number:x}" for number in range(10**6)]
    yield recommend(frozenset({INVALID}), query_id="alice", exclude_ids=ids, k=5)
    yield Attack(RECOMMEND, b"\x2a" + b"\x80\x80\x80\x21" + bytes(33 << 21), frozenset({FULL}))  # 66 MiB
    row = {**GOOD_ROW, "w": tensor_pb2.TensorProto(dtype=1, tensor_shape={"dim": [{"size": 1 << 24}]}, float_val=[1.0])}
    yield predict(frozenset({INVALID}), row)
    # One MiB that stands for each of a million strings, and one that is put before each of 65,536 examples.
    large = tiny.example(w=[1.0] * (1 << 18)).SerializeToString()
    strings = tensor_pb2.TensorProto(dtype=7, tensor_shape={"dim": [{"size": 1 << 20}]}, string_val=[large])
    yield predict(frozenset({INVALID}), {"examples": strings}, signature_name="serialized_examples")
    many = {"context": tiny.example(x=[1.0] * (1 << 18)), "examples": [tf.train.Example(features={})] * (1 << 16)}
    classify = classification_pb2.ClassificationRequest(
        model_spec={"name": "tiny", "signature_name": "classify"}, input={"example_list_with_context": many}
    )
    yield Attack(CLASSIFY, classify.SerializeToString(), frozenset({INVALID}))
    yield reloaded({INVALID}, {"base_path": "a/" * (1 << 20)})
    yield reloaded({INVALID}, {"model_version_policy": {"specific": {"versions": [1] * (1 << 20)}}})
    labels = {f"{number:x}": 1 for number in range(10**5)}
    yield reloaded({INVALID}, {"version_labels": labels})


def rude_connections(port: int, chance: random.Random) -> list[socket.socket]:
    """Connections that stop short, at each step of HTTP/2, and ones that speak something else."""
    preface = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
    settings = b"\x00\x00\x00\x04\x00\x00\x00\x00\x00"
    beginnings = (
        b"", preface[:10], preface, preface + settings,
        preface + settings + b"\x00\x00\x05\x01\x04\x00\x00\x00\x01\x82",
        preface + settings + b"\xff\xff\xff\x00\x00\x00\x00\x00\x01", b"GET / HTTP/1.1\r\nHost: x\r\n\r\n",
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03", preface + chance.randbytes(200),
    )  # fmt: skip
    opened = []
    for beginning in beginnings:
        connection = socket.create_connection(("127.0.0.1", port), timeout=30)
        connection.sendall(beginning)
        opened.append(connection)
    return opened
