"""TensorProtos as TensorFlow Serving's clients send and expect them."""

from __future__ import annotations

import math

import numpy as np
import tensorflow as tf
from numpy.typing import NDArray
from tensorflow.core.framework import tensor_pb2

MAX_ELEMENTS = 1 << 20  # a shape alone can ask for any amount of memory: one value may stand for all of a tensor
TYPED_FIELDS = {
    tf.float32: "float_val",
    tf.float64: "double_val",
    tf.int32: "int_val",
    tf.int64: "int64_val",
    tf.bool: "bool_val",
    tf.string: "string_val",
}


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
        array: NDArray = tf.make_ndarray(proto)
    except (TypeError, KeyError) as error:
        raise ValueError(str(error)) from error
    return array


def encode(array: NDArray) -> tensor_pb2.TensorProto:
    """An array as a TensorProto with its values in the typed field, float_val for float32.

    Raises:
      ValueError: the type has no typed field here.
    """
    dtype = tf.as_dtype(array.dtype) if array.dtype != np.object_ else tf.string
    if dtype not in TYPED_FIELDS:
        raise ValueError(f"cannot send a tensor of type {dtype.name}")
    proto = tensor_pb2.TensorProto(dtype=dtype.as_datatype_enum, tensor_shape=tf.TensorShape(array.shape).as_proto())
    getattr(proto, TYPED_FIELDS[dtype]).extend(array.ravel().tolist())
    return proto
