"""TensorProtos as TensorFlow Serving's clients send and expect them."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import tensorflow as tf
from numpy.typing import DTypeLike, NDArray
from tensorflow.core.framework import tensor_pb2

from serving.status import invalid

MAX_ELEMENTS = 1 << 20  # a shape alone can ask for any amount of memory: one value may stand for all of a tensor
MAX_TEXT_BYTES = 64 << 20  # as much as a message has

# dtype -> the field that holds its values, and the type by which they are written there
TYPED_FIELDS: dict[tf.DType, tuple[str, DTypeLike]] = {
    tf.float32: ("float_val", None),
    tf.float64: ("double_val", None),
    tf.int8: ("int_val", None),
    tf.int16: ("int_val", None),
    tf.int32: ("int_val", None),
    tf.int64: ("int64_val", None),
    tf.uint8: ("int_val", None),
    tf.uint16: ("int_val", None),
    tf.uint32: ("uint32_val", None),
    tf.uint64: ("uint64_val", None),
    tf.bool: ("bool_val", None),
    tf.string: ("string_val", None),
    tf.half: ("half_val", np.uint16),  # the bits
    tf.bfloat16: ("half_val", np.uint16),
    tf.complex64: ("scomplex_val", np.float32),  # real and imaginary part in turn
    tf.complex128: ("dcomplex_val", np.float64),
}


def check_text(strings: Sequence[bytes], common: int = 0) -> None:
    """Refuses strings that take too much memory once each is as long as the longest.

    Of a tensor one string may stand for all, so a small message makes a large one; and a model that parses examples
    pads each to the width of the widest.

    Args:
      strings: any number.
      common: bytes that are put before each.

    Raises:
      RequestError: they take more than MAX_TEXT_BYTES.
    """
    longest = common + max(map(len, strings), default=0)
    if len(strings) * longest > MAX_TEXT_BYTES:
        raise invalid(
            f"{len(strings)} strings, the longest of {longest} bytes: at most {MAX_TEXT_BYTES} bytes are taken, each "
            "string counted as the longest"
        )


def dtype_of(array: NDArray) -> tf.DType:
    """The TensorFlow type of an array; an array of objects holds strings."""
    return tf.string if array.dtype == np.object_ else tf.as_dtype(array.dtype)


def decode(proto: tensor_pb2.TensorProto) -> NDArray:
    """A TensorProto as an array; strings become an object array of bytes.

    Raises:
      ValueError: it is not a complete tensor of a known type.
    """
    sizes = [dim.size for dim in proto.tensor_shape.dim]
    if proto.tensor_shape.unknown_rank or any(size < 0 for size in sizes):
        raise ValueError("the shape is not complete")
    if math.prod(max(size, 1) for size in sizes) > MAX_ELEMENTS:  # of [2**40, 0] a sum makes 2**40 values
        raise ValueError(f"the shape {sizes} has more than {MAX_ELEMENTS} elements")
    try:
        if proto.dtype == tf.string.as_datatype_enum and proto.tensor_content:
            # Lengths, then bytes: a form that C++ clients may send and that make_ndarray does not know.
            array: NDArray = tf.io.parse_tensor(proto.SerializeToString(), tf.string).numpy()
        else:
            array = tf.make_ndarray(proto)
    except (TypeError, KeyError, OverflowError, tf.errors.InvalidArgumentError) as error:
        raise ValueError(str(error)) from error
    return array


def encode(array: NDArray, proto: tensor_pb2.TensorProto) -> None:
    """Writes an array into an empty TensorProto, its values in the typed field: float_val for float32.

    Raises:
      ValueError: the type has no typed field here.
    """
    dtype = dtype_of(array)
    if dtype not in TYPED_FIELDS:
        raise ValueError(f"cannot send a tensor of type {dtype.name}")
    field, written_as = TYPED_FIELDS[dtype]
    proto.dtype = dtype.as_datatype_enum
    for size in array.shape:
        proto.tensor_shape.dim.add(size=size)
    proto.tensor_shape.SetInParent()  # a scalar has a shape too
    values = array.ravel() if written_as is None else array.ravel().view(written_as)
    getattr(proto, field).extend(values.tolist())
