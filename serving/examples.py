"""Classify, Regress and MultiInference: signatures of serialised tf.Examples, with TensorFlow Serving's messages."""

from __future__ import annotations

from collections.abc import Sequence

import grpc
import numpy as np
import tensorflow as tf
from numpy.typing import NDArray
from tensorflow.core.framework import types_pb2
from tensorflow.core.protobuf import meta_graph_pb2
from tensorflow_serving.apis import classification_pb2, inference_pb2, input_pb2, regression_pb2

from serving.predict import CLASSIFY, REGRESS, call
from serving.status import RequestError, invalid
from serving.tensors import MAX_ELEMENTS, check_text, dtype_of
from serving.tower import SERVING_DEFAULT
from serving.tower_call import Signatures

INPUTS = "inputs"
CLASSES = "classes"
SCORES = "scores"
OUTPUTS = "outputs"
KINDS = {CLASSIFY: "classification", REGRESS: "regression"}


def classify(
    tower: Signatures, signature_name: str, examples: input_pb2.Input
) -> classification_pb2.ClassificationResult:
    """Classes, scores or both of each example.

    Args:
      tower: whose signature it is.
      signature_name: of method tensorflow/serving/classify.
      examples: at least one.

    Raises:
      RequestError: the signature is not there, is of another form, or refuses the examples.
    """
    signature = _named(tower, signature_name, CLASSIFY)
    return _classify(tower, signature_name, signature, _serialised(examples))


def regress(tower: Signatures, signature_name: str, examples: input_pb2.Input) -> regression_pb2.RegressionResult:
    """One value of each example; arguments and errors as `classify`, the method is tensorflow/serving/regress."""
    signature = _named(tower, signature_name, REGRESS)
    return _regress(tower, signature_name, signature, _serialised(examples))


def multi_inference(
    tower: Signatures, tasks: Sequence[inference_pb2.InferenceTask], examples: input_pb2.Input
) -> list[inference_pb2.InferenceResult]:
    """Several signatures on the same examples; the results' model specs are left empty.

    Raises:
      RequestError: a task is not one of the model's, one appears twice, or their inputs are different tensors.
    """
    named: dict[str, meta_graph_pb2.SignatureDef] = {}
    input_names = set()
    for task in tasks:
        if not task.model_spec.name:
            raise invalid("Found ModelSpec with an empty model name.")
        if task.model_spec.name != tasks[0].model_spec.name:
            raise invalid("All ModelSpecs in a MultiInferenceRequest must access the same model name.")
        name = task.model_spec.signature_name or SERVING_DEFAULT
        if name in named:
            raise invalid(f"Duplicate evaluation of signature: {name}")
        if name not in tower.signature_defs:
            raise invalid(f"Requested signature not found in model graph: {name}")
        if task.method_name not in KINDS:
            message = f"Unsupported signature method_name: {task.method_name}"
            raise RequestError(grpc.StatusCode.UNIMPLEMENTED, message)
        named[name] = tower.signature_defs[name]
        input_names.add(_check(named[name], task.method_name))
        if len(input_names) > 1:
            raise invalid("Input tensor must be the same for all Signatures.")
    rows = _serialised(examples)
    results = []
    for task, (name, signature) in zip(tasks, named.items(), strict=True):
        result = inference_pb2.InferenceResult()
        if task.method_name == CLASSIFY:
            result.classification_result.CopyFrom(_classify(tower, name, signature, rows))
        else:
            result.regression_result.CopyFrom(_regress(tower, name, signature, rows))
        results.append(result)
    return results


def count(request: input_pb2.Input) -> int:
    """How many examples a request has."""
    return len(request.example_list.examples) + len(request.example_list_with_context.examples)


def _named(tower: Signatures, name: str, method: str) -> meta_graph_pb2.SignatureDef:
    if name not in tower.signature_defs:
        raise invalid(f"No signature was found with the name: {name}")
    signature = tower.signature_defs[name]
    _check(signature, method)
    return signature


def _check(signature: meta_graph_pb2.SignatureDef, method: str) -> str:
    """The name of a signature's input tensor, or the error if it is not of the method's form."""
    kind = KINDS[method]
    if signature.method_name != method:
        raise invalid(f"Expected {kind} signature method_name to be {method}. Was: {signature.method_name}")
    if len(signature.inputs) != 1:
        raise invalid("Expected one input Tensor.")
    if method == CLASSIFY and len(signature.outputs) not in (1, 2):
        raise invalid(f"Expected one or two output Tensors, found {len(signature.outputs)}")
    if method == REGRESS and len(signature.outputs) != 1:
        raise invalid("Expected one output Tensor.")
    if INPUTS not in signature.inputs:
        raise _malformed(f"No {kind} inputs found in SignatureDef: {_one_line(signature)}")
    if method == CLASSIFY and CLASSES not in signature.outputs and SCORES not in signature.outputs:
        raise _malformed(
            f'Expected classification signature outputs to contain at least one of "{CLASSES}" or "{SCORES}". '
            f"Signature was: {_one_line(signature)}"
        )
    if method == REGRESS and OUTPUTS not in signature.outputs:
        raise _malformed(f"No regression outputs found in SignatureDef: {_one_line(signature)}")
    name: str = signature.inputs[INPUTS].name
    return name


def _serialised(request: input_pb2.Input) -> list[bytes]:
    """The serialised tf.Examples of a request, each with the context where there is one."""
    context = b""
    examples = request.example_list.examples
    if request.WhichOneof("kind") == "example_list_with_context":
        examples = request.example_list_with_context.examples
        context = request.example_list_with_context.context.SerializeToString()
    if not examples:
        raise invalid("Input is empty.")
    if len(examples) > MAX_ELEMENTS:
        raise invalid(f"Input has {len(examples)} examples, at most {MAX_ELEMENTS} are taken.")
    rows = [example.SerializeToString() for example in examples]
    check_text(rows, len(context))
    # One message after the other is how protocol buffers merge two of them.
    return [context + row for row in rows]


def _classify(
    tower: Signatures, name: str, signature: meta_graph_pb2.SignatureDef, examples: Sequence[bytes]
) -> classification_pb2.ClassificationResult:
    outputs = call(tower, name, {INPUTS: np.array(examples, dtype=object)})
    classes = outputs[CLASSES] if CLASSES in signature.outputs else None
    scores = outputs[SCORES] if SCORES in signature.outputs else None
    if classes is not None:
        _check_table(CLASSES, classes, tf.string, len(examples))
    if scores is not None:
        _check_table(SCORES, scores, tf.float32, len(examples))
    if classes is not None and scores is not None and classes.shape != scores.shape:
        raise invalid(
            f"Tensors class and score should match in dim_size(1). Got {classes.shape[1]} vs. {scores.shape[1]}"
        )
    result = classification_pb2.ClassificationResult()
    for row in range(len(examples)):
        found = result.classifications.add().classes
        labels = [] if classes is None else classes[row].tolist()
        values = [] if scores is None else scores[row].tolist()
        for column in range(max(len(labels), len(values))):
            entry = found.add()
            if labels:
                entry.label = labels[column]
            if values:
                entry.score = values[column]
    return result


def _check_table(output: str, table: NDArray, dtype: tf.DType, rows: int) -> None:
    if table.ndim != 2:
        raise invalid(f"Expected Tensor shape: [batch_size num_classes] but got {_shape(table)}")
    if dtype_of(table) != dtype:
        raise invalid(f"Expected {output} Tensor of {_type_name(dtype)}. Got: {_type_name(dtype_of(table))}")
    if len(table) != rows:
        raise invalid(f"Expected {output} output batch size of {rows}. Got: {len(table)}")


def _regress(
    tower: Signatures, name: str, signature: meta_graph_pb2.SignatureDef, examples: Sequence[bytes]
) -> regression_pb2.RegressionResult:
    values = call(tower, name, {INPUTS: np.array(examples, dtype=object)})[OUTPUTS]
    if not (values.ndim == 1 or (values.ndim == 2 and values.shape[1] == 1)):
        raise invalid(
            f"Expected output Tensor shape to be either [batch_size] or [batch_size, 1] but got {_shape(values)}"
        )
    if len(values) != len(examples):
        raise invalid(f"Input batch size did not match output batch size: {len(examples)} vs. {len(values)}")
    if dtype_of(values) != tf.float32:
        raise invalid(f"Expected output Tensor of DT_FLOAT.  Got: {_type_name(dtype_of(values))}")
    result = regression_pb2.RegressionResult()
    for value in values.ravel().tolist():
        result.regressions.add(value=value)
    return result


def _malformed(message: str) -> RequestError:
    return RequestError(grpc.StatusCode.FAILED_PRECONDITION, message)


def _one_line(signature: meta_graph_pb2.SignatureDef) -> str:
    return " ".join(str(signature).split())


def _shape(array: NDArray) -> str:
    return f"[{','.join(map(str, array.shape))}]"


def _type_name(dtype: tf.DType) -> str:
    name: str = types_pb2.DataType.Name(dtype.as_datatype_enum)
    return name
