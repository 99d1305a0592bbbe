"""Requests and answers of TensorFlow Serving's REST API. https://www.tensorflow.org/tfx/serving/api_rest"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import tensorflow as tf
from numpy.typing import NDArray
from tensorflow.core.protobuf import meta_graph_pb2
from tensorflow_serving.apis import classification_pb2, input_pb2, regression_pb2

from serving.json_tensors import TensorReader, check_lossless, is_b64, show, to_bytes, to_json, type_name
from serving.status import RequestError, invalid
from serving.tensors import MAX_ELEMENTS

Inputs = Mapping[str, meta_graph_pb2.TensorInfo]

KINDS = {"bytes_list": "bytes", "float_list": "float", "int64_list": "int64"}


def signature_name(document: Mapping[str, Any]) -> str:
    """The signature that a request names; "" if it does not.

    Raises:
      RequestError: the name is not a string.
    """
    name = document.get("signature_name", "")
    if not isinstance(name, str):
        raise invalid(
            f"JSON Value: {show(document)} not formatted correctly. 'signature_name' key must be a string value."
        )
    return name


def predict_inputs(document: Mapping[str, Any], inputs: Inputs) -> dict[str, NDArray]:
    """The tensors of a predict request, by alias, from `instances` (rows) or `inputs` (columns).

    Args:
      document: the request.
      inputs: of the signature, at least one.

    Raises:
      RequestError: the values are of another form, type or shape.
    """
    if "instances" in document and "inputs" in document:
        raise invalid(
            f"JSON Value: {show(document)} Not formatted correctly expecting only one of 'inputs' or 'instances' "
            "keys to exist"
        )
    if "instances" in document:
        instances = document["instances"]
        if not isinstance(instances, list):
            raise invalid(f"JSON Value: {show(document)} Expecting 'instances' to be an list/array")
        if not instances:
            raise invalid(f"JSON Value: {show(document)} No values in 'instances' array")
        return _rows(instances, inputs)
    if "inputs" in document:
        return _columns(document["inputs"], inputs)
    raise invalid("Missing 'inputs' or 'instances' key")


def predict_answer(document: Mapping[str, Any], outputs: Mapping[str, NDArray]) -> dict[str, Any]:
    """The answer to a predict request: `predictions`, one entry a row, to `instances`; `outputs` to `inputs`.

    An entry is the output itself where there is one, an object with all of them where there are several.

    Raises:
      RequestError: rows are asked for and the outputs have none or not equally many; or one has no JSON form.
    """
    by_rows = "instances" in document
    if by_rows:
        _check_rows(outputs)
    columns = {name: to_json(name, output) for name, output in sorted(outputs.items())}
    if len(columns) == 1:
        return {"predictions" if by_rows else "outputs": next(iter(columns.values()))}
    if not by_rows:
        return {"outputs": columns}
    return {"predictions": [dict(zip(columns, row, strict=True)) for row in zip(*columns.values(), strict=True)]}


def examples_input(document: Mapping[str, Any]) -> input_pb2.Input:
    """The examples of a classify or regress request, with their common context.

    Raises:
      RequestError: they are of another form, a feature mixes types, or they have more than MAX_ELEMENTS values.
    """
    result = input_pb2.Input()
    examples = result.example_list.examples
    if "context" in document:
        _fill_example(document["context"], result.example_list_with_context.context)
        examples = result.example_list_with_context.examples
    if "examples" not in document:
        raise invalid(
            f"JSON Value: {show(document)} When method is classify, key 'examples' is expected and was not found"
        )
    if not isinstance(document["examples"], list):
        raise invalid(f"JSON Value: {show(document)} Expecting 'examples' value to be an list/array")
    if not document["examples"]:
        raise invalid(f"JSON Value: {show(document)} 'examples' value is an empty array")
    if sum(map(_values, document["examples"])) > MAX_ELEMENTS:
        raise invalid(f"the examples have more than {MAX_ELEMENTS} values")
    for example in document["examples"]:
        _fill_example(example, examples.add())
    return result


def classify_answer(result: classification_pb2.ClassificationResult) -> dict[str, Any]:
    """Each example's list of [label, score]."""
    results = []
    for row in result.classifications:
        scores = to_json("scores", np.array([entry.score for entry in row.classes], dtype=np.float32))
        results.append([[entry.label, score] for entry, score in zip(row.classes, scores, strict=True)])
    return {"results": results}


def regress_answer(result: regression_pb2.RegressionResult) -> dict[str, Any]:
    """Each example's value."""
    values = np.array([regression.value for regression in result.regressions], dtype=np.float32)
    return {"results": to_json("outputs", values)}


def _rows(instances: list[Any], inputs: Inputs) -> dict[str, NDArray]:
    objects = _is_object(instances[0])
    if not objects and len(inputs) > 1:
        raise invalid(
            "instances is a plain list, but expecting list of objects as multiple input tensors required as per "
            "tensorinfo_map"
        )
    readers = {name: TensorReader(tf.as_dtype(info.dtype)) for name, info in inputs.items()}
    for number, instance in enumerate(instances):
        if objects != _is_object(instance):
            expected, got = ("object", "list") if objects else ("value/list", "object")
            raise invalid(f"Expecting {expected} but got {got} at item {number} of input list")
        if objects:
            _add_object(number, instance, readers)
        else:
            (reader,) = readers.values()
            _add(reader, instance, f"Failed to process element: {number} of 'instances' list. Error: ")
    return {name: reader.tensor(len(instances)) for name, reader in readers.items()}


def _add_object(number: int, instance: Mapping[str, Any], readers: Mapping[str, TensorReader]) -> None:
    for name, value in instance.items():
        place = f"Failed to process element: {number} key: {name} of 'instances' list. Error: "
        if name not in readers:
            raise invalid(f"{place}INVALID_ARGUMENT: JSON object: does not have named input: {name}")
        _add(readers[name], value, place)
    if instance.keys() != readers.keys():
        raise invalid(
            f"Failed to process element: {number} of 'instances' list. JSON object: {show(instance)} keys must be "
            f"equal to: {','.join(sorted(readers))}"
        )


def _add(reader: TensorReader, value: Any, place: str) -> None:
    try:
        reader.add(value)
    except RequestError as error:
        raise invalid(f"{place}{error.status.name}: {error.message}") from error


def _columns(given: Any, inputs: Inputs) -> dict[str, NDArray]:
    if not _is_object(given):
        if len(inputs) > 1:
            raise invalid(
                "inputs is a plain value/list, but expecting an object as multiple input tensors required as per "
                "tensorinfo_map"
            )
        given = dict.fromkeys(inputs, given)
    tensors = {}
    for name, info in inputs.items():
        if name not in given:
            raise invalid(f"Missing named input: {name} in 'inputs' object.")
        reader = TensorReader(tf.as_dtype(info.dtype))
        reader.add(given[name])
        tensors[name] = reader.tensor()
    return tensors


def _is_object(value: Any) -> bool:
    return isinstance(value, dict) and not is_b64(value)


def _check_rows(outputs: Mapping[str, NDArray]) -> None:
    rows = None
    for name, output in sorted(outputs.items()):
        if output.ndim == 0:
            raise invalid(f"Tensor name: {name} has no shape information")
        if rows is not None and len(output) != rows:
            raise invalid(f"Tensor name: {name} has inconsistent batch size: {len(output)} expecting: {rows}")
        rows = len(output)


def _values(features: Any) -> int:
    """How many values an example has; one without any counts too."""
    contents = features.values() if isinstance(features, dict) else ()
    return 1 + sum(len(content) if isinstance(content, list) else 1 for content in contents)


def _fill_example(features: Any, example: tf.train.Example) -> None:
    if not isinstance(features, dict):
        raise invalid(f"Example must be JSON object but got JSON {type_name(features)}")
    for name, content in features.items():
        to_bytes(name)
        feature = example.features.feature[name]
        for value in content if isinstance(content, list) else [content]:
            _add_value(name, value, feature)


def _add_value(name: str, value: Any, feature: tf.train.Feature) -> None:
    kind: str
    if isinstance(value, str) or is_b64(value):
        kind, value = "bytes_list", to_bytes(value)
    elif isinstance(value, float):
        kind = "float_list"
        check_lossless(value, tf.float32)
    elif isinstance(value, int):
        kind = "int64_list"
        if not -(1 << 63) <= value < 1 << 63:
            raise invalid(f"Feature: {name} has uint64 element. Only int64 is supported.")
    else:
        raise invalid(f"Feature: {name} has element with unexpected JSON type: {type_name(value)}")
    before = feature.WhichOneof("kind")
    if before not in (None, kind):
        raise invalid(f"Unexpected element type in feature: {name} expecting type: {KINDS[before]}")
    getattr(feature, kind).value.append(value)
