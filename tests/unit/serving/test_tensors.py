import grpc
import numpy as np
import pytest
import tensorflow as tf
from tensorflow.core.framework import tensor_pb2

from serving.status import RequestError
from serving.tensors import check_text, decode, encode


def encoded(array: np.ndarray) -> tensor_pb2.TensorProto:
    proto = tensor_pb2.TensorProto()
    encode(array, proto)
    return proto


def test_floats_are_sent_in_the_typed_field() -> None:
    proto = encoded(np.array([[1.5, 2.5]], dtype=np.float32))
    assert list(proto.float_val) == [1.5, 2.5]
    assert proto.tensor_content == b""
    assert [dim.size for dim in proto.tensor_shape.dim] == [1, 2]


@pytest.mark.parametrize(
    "array",
    [
        np.array([[1, 2], [3, 4]], dtype=np.float32),
        np.array([1, -2], dtype=np.int64),
        np.array([1], dtype=np.int32),
        np.array([0.5], dtype=np.float64),
        np.array([True, False]),
        np.array([b"a", b"\xff"], dtype=object),
        np.zeros((0, 3), dtype=np.float32),
        np.array(2.5, dtype=np.float32),
        np.array([1.5, -2], dtype=np.float16),
        np.array([[1 + 2j], [3 - 4j]], dtype=np.complex64),
        np.array([[1, 2], [3, 4]], dtype=np.float16).T,
    ],
)
def test_round_trip(array: np.ndarray) -> None:
    decoded = decode(encoded(array))
    assert decoded.shape == array.shape
    assert decoded.tolist() == array.tolist()


def test_strings_count_as_the_longest() -> None:
    check_text([])
    check_text([b"x" * (1 << 13), b""] * (1 << 12))  # 2^26 bytes
    check_text([b"x" * (1 << 12), b""] * (1 << 12), common=1 << 12)
    for strings, common in (([b"x" * (1 << 13), b""] * (1 << 12) + [b""], 0), ([b""] * (1 << 13), (1 << 13) + 1)):
        with pytest.raises(RequestError, match="at most 67108864 bytes are taken") as raised:
            check_text(strings, common)
        assert raised.value.status is grpc.StatusCode.INVALID_ARGUMENT


def test_unknown_type_is_not_sent() -> None:
    with pytest.raises(ValueError, match="cannot send a tensor of type qint8"):
        encoded(np.zeros(1, dtype=tf.qint8.as_numpy_dtype))


def shape(*sizes: int) -> dict:
    return {"dim": [{"size": size} for size in sizes]}


F = tf.float32.as_datatype_enum


@pytest.mark.parametrize(
    ("proto", "message"),
    [
        (tensor_pb2.TensorProto(dtype=F, tensor_shape=shape(-1), float_val=[1]), "the shape is not complete"),
        (tensor_pb2.TensorProto(dtype=F, tensor_shape={"unknown_rank": True}), "the shape is not complete"),
        (tensor_pb2.TensorProto(dtype=F, tensor_shape=shape(2), tensor_content=b"123"), "multiple of element size"),
        (tensor_pb2.TensorProto(dtype=F, tensor_shape=shape(2), float_val=[1, 2, 3]), "negative"),
        (tensor_pb2.TensorProto(dtype=F, tensor_shape=shape(1 << 40), float_val=[1]), "more than 1048576 elements"),
        (tensor_pb2.TensorProto(dtype=F, tensor_shape=shape(1 << 40, 0)), "more than 1048576 elements"),
        (tensor_pb2.TensorProto(dtype=0, tensor_shape=shape(1)), "0"),
        (tensor_pb2.TensorProto(dtype=12345, tensor_shape=shape(1)), "12345"),
        (tensor_pb2.TensorProto(dtype=tf.resource.as_datatype_enum, tensor_shape=shape(1)), "20"),
    ],
    ids=[
        "negative",
        "unknown rank",
        "truncated",
        "too many values",
        "huge",
        "huge and empty",
        "no type",
        "unknown type",
        "resource",
    ],
)
def test_bad_tensors(proto: tensor_pb2.TensorProto, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        decode(proto)
