"""Warm-up requests: run before a release is served, and a failing one fails the load."""

import shutil
from collections.abc import Sequence
from pathlib import Path

import pytest
import tensorflow as tf
from tensorflow_serving.apis import prediction_log_pb2

from serving.release import ReleaseError
from serving.retriever import load_release
from serving.status import RequestError
from serving.tower import Tower
from serving.warm_up import MAX_RECORDS, REQUESTS, run_warm_up_requests
from tests.integration.serving.conformance.conftest import Running
from tests.integration.serving.conformance.requests import example_list, predict, row, spec
from tests.unit.serving import tiny

Log = prediction_log_pb2.PredictionLog
PREDICT = Log(predict_log={"request": predict("half_plus_two", {"x": row(2)})})
CLASSIFY = Log(classify_log={"request": {"model_spec": spec("classify"), "input": example_list(2)}})
REGRESS = Log(regress_log={"request": {"model_spec": spec("regress"), "input": example_list(2)}})
MULTI = Log(
    multi_inference_log={
        "request": {
            "tasks": [
                {"model_spec": spec("classify"), "method_name": "tensorflow/serving/classify"},
                {"model_spec": spec("regress"), "method_name": "tensorflow/serving/regress"},
            ],
            "input": example_list(2),
        }
    }
)


@pytest.fixture(scope="module")
def tower(running: Running) -> Tower:
    return running.server._current.served.retrievers[running.version].tower


def write(folder: Path, records: Sequence[bytes]) -> Path:
    (folder / REQUESTS).parent.mkdir(parents=True)
    with tf.io.TFRecordWriter(str(folder / REQUESTS)) as writer:
        for record in records:
            writer.write(record)
    return folder


class Noting:
    """A tower that notes which signatures are called."""

    def __init__(self, tower: Tower) -> None:
        self._tower = tower
        self.signature_defs = tower.signature_defs
        self.called: list[str] = []

    def predict(self, signature: str, inputs: dict) -> dict:
        self.called.append(signature)
        return self._tower.predict(signature, inputs)


def test_without_the_file(tower: Tower, tmp_path: Path) -> None:
    assert run_warm_up_requests(tmp_path, tower) == 0


def test_every_kind_is_run(tower: Tower, tmp_path: Path) -> None:
    logs = [PREDICT, CLASSIFY, REGRESS, MULTI, Log()]
    noting = Noting(tower)
    folder = write(tmp_path, [log.SerializeToString() for log in logs])
    assert run_warm_up_requests(folder, noting) == 5  # type: ignore[arg-type]
    assert noting.called == ["half_plus_two", "classify", "regress", "classify", "regress"]


def test_a_thousand_are_run_and_no_more(tower: Tower, tmp_path: Path) -> None:
    empty = Log().SerializeToString()
    assert run_warm_up_requests(write(tmp_path / "1000", [empty] * MAX_RECORDS), tower) == 1000
    with pytest.raises(ValueError, match=r"Number of warmup records exceeds the maximum \(1000\)"):
        run_warm_up_requests(write(tmp_path / "1001", [empty] * (MAX_RECORDS + 1)), tower)


@pytest.mark.parametrize(
    ("log", "message"),
    [
        (Log(predict_log={"request": predict("x", {})}), 'Serving signature key "x" not found.'),
        (Log(predict_log={"request": predict("half_plus_two", {})}), "input size does not match signature"),
        (Log(classify_log={"request": {"model_spec": spec("regress")}}), "Expected classification signature"),
        (Log(regress_log={"request": {"model_spec": spec("regress")}}), "Input is empty"),
        (Log(multi_inference_log={"request": {"tasks": [{}]}}), "Found ModelSpec with an empty model name"),
    ],
    ids=["no signature", "inputs", "classify", "regress", "multi-inference"],
)
def test_failing_request(tower: Tower, tmp_path: Path, log: prediction_log_pb2.PredictionLog, message: str) -> None:
    folder = write(tmp_path, [PREDICT.SerializeToString(), log.SerializeToString()])
    with pytest.raises(RequestError, match=message):
        run_warm_up_requests(folder, tower)


def test_kind_that_cannot_be_run(tower: Tower, tmp_path: Path) -> None:
    folder = write(tmp_path, [Log(session_run_log={}).SerializeToString()])
    with pytest.raises(ValueError, match="Unsupported log_type for warmup: session_run_log"):
        run_warm_up_requests(folder, tower)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ([Log(predict_log={"request": predict("x", {})}).SerializeToString()], 'signature key "x" not found'),
        ([b"\xff"], "Error parsing message"),
        (b"no TFRecord at all", "corrupted record"),
    ],
    ids=["refused", "no PredictionLog", "no TFRecord"],
)
def test_failing_warm_up_fails_the_load(tmp_path: Path, model: Path, content: list | bytes, message: str) -> None:
    with_requests = shutil.copytree(model, tmp_path / "model")
    if isinstance(content, bytes):
        (with_requests / REQUESTS).parent.mkdir()
        (with_requests / REQUESTS).write_bytes(content)
    else:
        write(with_requests, content)
    version = tiny.publish(tmp_path / "r", with_requests, tmp_path / "index")
    with pytest.raises(ReleaseError, match=message):
        load_release(tmp_path / "r" / str(version))
