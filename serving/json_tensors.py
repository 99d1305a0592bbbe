"""JSON values to tensors and back, as TensorFlow Serving's REST API has them.

https://www.tensorflow.org/tfx/serving/api_rest. NaN, Infinity and -Infinity are numbers, {"b64": "..."} is bytes.
"""

from __future__ import annotations

import base64
import json
import math
from collections.abc import Callable, Iterable
from typing import Any

import grpc
import numpy as np
import tensorflow as tf
from numpy.typing import NDArray

from serving.status import RequestError, invalid
from serving.tensors import MAX_ELEMENTS, dtype_of

B64 = "b64"
BYTES_SUFFIX = "_bytes"  # a string output so named is sent as base64
MAX_RANK = 32  # NumPy's
MAX_SHOWN = 200  # characters of the caller's JSON in an error
CHUNK = 1 << 16
INTEGERS = frozenset((tf.int8, tf.int16, tf.int32, tf.int64, tf.uint8, tf.uint16, tf.uint32, tf.uint64))
FLOATS = {tf.half: 11, tf.float32: 24, tf.float64: 53}  # bits of the significand
C_NAMES = {tf.float32: "float", tf.float64: "double"}

Reader = Callable[[Any], Any]


def parse(body: bytes) -> dict[str, Any]:
    """A request's body.

    Raises:
      RequestError: it is not a JSON object, or has more than MAX_ELEMENTS lists and objects in it.
    """
    if not body:
        raise invalid("JSON Parse error: The document is empty")
    # The parser holds the interpreter until it is done, and these are what takes it long.
    if body.count(b"[") + body.count(b"{") > MAX_ELEMENTS:
        raise invalid(f"the document has more than {MAX_ELEMENTS} lists and objects")
    try:
        document = json.loads(body.decode("utf-8-sig"), parse_float=_decimal)
    except json.JSONDecodeError as error:
        raise invalid(f"JSON Parse error: Invalid value. {error.msg} at offset: {error.pos}") from error
    except UnicodeDecodeError as error:
        raise invalid(f"JSON Parse error: not UTF-8 at offset: {error.start}") from error
    except (ValueError, RecursionError) as error:
        raise invalid(f"JSON Parse error: {error}") from error
    if not isinstance(document, dict):
        raise invalid(f"JSON Value: {show(document)} Is not object")
    return document


def _decimal(text: str) -> float:
    number = float(text)
    if math.isinf(number):
        raise ValueError("Number too big to be stored in double")
    return number


class TensorReader:
    """JSON values of one shape to one tensor of a type, value by value. Not safe for several threads."""

    def __init__(self, dtype: tf.DType) -> None:
        """Args:
        dtype: of the tensor.

        Raises:
          RequestError: values of that type have no JSON form.
        """
        self._dtype = dtype
        self._read = _reader(dtype)
        self._values: list[Any] = []
        self._shape: list[int] | None = None

    def add(self, value: Any) -> None:
        """Adds a value, or lists of them nested as deep as its rank.

        Raises:
          RequestError: the lists are ragged, a value is not of the type, the shape is not the first one's, or there are
            more than MAX_ELEMENTS.
        """
        shape, before = _shape(value), len(self._values)
        self._collect(value, 0, shape)
        if self._shape is None:
            self._shape = shape
        expected, size = math.prod(self._shape), len(self._values) - before
        if size != expected:
            raise invalid(f"Expecting tensor size: {expected} but got: {size}")
        if shape != self._shape:
            raise invalid(f"Expecting shape {_listed(self._shape)} but got: {_listed(shape)}")

    def tensor(self, *outer: int) -> NDArray:
        """What was added, under outer dimensions."""
        return np.array(self._values, dtype=self._dtype.as_numpy_dtype).reshape([*outer, *(self._shape or [])])

    def _collect(self, value: Any, level: int, shape: list[int]) -> None:
        if not isinstance(value, list):
            if level != len(shape):
                raise invalid(
                    f"JSON Value: {show(value)} found at incorrect level: {level + 1} in the JSON DOM. "
                    f"Expected at level: {len(shape)}"
                )
            if len(self._values) == MAX_ELEMENTS:
                raise invalid(f"a tensor has more than {MAX_ELEMENTS} elements")
            self._values.append(self._read(value))
            return
        if level >= len(shape):
            raise invalid(f"Encountered list at unexpected level: {level} expected < {len(shape)}")
        if len(value) != shape[level]:
            raise invalid(
                f"Encountered list at unexpected size: {len(value)} at level: {level} expected size: {shape[level]}"
            )
        for entry in value:
            self._collect(entry, level + 1, shape)


def to_json(name: str, output: NDArray) -> Any:
    """A tensor as a value or nested lists; a float as the shortest decimal that gives the same float32 or float64.

    Args:
      name: the output's; strings of one that ends with _bytes become base64.
      output: of any shape.

    Raises:
      RequestError: its type has no JSON form, or a string is not UTF-8.
    """
    dtype = dtype_of(output)
    if dtype == tf.string:
        convert: Reader = _encoded if name.endswith(BYTES_SUFFIX) else bytes.decode
        try:
            converted = np.array([convert(value) for value in output.ravel()] + [None], dtype=object)[:-1]
        except UnicodeDecodeError as error:
            raise invalid(f"output {name} holds bytes that are not UTF-8; only one named *_bytes may") from error
        return converted.reshape(output.shape).tolist()
    if dtype in (tf.half, tf.float32):
        flat = output.ravel().astype(np.float32)
        wide = np.empty(flat.size, dtype=np.float64)
        for start in range(0, flat.size, CHUNK):  # as text a number takes 128 bytes
            wide[start : start + CHUNK] = flat[start : start + CHUNK].astype("U")
        return wide.reshape(output.shape).tolist()
    if dtype in INTEGERS or dtype in (tf.float64, tf.bool):
        return output.tolist()
    raise invalid(f"Failed to write JSON value for tensor type: {dtype.name}")


def show(value: Any) -> str:
    """The caller's JSON for an error, cut where it is long."""
    text = ""
    # Piece by piece: what is not shown may be many MiB, or nested deeper than Python's stack.
    for piece in json.JSONEncoder().iterencode(value):
        text += piece
        if len(text) > MAX_SHOWN:
            return f"{text[:MAX_SHOWN]}..."
    return text


def type_name(value: Any) -> str:
    """The JSON type of a parsed value."""
    if value is None or isinstance(value, bool):
        return {None: "Null", True: "True", False: "False"}[value]
    names: dict[type, str] = {dict: "Object", list: "Array", str: "String"}
    return names.get(type(value), "Number")


def is_b64(value: Any) -> bool:
    """Whether a value is {"b64": "..."} and nothing else."""
    return isinstance(value, dict) and value.keys() == {B64} and isinstance(value[B64], str)


def to_bytes(value: Any) -> bytes:
    """A string, or {"b64": ...}, as bytes.

    Raises:
      RequestError: it is not base64, or no text that UTF-8 can hold.
    """
    try:
        return value.encode() if isinstance(value, str) else base64.b64decode(value[B64], validate=True)
    except UnicodeEncodeError as error:
        raise invalid(f"JSON Value: {show(value)} has half of a surrogate pair") from error
    except ValueError as error:
        raise invalid("Unable to base64 decode") from error


def check_lossless(value: float | int, dtype: tf.DType) -> None:
    """An integer must be a float exactly, a decimal within the type's range.

    Raises:
      RequestError: it is not.
    """
    if isinstance(value, int) and abs(value) < 1 << 64:
        fits = abs(value) < 1 << FLOATS[dtype]
    else:
        fits = value != value or abs(value) == math.inf or abs(value) <= float(dtype.max)
    if not fits:
        kind = C_NAMES.get(dtype, dtype.name)
        raise invalid(f"Cannot convert JSON value: {show(value)} to {kind} without loss of precision.")


def _reader(dtype: tf.DType) -> Reader:
    """What makes a value of a type of a JSON value, or raises."""

    def wrong(value: Any) -> RequestError:
        expected = C_NAMES.get(dtype, dtype.name)
        return invalid(f"JSON Value: {show(value)} Type: {type_name(value)} is not of expected type: {expected}")

    def read_integer(value: Any) -> int:
        if type(value) is int and low <= value <= high:  # a bool is an int to isinstance
            return value
        raise wrong(value)

    def read_float(value: Any) -> float | int:
        if type(value) not in (int, float):
            raise wrong(value)
        check_lossless(value, dtype)
        number: float | int = value
        return number

    def read_bool(value: Any) -> bool:
        if isinstance(value, bool):
            return value
        raise wrong(value)

    def read_string(value: Any) -> bytes:
        if isinstance(value, str) or is_b64(value):
            return to_bytes(value)
        if isinstance(value, dict):
            raise invalid(f"JSON Value: {show(value)} not formatted correctly for base64 data")
        raise wrong(value)

    if dtype in INTEGERS:
        low, high = int(dtype.min), int(dtype.max)
        return read_integer
    if dtype in FLOATS:
        return read_float
    if dtype == tf.bool:
        return read_bool
    if dtype == tf.string:
        return read_string
    raise RequestError(grpc.StatusCode.UNIMPLEMENTED, f"Conversion of JSON Value to type: {dtype.name}")


def _shape(value: Any) -> list[int]:
    shape: list[int] = []
    while isinstance(value, list):
        shape.append(len(value))
        if len(shape) > MAX_RANK:
            raise invalid(f"Encountered list at unexpected level: {MAX_RANK} expected < {MAX_RANK}")
        if not value:
            break
        value = value[0]
    return shape


def _encoded(value: bytes) -> dict[str, str]:
    return {B64: base64.b64encode(value).decode()}


def _listed(shape: Iterable[int]) -> str:
    return f"[{','.join(map(str, shape))}]"
