"""Predict: what is answered, in which fields, and what is refused with which words."""

import grpc
import numpy as np
import pytest
import tensorflow as tf
from tensorflow.core.framework import tensor_pb2
from tensorflow_serving.apis import predict_pb2

from tests.integration.serving.conformance.conftest import Running
from tests.integration.serving.conformance.requests import INVALID, UNKNOWN_MODELS, predict, refused, row, spec
from tests.integration.serving.conformance.signatures import ECHOED
from tests.unit.serving import tiny

NAMES = "history,tags,time,user_id,w"
TENSORS = {
    "user_id": tf.make_tensor_proto(["alice", ""]),
    "w": tf.make_tensor_proto([1.5, float("nan")]),
    "tags": tf.make_tensor_proto([["x", "y"], ["x", ""]]),
    "history": tf.make_tensor_proto([[""], ["i1"]]),
    "time": tf.make_tensor_proto([7, -1], dtype=tf.int64),
}


def tensor(dtype: tf.DType, sizes: list[int], **fields: object) -> tensor_pb2.TensorProto:
    shape = {"dim": [{"size": size} for size in sizes]}
    return tensor_pb2.TensorProto(dtype=dtype.as_datatype_enum, tensor_shape=shape, **fields)


def without(name: str) -> dict:
    return {key: value for key, value in TENSORS.items() if key != name}


def test_default_signature(running: Running) -> None:
    response = running.prediction.Predict(predict("", TENSORS), timeout=30)
    output = response.outputs["embedding"]
    assert list(response.outputs) == ["embedding"]
    assert list(output.float_val) == [101.5, 2, 0, 7, 0, 1, 1, -1]
    assert output.tensor_content == b""
    assert [dim.size for dim in output.tensor_shape.dim] == [2, 4]
    assert response.model_spec.name == "tiny"
    assert response.model_spec.version.value == running.version
    assert response.model_spec.signature_name == "serving_default"
    assert not response.model_spec.HasField("version_label")


def test_version_and_signature(running: Running) -> None:
    example = tiny.example(a=[1.0], b=[2.0], c=[3.0], d=[4.0]).SerializeToString()
    request = predict(
        "item_examples",
        {"examples": tf.make_tensor_proto([example])},
        model_spec=spec("item_examples", version={"value": running.version}),
        output_filter=["embedding"],
    )
    response = running.prediction.Predict(request, timeout=30)
    assert list(response.outputs["embedding"].float_val) == [1, 2, 3, 4]
    assert response.model_spec.signature_name == "item_examples"


@pytest.mark.parametrize(
    ("signature", "name", "expected"), [("regress", "outputs", [3.0]), ("classify", "scores", [3.0, 4.0])]
)
def test_signatures_of_other_methods(running: Running, signature: str, name: str, expected: list[float]) -> None:
    inputs = {"inputs": tf.make_tensor_proto([tiny.example(x=[2.0]).SerializeToString()])}
    response = running.prediction.Predict(predict(signature, inputs), timeout=30)
    assert list(response.outputs[name].float_val) == expected


def test_output_filter(running: Running) -> None:
    inputs = {"a": row(5, 7), "b": row(1, 2)}
    response = running.prediction.Predict(predict("sum", inputs), timeout=30)
    assert {name: list(value.float_val) for name, value in response.outputs.items()} == {
        "sum": [6, 9],
        "difference": [4, 5],
    }
    response = running.prediction.Predict(predict("sum", inputs, output_filter=["difference"]), timeout=30)
    assert list(response.outputs) == ["difference"]


def test_scalar_output(running: Running) -> None:
    output = running.prediction.Predict(predict("mean", {"x": row(1, 2, 6)}), timeout=30).outputs["mean"]
    assert list(output.float_val) == [3]
    assert output.HasField("tensor_shape")
    assert not output.tensor_shape.dim
    assert not output.tensor_shape.unknown_rank


def test_default_of_an_input(running: Running) -> None:
    response = running.prediction.Predict(predict("sum_with_default", {"a": row(1, 2)}), timeout=30)
    assert list(response.outputs["sum"].float_val) == [11, 12]
    response = running.prediction.Predict(predict("sum_with_default", {"a": row(1), "b": row(3)}), timeout=30)
    assert list(response.outputs["sum"].float_val) == [4]


VALUES = {
    "float32": ("float_val", [1.5, -2.0]),
    "float64": ("double_val", [0.1, 1e300]),
    "float16": ("half_val", [0x3E00, 0xC000]),  # 1.5, -2
    "bfloat16": ("half_val", [0x3FC0, 0xC000]),
    "int8": ("int_val", [-128, 127]),
    "int16": ("int_val", [-32768, 32767]),
    "int32": ("int_val", [-(1 << 31), (1 << 31) - 1]),
    "int64": ("int64_val", [-(1 << 63), (1 << 63) - 1]),
    "uint8": ("int_val", [0, 255]),
    "uint16": ("int_val", [0, 65535]),
    "uint32": ("uint32_val", [0, (1 << 32) - 1]),
    "uint64": ("uint64_val", [0, (1 << 64) - 1]),
    "bool": ("bool_val", [True, False]),
    "string": ("string_val", [b"a\x00\xff", "日本".encode()]),
    "complex64": ("scomplex_val", [1.0, 2.0, 3.0, -4.0]),  # 1 + 2i, 3 - 4i
    "complex128": ("dcomplex_val", [1.0, 2.0, 3.0, -4.0]),
}


@pytest.mark.parametrize("name", VALUES)
def test_types_come_in_and_go_out_in_their_typed_field(running: Running, name: str) -> None:
    field, values = VALUES[name]
    sent = tensor(ECHOED[name], [2, 1], **{field: values})
    response = running.prediction.Predict(predict(f"echo_{name}", {"x": sent}), timeout=30)
    assert response.outputs["y"] == sent


@pytest.mark.parametrize(
    ("name", "content", "expected"),
    [
        ("float32", b"\x00\x00\xc0\x3f\x00\x00\x00\xc0", [1.5, -2.0]),
        ("float16", b"\x00\x3e\x00\xc0", [0x3E00, 0xC000]),
        ("int32", b"\x01\x00\x00\x00\xff\xff\xff\xff", [1, -1]),
        ("int64", b"\x01" + b"\x00" * 7 + b"\xff" * 8, [1, -1]),
        ("uint8", b"\x00\xff", [0, 255]),
        ("bool", b"\x01\x00", [True, False]),
        ("string", b"\x02\x03abcde", [b"ab", b"cde"]),  # the lengths, then the bytes
    ],
)
def test_tensor_content(running: Running, name: str, content: bytes, expected: list) -> None:
    sent = tensor(ECHOED[name], [2], tensor_content=content)
    output = running.prediction.Predict(predict(f"echo_{name}", {"x": sent}), timeout=30).outputs["y"]
    assert output.tensor_content == b""
    assert list(getattr(output, VALUES[name][0])) == expected


@pytest.mark.parametrize(
    ("sent", "expected"),
    [
        (tensor(tf.float32, [3], float_val=[1, 2]), [1, 2, 2]),
        (tensor(tf.float32, [2], float_val=[7]), [7, 7]),
        (tensor(tf.float32, [2]), [0, 0]),
        (tensor(tf.float32, [0]), []),
        (tensor(tf.float32, [], float_val=[4]), [4]),
    ],
    ids=["last repeated", "one for all", "none for zeros", "empty", "scalar"],
)
def test_values_that_stand_for_more(running: Running, sent: tensor_pb2.TensorProto, expected: list[float]) -> None:
    output = running.prediction.Predict(predict("echo_float32", {"x": sent}), timeout=30).outputs["y"]
    assert list(output.float_val) == expected
    assert output.tensor_shape == sent.tensor_shape


@pytest.mark.parametrize(
    "sent",
    [
        tensor(tf.float32, [2], tensor_content=b"1234567"),
        tensor(tf.float32, [2], tensor_content=b"\x00" * 12),
        tensor(tf.float32, [2], float_val=[1, 2, 3]),
        tensor(tf.float32, [-1], float_val=[1]),
        tensor(tf.float32, [1 << 40], float_val=[1]),
        tensor_pb2.TensorProto(dtype=1, tensor_shape={"unknown_rank": True}, float_val=[1]),
        tensor_pb2.TensorProto(dtype=0, tensor_shape={"dim": [{"size": 1}]}, float_val=[1]),
        tensor_pb2.TensorProto(dtype=999, tensor_shape={"dim": [{"size": 1}]}),
        tensor(tf.string, [2], tensor_content=b"\x05\x01ab"),
        tensor(tf.resource, [1]),
        tensor(tf.variant, [1]),
    ],
    ids=[
        *("content too short", "content too long", "too many values", "negative size", "2^40 elements"),
        *("unknown rank", "no type", "unknown type", "strings too short", "resource", "variant"),
    ],
)
def test_undecodable_tensors(running: Running, sent: tensor_pb2.TensorProto) -> None:
    assert refused(running.prediction.Predict, predict("echo_float32", {"x": sent})) == (
        INVALID,
        "tensor parsing error: x",
    )


def test_missing_spec(running: Running) -> None:
    request = predict_pb2.PredictRequest(inputs=TENSORS)
    assert refused(running.prediction.Predict, request) == (INVALID, "Missing ModelSpec")


@pytest.mark.parametrize(("model_spec", "code", "message"), UNKNOWN_MODELS)
def test_unknown_models(running: Running, model_spec: dict, code: grpc.StatusCode, message: str) -> None:
    assert refused(running.prediction.Predict, predict("", TENSORS, model_spec=model_spec)) == (code, message)


@pytest.mark.parametrize(
    ("request_", "code", "message"),
    [
        (
            predict("x", TENSORS),
            grpc.StatusCode.FAILED_PRECONDITION,
            'Serving signature key "x" not found.',
        ),
        (
            predict("nothing_fits", {"x": row(1)}),
            grpc.StatusCode.INTERNAL,
            "Expected prediction signature method_name to be one of {tensorflow/serving/predict, "
            "tensorflow/serving/classify, tensorflow/serving/regress}. Was: tensorflow/serving/other",
        ),
        (
            predict("", {}),
            INVALID,
            f"input size does not match signature: 0!=5 len({{}}) != len({{{NAMES}}}). Sent extra: {{}}. "
            f"Missing but required: {{{NAMES}}}.",
        ),
        (
            predict("", without("w")),
            INVALID,
            f"input size does not match signature: 4!=5 len({{history,tags,time,user_id}}) != len({{{NAMES}}}). "
            "Sent extra: {}. Missing but required: {w}.",
        ),
        (
            predict("", {**TENSORS, "x": TENSORS["w"]}),
            INVALID,
            f"input size does not match signature: 6!=5 len({{{NAMES},x}}) != len({{{NAMES}}}). "
            "Sent extra: {x}. Missing but required: {}.",
        ),
        (
            predict("sum_with_default", {"a": row(1), "b": row(1), "c": row(1)}),
            INVALID,
            "input size does not match signature: 3!=2 len({a,b,c}) != len({a,b}). Sent extra: {c}. "
            "Missing but required: {}.",
        ),
        (
            predict("sum", {"a": row(1), "c": row(1)}),
            INVALID,
            "Signature input alias: b(feed name: sum_b:0) not found in request and no default value provided. "
            "Inputs expected to be in the request {a,c}, or default input alias set: ",
        ),
        (
            predict("sum_with_default", {"b": row(1)}),
            INVALID,
            "Signature input alias: a(feed name: sum_with_default_a:0) not found in request and no default value "
            "provided. Inputs expected to be in the request {b}, or default input alias set: b",
        ),
        (
            predict("sum_with_default", {"a": row(1), "c": row(1)}),
            INVALID,
            "Inputs contains invalid name. Used request inputs: a, request input: a,c",
        ),
        (
            predict("sum", {"a": row(1), "b": tf.make_tensor_proto(["1"])}),
            INVALID,
            "input b has type string, expected float32",
        ),
        (
            predict("sum", {"a": row(1), "b": tf.make_tensor_proto([[1.0, 2.0]])}),
            INVALID,
            "input b has shape [1, 2], expected (None,)",
        ),
        (
            predict("sum", {"a": row(1), "b": row(1)}, output_filter=["sum", "x"]),
            INVALID,
            "output tensor alias not found in signature: x Outputs expected to be in the set {difference,sum}.",
        ),
        (
            predict("sum", {"a": row(1), "b": row(1)}, output_filter=["sum", "sum"]),
            INVALID,
            "duplicate output tensor alias: sum",
        ),
    ],
)
def test_refused(running: Running, request_: predict_pb2.PredictRequest, code: grpc.StatusCode, message: str) -> None:
    assert refused(running.prediction.Predict, request_) == (code, message)


@pytest.mark.parametrize(
    ("request_", "part"),
    [
        (predict("sum", {"a": row(1, 2), "b": row(1, 2, 3)}), "[2] vs. [3]"),
        (predict("", {**TENSORS, "w": row(1, 2, 3)}), "[3]"),
        (predict("item_examples", {"examples": tf.make_tensor_proto(["no example"])}), "Could not parse example"),
        (predict("number", {"x": tf.make_tensor_proto(["seven"])}), "seven"),
    ],
    ids=["shapes of two inputs", "rows of several inputs", "no example", "no number"],
)
def test_error_of_an_op(running: Running, request_: predict_pb2.PredictRequest, part: str) -> None:
    code, message = refused(running.prediction.Predict, request_)
    assert code is INVALID
    assert part in message


def test_message_beyond_four_mebibytes(running: Running) -> None:
    rows = 200_000  # more than gRPC's own limit for a message
    inputs = {
        "user_id": tf.make_tensor_proto(np.full(rows, b"somebody else", dtype=object)),
        "w": tf.make_tensor_proto(np.arange(rows, dtype=np.float32)),
        "tags": tf.make_tensor_proto(np.full((rows, 1), b"some tag", dtype=object)),
        "history": tf.make_tensor_proto(np.full((rows, 1), b"", dtype=object)),
        "time": tf.make_tensor_proto(np.full(rows, -1, dtype=np.int64)),
    }
    request = predict("", inputs)
    assert request.ByteSize() > 4 << 20
    response = running.prediction.Predict(request, timeout=60)
    assert list(response.outputs["embedding"].float_val)[4 * 199_999] == 199_999


def test_strings_that_stand_for_more_than_a_message_has(running: Running) -> None:
    sent = tensor(tf.string, [1 << 20], string_val=[b"x" * 65])
    code, message = refused(running.prediction.Predict, predict("echo_string", {"x": sent}))
    assert code is INVALID
    assert message.startswith("1048576 strings, the longest of 65 bytes: at most 67108864 bytes are taken")


def test_message_beyond_the_limit(running: Running) -> None:
    request = predict("echo_string", {"x": tf.make_tensor_proto([b"x" * (65 << 20)])})
    code, message = refused(running.prediction.Predict, request)
    assert code is grpc.StatusCode.RESOURCE_EXHAUSTED
    assert "larger than max" in message


def test_passed_deadline(running: Running) -> None:
    with pytest.raises(grpc.RpcError) as raised:
        running.prediction.Predict(predict("", TENSORS), timeout=0)
    assert raised.value.code() is grpc.StatusCode.DEADLINE_EXCEEDED


def test_unknown_method(running: Running) -> None:
    call = running.channel.unary_unary("/tensorflow.serving.PredictionService/Nothing")
    assert refused(call, b"")[0] is grpc.StatusCode.UNIMPLEMENTED
