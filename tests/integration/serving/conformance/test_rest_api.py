"""The REST API: paths, methods, statuses and the forms of requests and answers."""

import pytest

from tests.integration.serving.conformance.conftest import Running

MODEL = "/v1/models/tiny"


def post(running: Running, path: str, content: object) -> tuple[int, object]:
    return running.http.json("POST", path, content)


def get(running: Running, path: str) -> tuple[int, object]:
    return running.http.json("GET", path)


@pytest.mark.parametrize("path", [MODEL, f"{MODEL}/versions/VERSION"])
@pytest.mark.parametrize(
    ("content", "expected"),
    [
        ({"instances": [[1.0, 2.0], [3.0, 4.0]]}, {"predictions": [[2.5, 3.0], [3.5, 4.0]]}),
        ({"instances": [1, 2]}, {"predictions": [2.5, 3.0]}),
        ({"inputs": [3.0, 4.0]}, {"outputs": [3.5, 4.0]}),
        ({"inputs": {"x": 3}}, {"outputs": 3.5}),
    ],
)
def test_predict(running: Running, path: str, content: dict, expected: dict) -> None:
    path = path.replace("VERSION", str(running.version))
    assert post(running, f"{path}:predict", {"signature_name": "half_plus_two", **content}) == (200, expected)


def test_predict_of_the_default_signature(running: Running) -> None:
    instances = [
        {"user_id": "alice", "w": 1.5, "tags": ["x", "y"], "history": [""], "time": 7},
        {"user_id": "", "w": float("nan"), "tags": ["x", ""], "history": ["i1"], "time": -1},
    ]
    expected = {"predictions": [[101.5, 2, 0, 7], [0, 1, 1, -1]]}
    assert post(running, f"{MODEL}:predict", {"instances": instances}) == (200, expected)
    columns = {name: [instance[name] for instance in instances] for name in instances[0]}
    assert post(running, f"{MODEL}:predict", {"inputs": columns}) == (200, {"outputs": expected["predictions"]})


def test_predict_with_several_outputs(running: Running) -> None:
    content = {"signature_name": "sum", "instances": [{"a": 5, "b": 1}, {"a": 7, "b": 2}]}
    expected = {"predictions": [{"difference": 4.0, "sum": 6.0}, {"difference": 5.0, "sum": 9.0}]}
    assert post(running, f"{MODEL}:predict", content) == (200, expected)


def test_predict_knows_no_default_inputs(running: Running) -> None:
    content = {"signature_name": "sum_with_default", "inputs": {"a": [1], "b": [2]}}
    assert post(running, f"{MODEL}:predict", content) == (200, {"outputs": [3.0]})
    content = {"signature_name": "sum_with_default", "inputs": {"a": [1]}}
    message = "Missing named input: b in 'inputs' object."
    assert post(running, f"{MODEL}:predict", content) == (400, {"error": message})


def test_predict_with_bytes(running: Running) -> None:
    content = {"signature_name": "text", "instances": ["hello", {"b64": "aGVsbG8="}]}
    expected = {"predictions": [{"text": "hello", "text_bytes": {"b64": "aGVsbG8="}}] * 2}
    assert post(running, f"{MODEL}:predict", content) == (200, expected)


def test_predict_of_a_scalar(running: Running) -> None:
    assert post(running, f"{MODEL}:predict", {"signature_name": "mean", "inputs": [1, 2, 6]}) == (200, {"outputs": 3.0})
    status, answer = post(running, f"{MODEL}:predict", {"signature_name": "mean", "instances": [1, 2, 6]})
    assert (status, answer) == (400, {"error": "Tensor name: mean has no shape information"})


def test_predict_of_uneven_outputs(running: Running) -> None:
    content = {"signature_name": "head", "instances": [1, 2]}
    message = "Tensor name: first has inconsistent batch size: 1 expecting: 2"
    assert post(running, f"{MODEL}:predict", content) == (400, {"error": message})
    content = {"signature_name": "head", "inputs": [1, 2]}
    assert post(running, f"{MODEL}:predict", content) == (200, {"outputs": {"all": [1.0, 2.0], "first": [1.0]}})


@pytest.mark.parametrize("path", [MODEL, f"{MODEL}/versions/VERSION"])
def test_regress(running: Running, path: str) -> None:
    content = {"signature_name": "regress", "examples": [{"x": 80.0}, {"x": [2.0]}]}
    path = path.replace("VERSION", str(running.version))
    assert post(running, f"{path}:regress", content) == (200, {"results": [42.0, 3.0]})


def test_regress_in_context(running: Running) -> None:
    content = {"signature_name": "regress", "context": {"x2": 100.0}, "examples": [{"x": 2.0}, {"x": 4.0}]}
    assert post(running, f"{MODEL}:regress", content) == (200, {"results": [103.0, 104.0]})


@pytest.mark.parametrize(
    ("signature", "expected"),
    [
        ("classify", [[["low", 12.0], ["high", 13.0]]]),
        ("classify_scores", [[["", 12.0]]]),
        ("classify_classes", [[["low", 0.0], ["high", 0.0]]]),
    ],
)
def test_classify(running: Running, signature: str, expected: list) -> None:
    content = {"signature_name": signature, "examples": [{"x": 20.0}]}
    assert post(running, f"{MODEL}:classify", content) == (200, {"results": expected})


@pytest.mark.parametrize(
    ("path", "content", "status", "message"),
    [
        (":predict", "", 400, "JSON Parse error: The document is empty"),
        (":predict", "instances = [1, 2]", 400, "JSON Parse error: Invalid value. Expecting value at offset: 0"),
        (
            ":predict",
            {"signature_name": "x", "instances": [1]},
            400,
            'Serving signature name: "x" not found in signature def',
        ),
        (":predict", {"signature_name": 5, "instances": [1]}, 400, "'signature_name' key must be a string value."),
        (
            ":predict",
            {"signature_name": "half_plus_two", "instances": ["1"]},
            400,
            'JSON Value: "1" Type: String is not of expected type: float',
        ),
        (":predict", {"signature_name": "number", "instances": ["seven"]}, 400, "seven"),
        (":predict", {"signature_name": "sum", "instances": [{"a": [1], "b": [2]}]}, 400, "input a has shape [1, 1]"),
        (":predict", {"signature_name": "echo_complex64", "instances": [1]}, 501, "to type: complex64"),
        (":predict", {"signature_name": "nothing_fits", "instances": [1]}, 500, "Was: tensorflow/serving/other"),
        (":regress", {"examples": [{"x": 1.0}]}, 400, "Expected regression signature method_name to be"),
        (":classify", {"examples": [{"x": 1.0}]}, 400, "Expected classification signature method_name to be"),
        (
            ":classify",
            {"signature_name": "x", "examples": [{"x": 1.0}]},
            400,
            "No signature was found with the name: x",
        ),
        (":classify", {"instances": [1]}, 400, "key 'examples' is expected and was not found"),
        (
            ":regress",
            {"signature_name": "regress_other_output", "examples": [{"x": 1.0}]},
            400,
            "No regression outputs",
        ),
        ("/versions/5:predict", {"instances": [1]}, 404, "Servable not found for request: Specific(tiny, 5)"),
        ("/labels/x:predict", {"instances": [1]}, 400, "Unrecognized servable version label: x"),
        (
            "/versions/18446744073709551615:predict",
            {},
            400,
            "Failed to convert version: 18446744073709551615 to numeric.",
        ),
        ("99:predict", {"instances": [1]}, 404, "Servable not found for request: Latest(tiny99)"),
        ("%20x:predict", {"instances": [1]}, 404, "Servable not found for request: Latest(tiny x)"),
        ("%ff:predict", {"instances": [1]}, 400, "Failed to decode model name or version label: tiny%ff"),
    ],
)
def test_refused(running: Running, path: str, content: object, status: int, message: str) -> None:
    answered, answer = post(running, MODEL + path, content)
    assert answered == status
    assert list(answer) == ["error"]
    assert message in answer["error"]


@pytest.mark.parametrize(
    ("method", "path", "status", "message"),
    [
        ("GET", "/v1/foo", 400, "Malformed request: GET /v1/foo"),
        ("POST", "/v1/foo", 400, "Malformed request: POST /v1/foo"),
        ("GET", "/v1/models", 400, "Missing model name in request."),
        ("POST", "/v1/models", 400, "Malformed request: POST /v1/models"),
        ("GET", "/v1/models/tiny:predict", 400, "Malformed request: GET /v1/models/tiny:predict"),
        ("POST", "/v1/models/tiny", 400, "Malformed request: POST /v1/models/tiny"),
        ("POST", "/v1/models/tiny:nothing", 400, "Malformed request: POST /v1/models/tiny:nothing"),
        ("POST", "/v1/models/tiny/version/50:regress", 400, "Malformed request"),
        ("POST", "/v1/models/tiny/versions/HELLO:regress", 400, "Malformed request"),
        ("GET", "/v1/models/tiny/versions/1/labels/x", 400, "Malformed request"),
        ("GET", "/v1/models/tiny/nothing", 400, "Malformed request"),
        ("GET", "/index", 404, "Not found: /index"),
        ("GET", "/", 404, "Not found: /"),
        ("PUT", "/v1/models/tiny", 405, "Method PUT is not one of GET, POST"),
        ("DELETE", "/v1/models/tiny:predict", 405, "Method DELETE is not one of GET, POST"),
    ],
)
def test_paths_and_methods(running: Running, method: str, path: str, status: int, message: str) -> None:
    answered, answer = running.http.json(method, path)
    assert (answered, list(answer)) == (status, ["error"])
    assert answer["error"].startswith(message)


def test_paths_in_another_case(running: Running) -> None:
    content = {"signature_name": "half_plus_two", "instances": [2]}
    assert post(running, "/V1/Models/tiny:PREDICT", content) == (200, {"predictions": [3.0]})
    assert get(running, "/v1/models/TINY")[0] == 404


def test_query_is_no_part_of_the_path(running: Running) -> None:
    assert get(running, f"{MODEL}?x=1")[0] == 200


@pytest.mark.parametrize("path", [MODEL, f"{MODEL}/versions/VERSION"])
def test_status(running: Running, path: str) -> None:
    expected = {
        "version": str(running.version),
        "state": "AVAILABLE",
        "status": {"error_code": "OK", "error_message": ""},
    }
    path = path.replace("VERSION", str(running.version))
    assert get(running, path) == (200, {"model_version_status": [expected]})


@pytest.mark.parametrize(
    ("path", "status", "message"),
    [
        ("/v1/models/m", 404, "Could not find any versions of model m"),
        (f"{MODEL}/versions/5", 404, "Could not find version 5 of model tiny"),
        (f"{MODEL}/labels/x", 400, "Unrecognized servable version label: x"),
        ("/v1/models/m/metadata", 404, "Servable not found for request: Latest(m)"),
        (f"{MODEL}/versions/5/metadata", 404, "Servable not found for request: Specific(tiny, 5)"),
    ],
)
def test_pages_of_what_is_not_there(running: Running, path: str, status: int, message: str) -> None:
    assert get(running, path) == (status, {"error": message})


@pytest.mark.parametrize("path", [MODEL, f"{MODEL}/versions/VERSION"])
def test_metadata(running: Running, path: str) -> None:
    status, answer = get(running, f"{path.replace('VERSION', str(running.version))}/metadata")
    assert status == 200
    assert answer["model_spec"] == {"name": "tiny", "version": str(running.version), "signature_name": ""}
    signature = answer["metadata"]["signature_def"]["signature_def"]["sum"]
    assert signature["inputs"]["a"] == {
        "name": "sum_a:0",
        "dtype": "DT_FLOAT",
        "tensor_shape": {"dim": [{"size": "-1", "name": ""}], "unknown_rank": False},
    }
    assert signature["method_name"] == "tensorflow/serving/predict"
