"""Classify, Regress and MultiInference."""

from collections.abc import Callable

import grpc
import pytest
from google.protobuf.message import Message
from tensorflow_serving.apis import classification_pb2, inference_pb2, input_pb2, regression_pb2

from tests.integration.serving.conformance.conftest import Running
from tests.integration.serving.conformance.requests import INVALID, UNKNOWN_MODELS, example_list, refused, spec
from tests.unit.serving import tiny

FAILED_PRECONDITION = grpc.StatusCode.FAILED_PRECONDITION
CLASSIFY, REGRESS = "tensorflow/serving/classify", "tensorflow/serving/regress"
EMPTY = [
    input_pb2.Input(),
    input_pb2.Input(example_list={}),
    input_pb2.Input(example_list_with_context={"context": tiny.example(x=[1.0])}),
]
IN_CONTEXT = input_pb2.Input(
    example_list_with_context={
        "context": tiny.example(x2=[100.0]),
        "examples": [tiny.example(x=[2.0]), tiny.example(x=[4.0])],
    }
)


def classification(signature: str, examples: input_pb2.Input) -> classification_pb2.ClassificationRequest:
    return classification_pb2.ClassificationRequest(model_spec=spec(signature), input=examples)


def regression(signature: str, examples: input_pb2.Input) -> regression_pb2.RegressionRequest:
    return regression_pb2.RegressionRequest(model_spec=spec(signature), input=examples)


def classes(result: classification_pb2.ClassificationResult) -> list[list[tuple[str, float]]]:
    return [[(entry.label, entry.score) for entry in row.classes] for row in result.classifications]


@pytest.mark.parametrize(
    ("signature", "expected"),
    [
        ("classify", [[("low", 3), ("high", 4)], [("low", 12), ("high", 13)]]),
        ("classify_scores", [[("", 3)], [("", 12)]]),
        ("classify_classes", [[("low", 0), ("high", 0)]] * 2),
    ],
)
def test_classify(running: Running, signature: str, expected: list) -> None:
    response = running.prediction.Classify(classification(signature, example_list(2, 20)), timeout=30)
    assert classes(response.result) == expected
    assert (response.model_spec.name, response.model_spec.signature_name) == ("tiny", signature)
    assert response.model_spec.version.value == running.version


@pytest.mark.parametrize("signature", ["regress", "regress_flat"])
def test_regress(running: Running, signature: str) -> None:
    response = running.prediction.Regress(regression(signature, example_list(2, 80)), timeout=30)
    assert [entry.value for entry in response.result.regressions] == [3, 42]
    assert (response.model_spec.name, response.model_spec.signature_name) == ("tiny", signature)
    assert response.model_spec.version.value == running.version


def test_context_is_part_of_each_example(running: Running) -> None:
    response = running.prediction.Regress(regression("regress", IN_CONTEXT), timeout=30)
    assert [entry.value for entry in response.result.regressions] == [103, 104]
    response = running.prediction.Classify(classification("classify_scores", IN_CONTEXT), timeout=30)
    assert classes(response.result) == [[("", 103)], [("", 104)]]


def test_context_that_makes_more_of_the_examples_than_a_message_has(running: Running) -> None:
    many = {"context": tiny.example(x=[1.0] * 17_000), "examples": [tiny.example()] * 1000}
    for call, request in each_inference(running, input_pb2.Input(example_list_with_context=many)):
        code, message = refused(call, request)
        assert code is INVALID
        assert message.startswith("1000 strings, the longest of 68"), message


def test_named_version(running: Running) -> None:
    model_spec = spec("regress", version={"value": running.version})
    request = regression_pb2.RegressionRequest(model_spec=model_spec, input=example_list(2))
    assert running.prediction.Regress(request, timeout=30).result.regressions[0].value == 3


@pytest.mark.parametrize("examples", EMPTY, ids=["none", "empty list", "only a context"])
def test_empty_input(running: Running, examples: input_pb2.Input) -> None:
    empty = (INVALID, "Input is empty.")
    assert refused(running.prediction.Classify, classification("classify", examples)) == empty
    assert refused(running.prediction.Regress, regression("regress", examples)) == empty
    request = inference_pb2.MultiInferenceRequest(tasks=[task("regress", REGRESS)], input=examples)
    assert refused(running.prediction.MultiInference, request) == empty


def test_missing_spec(running: Running) -> None:
    missing = (INVALID, "Missing ModelSpec")
    assert refused(running.prediction.Classify, classification_pb2.ClassificationRequest()) == missing
    assert refused(running.prediction.Regress, regression_pb2.RegressionRequest()) == missing


@pytest.mark.parametrize(("model_spec", "code", "message"), UNKNOWN_MODELS)
def test_unknown_models(running: Running, model_spec: dict, code: grpc.StatusCode, message: str) -> None:
    values = {"model_spec": model_spec, "input": example_list(1)}
    assert refused(running.prediction.Classify, classification_pb2.ClassificationRequest(**values)) == (code, message)
    assert refused(running.prediction.Regress, regression_pb2.RegressionRequest(**values)) == (code, message)


@pytest.mark.parametrize(
    ("signature", "code", "message"),
    [
        ("x", INVALID, "No signature was found with the name: x"),
        (
            "",
            INVALID,
            f"Expected classification signature method_name to be {CLASSIFY}. Was: tensorflow/serving/predict",
        ),
        ("regress", INVALID, f"Expected classification signature method_name to be {CLASSIFY}. Was: {REGRESS}"),
        ("classify_two_inputs", INVALID, "Expected one input Tensor."),
        ("three_outputs", INVALID, "Expected one or two output Tensors, found 3"),
        ("scores_of_rank_1", INVALID, "Expected Tensor shape: [batch_size num_classes] but got [2]"),
        ("classes_of_rank_3", INVALID, "Expected Tensor shape: [batch_size num_classes] but got [1,2,2]"),
        ("scores_of_integers", INVALID, "Expected scores Tensor of DT_FLOAT. Got: DT_INT64"),
        ("classes_of_floats", INVALID, "Expected classes Tensor of DT_STRING. Got: DT_FLOAT"),
        ("scores_of_one_row", INVALID, "Expected scores output batch size of 2. Got: 1"),
        ("classes_of_one_row", INVALID, "Expected classes output batch size of 2. Got: 1"),
        (
            "more_classes_than_scores",
            INVALID,
            "Tensors class and score should match in dim_size(1). Got 2 vs. 1",
        ),
    ],
)
def test_classify_refuses(running: Running, signature: str, code: grpc.StatusCode, message: str) -> None:
    assert refused(running.prediction.Classify, classification(signature, example_list(1, 2))) == (code, message)


@pytest.mark.parametrize(
    ("signature", "code", "message"),
    [
        ("x", INVALID, "No signature was found with the name: x"),
        ("", INVALID, f"Expected regression signature method_name to be {REGRESS}. Was: tensorflow/serving/predict"),
        ("classify", INVALID, f"Expected regression signature method_name to be {REGRESS}. Was: {CLASSIFY}"),
        ("regress_two_inputs", INVALID, "Expected one input Tensor."),
        ("regress_two_outputs", INVALID, "Expected one output Tensor."),
        (
            "regress_two_columns",
            INVALID,
            "Expected output Tensor shape to be either [batch_size] or [batch_size, 1] but got [2,2]",
        ),
        ("regress_doubles", INVALID, "Expected output Tensor of DT_FLOAT.  Got: DT_DOUBLE"),
        ("regress_one_row", INVALID, "Input batch size did not match output batch size: 2 vs. 1"),
    ],
)
def test_regress_refuses(running: Running, signature: str, code: grpc.StatusCode, message: str) -> None:
    assert refused(running.prediction.Regress, regression(signature, example_list(1, 2))) == (code, message)


@pytest.mark.parametrize(
    ("method", "signature", "message"),
    [
        ("Classify", "classify_other_input", "No classification inputs found in SignatureDef: inputs { key: "),
        (
            "Classify",
            "neither_classes_nor_scores",
            'Expected classification signature outputs to contain at least one of "classes" or "scores".',
        ),
        ("Regress", "regress_other_input", "No regression inputs found in SignatureDef: inputs { key: "),
        ("Regress", "regress_other_output", "No regression outputs found in SignatureDef: inputs { key: "),
    ],
)
def test_signatures_without_the_names(running: Running, method: str, signature: str, message: str) -> None:
    request = {"Classify": classification, "Regress": regression}[method](signature, example_list(1))
    code, details = refused(getattr(running.prediction, method), request)
    assert code is FAILED_PRECONDITION
    assert details.startswith(message)
    assert "\n" not in details


def test_error_of_an_op(running: Running) -> None:
    lacking = input_pb2.Input(example_list={"examples": [tiny.example(y=[1.0])]})
    for call, request in each_inference(running, lacking):
        code, message = refused(call, request)
        assert code is INVALID
        assert "x (data type: float) is required but could not be found" in message


def test_input_that_takes_no_strings(running: Running) -> None:
    code, _ = refused(running.prediction.Classify, classification("classify_floats", example_list(1)))
    assert code is INVALID


def each_inference(running: Running, examples: input_pb2.Input) -> list[tuple[Callable, Message]]:
    """The examples to each method that takes some."""
    return [
        (running.prediction.Classify, classification("classify", examples)),
        (running.prediction.Regress, regression("regress", examples)),
        (running.prediction.MultiInference, multi(task("regress", REGRESS), examples=examples)),
    ]


def task(signature: str, method: str, **values: object) -> inference_pb2.InferenceTask:
    return inference_pb2.InferenceTask(model_spec=spec(signature, **values), method_name=method)


def multi(*tasks: inference_pb2.InferenceTask, examples: input_pb2.Input) -> inference_pb2.MultiInferenceRequest:
    return inference_pb2.MultiInferenceRequest(tasks=tasks, input=examples)


def test_multi_inference(running: Running) -> None:
    request = multi(task("regress", REGRESS), task("classify", CLASSIFY), examples=example_list(2, 20))
    first, second = running.prediction.MultiInference(request, timeout=30).results
    assert [entry.value for entry in first.regression_result.regressions] == [3, 12]
    assert classes(second.classification_result) == [[("low", 3), ("high", 4)], [("low", 12), ("high", 13)]]
    assert [result.model_spec.signature_name for result in (first, second)] == ["regress", "classify"]
    assert [result.model_spec.name for result in (first, second)] == ["tiny"] * 2
    assert [result.model_spec.version.value for result in (first, second)] == [running.version] * 2


def test_multi_inference_of_one_task_in_context(running: Running) -> None:
    response = running.prediction.MultiInference(multi(task("regress", REGRESS), examples=IN_CONTEXT), timeout=30)
    assert [entry.value for entry in response.results[0].regression_result.regressions] == [103, 104]


@pytest.mark.parametrize(
    ("tasks", "code", "message"),
    [
        ([], INVALID, "ModelSpec has no name specified."),
        ([inference_pb2.InferenceTask(method_name=REGRESS)], INVALID, "ModelSpec has no name specified."),
        (
            [task("regress", REGRESS), inference_pb2.InferenceTask(method_name=REGRESS)],
            INVALID,
            "Found ModelSpec with an empty model name.",
        ),
        (
            [task("regress", REGRESS), task("classify", CLASSIFY, name="m")],
            INVALID,
            "All ModelSpecs in a MultiInferenceRequest must access the same model name.",
        ),
        (
            [task("m", REGRESS, name="m")],
            grpc.StatusCode.NOT_FOUND,
            "Servable not found for request: Latest(m)",
        ),
        (
            [task("regress", REGRESS), task("regress", REGRESS)],
            INVALID,
            "Duplicate evaluation of signature: regress",
        ),
        ([task("x", REGRESS)], INVALID, "Requested signature not found in model graph: x"),
        (
            [task("", "tensorflow/serving/predict")],
            grpc.StatusCode.UNIMPLEMENTED,
            "Unsupported signature method_name: tensorflow/serving/predict",
        ),
        (
            [task("regress", CLASSIFY)],
            INVALID,
            f"Expected classification signature method_name to be {CLASSIFY}. Was: {REGRESS}",
        ),
        (
            [task("regress", REGRESS), task("regress_alone", REGRESS)],
            INVALID,
            "Input tensor must be the same for all Signatures.",
        ),
    ],
)
def test_multi_inference_refuses(
    running: Running, tasks: list[inference_pb2.InferenceTask], code: grpc.StatusCode, message: str
) -> None:
    assert refused(running.prediction.MultiInference, multi(*tasks, examples=example_list(1))) == (code, message)
