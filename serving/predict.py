"""Calls a signature with named tensors, with the checks and messages of TensorFlow Serving's Predict."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import TypeAlias

import grpc
import tensorflow as tf
from numpy.typing import NDArray
from tensorflow.core.framework import tensor_pb2
from tensorflow.core.protobuf import meta_graph_pb2

from serving.status import RequestError, invalid
from serving.tensors import check_text, decode, dtype_of
from serving.tower_call import Signatures

PREDICT = "tensorflow/serving/predict"
CLASSIFY = "tensorflow/serving/classify"
REGRESS = "tensorflow/serving/regress"
METHOD_NAMES = (PREDICT, CLASSIFY, REGRESS)
STATUSES = {status.value[0]: status for status in grpc.StatusCode}

Tensor: TypeAlias = "tensor_pb2.TensorProto | NDArray"


def predict(
    tower: Signatures, signature_name: str, inputs: Mapping[str, Tensor], output_filter: Sequence[str] = ()
) -> dict[str, NDArray]:
    """Runs a signature of the tower.

    Args:
      tower: whose signature it is.
      signature_name: of any method.
      inputs: by alias. Those that the signature has a default for may be missing.
      output_filter: aliases of the outputs wanted, each once; empty for all.

    Returns:
      The outputs wanted, by alias.

    Raises:
      RequestError: the signature is not there or takes no such inputs, or one of its ops refuses them.
    """
    if signature_name not in tower.signature_defs:
        raise RequestError(grpc.StatusCode.FAILED_PRECONDITION, f'Serving signature key "{signature_name}" not found.')
    signature = tower.signature_defs[signature_name]
    if signature.method_name not in METHOD_NAMES:
        raise RequestError(
            grpc.StatusCode.INTERNAL,
            f"Expected prediction signature method_name to be one of {{{', '.join(METHOD_NAMES)}}}. "
            f"Was: {signature.method_name}",
        )
    arrays = _checked(signature, inputs)
    wanted = _output_names(signature, output_filter)
    outputs = call(tower, signature_name, arrays)
    return {alias: outputs[alias] for alias in wanted}


def call(tower: Signatures, signature_name: str, inputs: Mapping[str, NDArray]) -> dict[str, NDArray]:
    """Runs a signature with inputs that fit it.

    Raises:
      RequestError: one of its ops refuses the values; the status is the op's own.
    """
    try:
        return tower.predict(signature_name, inputs)
    except (ValueError, TypeError) as error:
        raise invalid(str(error)) from error
    except tf.errors.OpError as error:
        raise RequestError(STATUSES[error.error_code], error.message) from error


def _checked(signature: meta_graph_pb2.SignatureDef, inputs: Mapping[str, Tensor]) -> dict[str, NDArray]:
    """All inputs of a signature as arrays, or the error."""
    required, defaults = signature.inputs, signature.defaults
    if len(inputs) > len(required) or (len(inputs) < len(required) and not defaults):
        extra, missing = set(inputs) - set(required), set(required) - set(inputs)
        raise invalid(
            f"input size does not match signature: {len(inputs)}!={len(required)} len({_braced(inputs)}) != "
            f"len({_braced(required)}). Sent extra: {_braced(extra)}. Missing but required: {_braced(missing)}."
        )
    arrays = {}
    for alias in sorted(required):
        if alias not in inputs and alias not in defaults:
            raise invalid(
                f"Signature input alias: {alias}(feed name: {required[alias].name}) not found in request and no "
                f"default value provided. Inputs expected to be in the request {_braced(inputs)}, or default input "
                f"alias set: {','.join(sorted(defaults))}"
            )
        arrays[alias] = _checked_input(alias, required[alias], inputs[alias] if alias in inputs else defaults[alias])
    used = inputs.keys() & arrays.keys()
    if len(used) != len(inputs):
        raise invalid(
            f"Inputs contains invalid name. Used request inputs: {','.join(sorted(used))}, "
            f"request input: {','.join(sorted(inputs))}"
        )
    return arrays


def _checked_input(alias: str, info: meta_graph_pb2.TensorInfo, value: Tensor) -> NDArray:
    if isinstance(value, tensor_pb2.TensorProto):
        try:
            value = decode(value)
        except ValueError as error:
            raise invalid(f"tensor parsing error: {alias}") from error
    sent, wanted = dtype_of(value), tf.as_dtype(info.dtype)
    if sent != wanted:
        raise invalid(f"input {alias} has type {sent.name}, expected {wanted.name}")
    if not _fits(value.shape, info):
        raise invalid(f"input {alias} has shape {list(value.shape)}, expected {tf.TensorShape(info.tensor_shape)}")
    if sent == tf.string:
        check_text(value.ravel().tolist())
    return value


def _fits(shape: tuple[int, ...], info: meta_graph_pb2.TensorInfo) -> bool:
    if info.tensor_shape.unknown_rank:
        return True
    sizes = info.tensor_shape.dim
    return len(shape) == len(sizes) and all(dim.size in (-1, size) for size, dim in zip(shape, sizes, strict=True))


def _output_names(signature: meta_graph_pb2.SignatureDef, output_filter: Sequence[str]) -> Sequence[str]:
    seen: set[str] = set()
    for alias in output_filter:
        if alias not in signature.outputs:
            raise invalid(
                f"output tensor alias not found in signature: {alias} "
                f"Outputs expected to be in the set {_braced(signature.outputs)}."
            )
        if alias in seen:
            raise invalid(f"duplicate output tensor alias: {alias}")
        seen.add(alias)
    return output_filter or sorted(signature.outputs)


def _braced(names: Iterable[str]) -> str:
    return f"{{{','.join(sorted(names))}}}"
