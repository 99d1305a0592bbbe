"""JSON to tensors and back: what TensorFlow Serving's REST API takes and gives."""

import json
import math

import grpc
import numpy as np
import pytest
import tensorflow as tf
from tensorflow.core.protobuf import meta_graph_pb2
from tensorflow_serving.apis import classification_pb2, input_pb2, regression_pb2

from serving import json_requests, json_tensors
from serving.json_tensors import parse
from serving.status import RequestError

FLOAT_MAX = 3.4028234663852886e38


def infos(**dtypes: tf.DType) -> dict[str, meta_graph_pb2.TensorInfo]:
    return {name: meta_graph_pb2.TensorInfo(dtype=dtype.as_datatype_enum) for name, dtype in dtypes.items()}


def read(text: str, **dtypes: tf.DType) -> dict[str, np.ndarray]:
    return json_requests.predict_inputs(parse(text.encode()), infos(**dtypes))


def refusal(text: str, **dtypes: tf.DType) -> str:
    with pytest.raises(RequestError) as raised:
        read(text, **dtypes)
    assert raised.value.status is grpc.StatusCode.INVALID_ARGUMENT
    return raised.value.message


@pytest.mark.parametrize(
    ("text", "dtype", "expected"),
    [
        ('{"instances": [[1,2],[3,4],[5,6]]}', tf.int32, [[1, 2], [3, 4], [5, 6]]),
        ('{"instances": [1, 2.0, 3, 5.5, 0.0]}', tf.float32, [1, 2, 3, 5.5, 0]),
        ('{"instances": [1.0, 2, 0.662]}', tf.float64, [1, 2, 0.662]),
        ('{"instances": [1.5, 2]}', tf.half, [1.5, 2]),
        ('{"instances": [true, false]}', tf.bool, [True, False]),
        ('{"instances": [-128, 127]}', tf.int8, [-128, 127]),
        ('{"instances": [9223372036854775807]}', tf.int64, [(1 << 63) - 1]),
        ('{"instances": [18446744073709551615]}', tf.uint64, [(1 << 64) - 1]),
        ('{"instances": ["a", "\\u65e5\\u0000"]}', tf.string, [b"a", "日\0".encode()]),
        ('{"instances": [{"b64": "aGVsbG8="}, {"b64": "d29ybGQ="}]}', tf.string, [b"hello", b"world"]),
        ('{"instances": [[{"b64": "aGVsbG8="}], ["x"]]}', tf.string, [[b"hello"], [b"x"]]),
        ('{"instances": [{"x": [1, 2]}, {"x": [3, 4]}]}', tf.int32, [[1, 2], [3, 4]]),
        ('{"instances": [[], []]}', tf.float32, [[], []]),
        ('{"inputs": [[[1,2],[3,4]]]}', tf.int32, [[[1, 2], [3, 4]]]),
        ('{"inputs": {"x": [[1,2]]}}', tf.int32, [[1, 2]]),
        ('{"inputs": 7}', tf.int32, 7),
        ('{"inputs": {"b64": "aGVsbG8="}}', tf.string, b"hello"),
        ('{"inputs": {"x": {"b64": "aGVsbG8="}}}', tf.string, b"hello"),
        ('\ufeff{"instances": [1]}', tf.int32, [1]),
        ('{"instances": [16777215, -16777215]}', tf.float32, [16777215, -16777215]),
        ('{"instances": [0.1]}', tf.float32, [0.10000000149011612]),
        ('{"signature_name": "s", "other": null, "instances": [1]}', tf.int32, [1]),
    ],
)
def test_one_tensor(text: str, dtype: tf.DType, expected: object) -> None:
    tensor = read(text, x=dtype)["x"]
    assert tensor.tolist() == expected
    assert tensor.dtype == dtype.as_numpy_dtype


def test_numbers_that_are_none() -> None:
    for dtype in (tf.float32, tf.float64, tf.half):
        values = read('{"instances": [NaN, Infinity, -Infinity]}', x=dtype)["x"].tolist()
        assert math.isnan(values[0])
        assert values[1:] == [math.inf, -math.inf]


def test_several_tensors_by_row() -> None:
    tensors = read(
        '{"instances": [{"i": [[1,2],[3,4]], "s": ["a", "b"], "d": NaN},'
        ' {"i": [[5,6],[7,8]], "s": ["c", "d"], "d": 2}]}',
        **{"i": tf.int32, "s": tf.string, "d": tf.float64},
    )
    assert tensors["i"].tolist() == [[[1, 2], [3, 4]], [[5, 6], [7, 8]]]
    assert tensors["s"].tolist() == [[b"a", b"b"], [b"c", b"d"]]
    assert tensors["d"].tolist()[1] == 2


def test_several_tensors_by_column() -> None:
    tensors = read(
        '{"inputs": {"i": [[1,2]], "s": ["a", "b"], "b": {"b64": "aGVsbG8="}, "unknown": 1}}',
        **{"i": tf.int32, "s": tf.string, "b": tf.string},
    )
    assert {name: tensor.tolist() for name, tensor in tensors.items()} == {
        "i": [[1, 2]],
        "s": [b"a", b"b"],
        "b": b"hello",
    }


@pytest.mark.parametrize(
    ("body", "message"),
    [
        (b"", "JSON Parse error: The document is empty"),
        (b"instances = [1, 2]", "JSON Parse error: Invalid value. Expecting value at offset: 0"),
        (b'{"instances": [1]', "JSON Parse error: Invalid value. Expecting ',' delimiter at offset: 17"),
        (b'{"instances": [1]}X', "JSON Parse error: Invalid value. Extra data at offset: 18"),
        (b'{"instances": ["\xff"]}', "JSON Parse error: not UTF-8 at offset: 16"),
        (b'{"instances": [1e999]}', "JSON Parse error: Number too big to be stored in double"),
        (b"[1]", "JSON Value: [1] Is not object"),
        (b"NaN", "JSON Value: NaN Is not object"),
    ],
)
def test_bodies_that_are_no_object(body: bytes, message: str) -> None:
    with pytest.raises(RequestError) as raised:
        parse(body)
    assert raised.value.message == message


def test_hostile_bodies() -> None:
    with pytest.raises(RequestError, match="JSON Parse error: maximum recursion depth"):
        parse(b'{"instances": ' + b"[" * 100_000)
    with pytest.raises(RequestError, match="JSON Parse error: Exceeds the limit"):
        parse(b'{"instances": [' + b"9" * 5000 + b"]}")
    deep = '{"instances": ' + "[" * 40 + "]" * 40 + "}"
    assert refusal(deep, x=tf.int32).endswith("Encountered list at unexpected level: 32 expected < 32")
    assert len(refusal(json.dumps({"instances": "x" * 10_000}), x=tf.string)) < 400


def test_what_is_wrong_beside_deep_nesting_is_shown_in_short() -> None:
    nested: list = []
    for _ in range(5000):  # deeper than json.dumps goes
        nested = [nested]
    with pytest.raises(RequestError) as raised:
        json_requests.predict_inputs({"instances": 1, "x": nested}, {})
    shown = '{"instances": 1, "x": ' + "[" * 178  # 200 characters
    assert raised.value.message == f"JSON Value: {shown}... Expecting 'instances' to be an list/array"


@pytest.mark.parametrize("text", ['{"instances": [1,2,3,4,5]}', '{"inputs": [[1,2,3],[4,5,6]]}'])
def test_more_elements_than_are_taken(text: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(json_tensors, "MAX_ELEMENTS", 6)
    read(text, x=tf.int32)
    monkeypatch.setattr(json_tensors, "MAX_ELEMENTS", 4)
    assert refusal(text, x=tf.int32).endswith("a tensor has more than 4 elements")


def test_more_lists_and_objects_than_are_taken(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(json_tensors, "MAX_ELEMENTS", 4)
    assert parse(b'{"x": [{}, []]}') == {"x": [{}, []]}
    with pytest.raises(RequestError, match="the document has more than 4 lists and objects"):
        parse(b'{"x": [{}, [], []]}')


@pytest.mark.parametrize("text", ["[{},{},{}]", '[{"a": [1]},{}]', '[{"a": [1,2]}]', '[{"a": 1, "b": "x"}]'])
def test_more_values_in_examples_than_are_taken(text: str, monkeypatch: pytest.MonkeyPatch) -> None:
    document = parse(f'{{"examples": {text}}}'.encode())
    monkeypatch.setattr(json_requests, "MAX_ELEMENTS", 3)
    json_requests.examples_input(document)
    monkeypatch.setattr(json_requests, "MAX_ELEMENTS", 2)
    with pytest.raises(RequestError, match="the examples have more than 2 values"):
        json_requests.examples_input(document)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("{}", "Missing 'inputs' or 'instances' key"),
        ('{"instances": {"x": 1}}', "Expecting 'instances' to be an list/array"),
        ('{"instances": []}', "No values in 'instances' array"),
        ('{"instances": [1], "inputs": [1]}', "Not formatted correctly expecting only one of 'inputs' or 'instances'"),
        ('{"instances": [[1,2],[3,4,5]]}', "Expecting tensor size: 2 but got: 3"),
        ('{"instances": [[1,2],[3,4],[[5,6]]]}', "Expecting shape [2] but got: [1,2]"),
        ('{"instances": [1, [1]]}', "Expecting shape [] but got: [1]"),
        ('{"instances": [[1, [2]]]}', "Encountered list at unexpected level: 1 expected < 1"),
        (
            '{"instances": [[[1], 2]]}',
            "JSON Value: 2 found at incorrect level: 2 in the JSON DOM. Expected at level: 2",
        ),
        ('{"instances": [[[1], [2, 3]]]}', "Encountered list at unexpected size: 2 at level: 1 expected size: 1"),
        ('{"instances": [[1,2],["a","b"]]}', 'JSON Value: "a" Type: String is not of expected type: int32'),
        ('{"instances": [1.0]}', "JSON Value: 1.0 Type: Number is not of expected type: int32"),
        ('{"instances": [2147483648]}', "Type: Number is not of expected type: int32"),
        ('{"instances": [null]}', "JSON Value: null Type: Null is not of expected type: int32"),
        ('{"instances": [true]}', "JSON Value: true Type: True is not of expected type: int32"),
        (
            '{"instances": [{"y": 1}]}',
            "key: y of 'instances' list. Error: INVALID_ARGUMENT: JSON object: does not have",
        ),
        ('{"instances": [1, {"x": 1}]}', "Expecting value/list but got object at item 1 of input list"),
        ('{"instances": [{"x": 1}, [1]]}', "Expecting object but got list at item 1 of input list"),
        (
            '{"instances": [{"x": 1}, {}]}',
            "Failed to process element: 1 of 'instances' list. JSON object: {} keys must",
        ),
        ('{"inputs": {"y": 1}}', "Missing named input: x in 'inputs' object."),
        ('{"inputs": [[1], [1, 2]]}', "Encountered list at unexpected size: 2 at level: 1 expected size: 1"),
        ('{"inputs": null}', "JSON Value: null Type: Null is not of expected type: int32"),
    ],
)
def test_refused_integers(text: str, message: str) -> None:
    assert message in refusal(text, x=tf.int32)


@pytest.mark.parametrize(
    ("text", "dtype", "message"),
    [
        ("16777217", tf.float32, "Cannot convert JSON value: 16777217 to float without loss of precision."),
        ("1.7976931348623157e308", tf.float32, "to float without loss of precision."),
        ("9007199254740993", tf.float64, "to double without loss of precision."),
        ("2049", tf.half, "to float16 without loss of precision."),
        ('"1"', tf.float32, 'JSON Value: "1" Type: String is not of expected type: float'),
        ("false", tf.float64, "JSON Value: false Type: False is not of expected type: double"),
        ("256", tf.uint8, "is not of expected type: uint8"),
        ("-1", tf.uint64, "is not of expected type: uint64"),
        ("1", tf.bool, "is not of expected type: bool"),
        ("1", tf.string, "is not of expected type: string"),
        ('[{"b64": 1}]', tf.string, 'JSON Value: {"b64": 1} not formatted correctly for base64 data'),
        ('{"b64": "a"}', tf.string, "Unable to base64 decode"),
        ('{"b64": "é"}', tf.string, "Unable to base64 decode"),
        ('"\\ud800"', tf.string, "has half of a surrogate pair"),
        ('[{"b64": "aGVsbG8=", "x": 1}]', tf.string, "not formatted correctly for base64 data"),
        ('{"b64": "aGVsbG8="}', tf.int32, "Type: Object is not of expected type: int32"),
    ],
)
def test_refused_values(text: str, dtype: tf.DType, message: str) -> None:
    assert message in refusal(f'{{"instances": [{text}]}}', x=dtype)


def test_plain_values_for_several_inputs() -> None:
    two = {"a": tf.int32, "b": tf.int32}
    assert refusal('{"instances": [1]}', **two).startswith("instances is a plain list, but expecting list of objects")
    assert refusal('{"inputs": [1]}', **two).startswith("inputs is a plain value/list, but expecting an object")
    assert "keys must be equal to: a,b" in refusal('{"instances": [{"a": 1}]}', **two)


def test_type_without_a_json_form() -> None:
    with pytest.raises(RequestError, match="to type: complex64") as raised:
        read('{"instances": [1]}', x=tf.complex64)
    assert raised.value.status is grpc.StatusCode.UNIMPLEMENTED


def test_signature_name() -> None:
    assert json_requests.signature_name({}) == ""
    assert json_requests.signature_name({"signature_name": "s"}) == "s"
    for name in (5, None, ["s"]):
        with pytest.raises(RequestError, match="'signature_name' key must be a string value"):
            json_requests.signature_name({"signature_name": name})


def answer(form: str, **outputs: np.ndarray) -> str:
    return json.dumps(json_requests.predict_answer({form: None}, outputs))


F = np.float32


@pytest.mark.parametrize(
    ("output", "expected"),
    [
        (np.array([[[1, 2], [3, 4]], [[5, 6], [7, 8]]], np.int32), "[[[1, 2], [3, 4]], [[5, 6], [7, 8]]]"),
        (np.array([1, 2, 3], np.int64), "[1, 2, 3]"),
        (np.array([(1 << 64) - 1], np.uint64), "[18446744073709551615]"),
        (np.array([True, False]), "[true, false]"),
        (np.array([0.2, 999999, 0.5, 0.0003, 555557.5], F), "[0.2, 999999.0, 0.5, 0.0003, 555557.5]"),
        (np.array([0.00003, 16777216, 0.1 + 0.2], F), "[3e-05, 16777216.0, 0.3]"),
        (np.array([math.nan, math.inf, 3, -math.inf], F), "[NaN, Infinity, 3.0, -Infinity]"),
        (np.array([0.1 + 0.2], np.float64), "[0.30000000000000004]"),
        (np.array([0.1, 65504], np.float16), "[0.099975586, 65504.0]"),
        (np.array([b"a", "日".encode()], object), '["a", "\\u65e5"]'),
        (np.zeros((0, 2), F), "[]"),
        (np.zeros((2, 0), F), "[[], []]"),
        (np.zeros((0, 2), object), "[]"),
    ],
)
def test_one_output(output: np.ndarray, expected: str) -> None:
    assert answer("instances", y=output) == f'{{"predictions": {expected}}}'
    assert answer("inputs", y=output) == f'{{"outputs": {expected}}}'


def test_bytes_are_sent_by_the_outputs_name() -> None:
    output = np.array([[b"hello"], [b"\xff"]], object)
    assert answer("instances", y_bytes=output) == '{"predictions": [[{"b64": "aGVsbG8="}], [{"b64": "/w=="}]]}'
    with pytest.raises(RequestError, match="output y holds bytes that are not UTF-8"):
        answer("instances", y=output)


def test_several_outputs() -> None:
    outputs = {"b": np.array([[1.0], [2.0]], F), "a": np.array([8, 9])}
    assert answer("instances", **outputs) == '{"predictions": [{"a": 8, "b": [1.0]}, {"a": 9, "b": [2.0]}]}'
    assert answer("inputs", **outputs) == '{"outputs": {"a": [8, 9], "b": [[1.0], [2.0]]}}'
    empty = {"a": np.zeros((0, 2), F), "b": np.zeros(0, object)}
    assert answer("instances", **empty) == '{"predictions": []}'


@pytest.mark.parametrize(
    ("outputs", "message"),
    [
        ({"y": np.array(1)}, "Tensor name: y has no shape information"),
        (
            {"a": np.zeros((2, 3)), "b": np.zeros((1, 3))},
            "Tensor name: b has inconsistent batch size: 1 expecting: 2",
        ),
        ({"a": np.zeros(0), "b": np.zeros(1)}, "Tensor name: b has inconsistent batch size: 1 expecting: 0"),
        ({"y": np.zeros(2, np.complex64)}, "Failed to write JSON value for tensor type: complex64"),
    ],
)
def test_outputs_without_rows(outputs: dict, message: str) -> None:
    with pytest.raises(RequestError) as raised:
        answer("instances", **outputs)
    assert raised.value.message == message


def test_scalar_by_column() -> None:
    assert answer("inputs", y=np.array(1.5, F)) == '{"outputs": 1.5}'


def examples(text: str) -> input_pb2.Input:
    return json_requests.examples_input(parse(text.encode()))


def test_examples() -> None:
    read_ = examples(
        '{"examples": [{"names": ["foo", {"b64": "aGVsbG8="}], "ratings": [8.0, NaN], "age": 20}, {"x": []}]}'
    )
    first, second = read_.example_list.examples
    feature = first.features.feature
    assert list(feature["names"].bytes_list.value) == [b"foo", b"hello"]
    assert feature["ratings"].float_list.value[0] == 8
    assert math.isnan(feature["ratings"].float_list.value[1])
    assert list(feature["age"].int64_list.value) == [20]
    assert second.features.feature["x"].WhichOneof("kind") is None


def test_examples_in_context() -> None:
    read_ = examples('{"context": {"q": "pizza", "l": ["sfo"]}, "examples": [{"mixed": [1, true, false]}]}')
    context = read_.example_list_with_context.context.features.feature
    assert [list(context[name].bytes_list.value) for name in ("q", "l")] == [[b"pizza"], [b"sfo"]]
    (example,) = read_.example_list_with_context.examples
    assert list(example.features.feature["mixed"].int64_list.value) == [1, 1, 0]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ('{"context": [{"x": 1}]}', "Example must be JSON object but got JSON Array"),
        ("{}", "key 'examples' is expected and was not found"),
        ('{"examples": {"x": 1}}', "Expecting 'examples' value to be an list/array"),
        ('{"examples": []}', "'examples' value is an empty array"),
        ('{"examples": [[{"x": 1}]]}', "Example must be JSON object but got JSON Array"),
        ('{"examples": [{"x": [10, null]}]}', "Feature: x has element with unexpected JSON type: Null"),
        ('{"examples": [{"x": [10, 10.0]}]}', "Unexpected element type in feature: x expecting type: int64"),
        ('{"examples": [{"x": ["a", 1]}]}', "Unexpected element type in feature: x expecting type: bytes"),
        ('{"examples": [{"x": [1.5, "a"]}]}', "Unexpected element type in feature: x expecting type: float"),
        ('{"examples": [{"x": [10, {"test": 10}]}]}', "Feature: x has element with unexpected JSON type: Object"),
        ('{"examples": [{"x": [[10], 20]}]}', "Feature: x has element with unexpected JSON type: Array"),
        ('{"examples": [{"x": 18446744073709551603}]}', "Feature: x has uint64 element. Only int64 is supported."),
        ('{"examples": [{"x": 1.7976931348623157e308}]}', "to float without loss of precision."),
        ('{"examples": [{"x": {"b64": "a"}}]}', "Unable to base64 decode"),
        ('{"examples": [{"\\ud800": 1}]}', "has half of a surrogate pair"),
    ],
)
def test_refused_examples(text: str, message: str) -> None:
    with pytest.raises(RequestError) as raised:
        examples(text)
    assert message in raised.value.message


def test_results() -> None:
    classification = classification_pb2.ClassificationResult(
        classifications=[
            {"classes": [{"label": "car", "score": 0.2}, {"label": "bus", "score": 0.7}]},
            {"classes": [{"score": math.inf}]},
        ]
    )
    assert json_requests.classify_answer(classification) == {
        "results": [[["car", 0.2], ["bus", 0.7]], [["", math.inf]]]
    }
    regression = regression_pb2.RegressionResult(regressions=[{"value": 0.2}, {"value": 1}, {"value": math.nan}])
    assert json.dumps(json_requests.regress_answer(regression)) == '{"results": [0.2, 1.0, NaN]}'
