"""Releases that come, go and break while a server answers over gRPC."""

import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path

import grpc
import pytest
import tensorflow as tf
from tensorflow_serving.apis import (
    get_model_status_pb2,
    model_management_pb2,
    model_service_pb2_grpc,
    predict_pb2,
    prediction_service_pb2_grpc,
)

from serving import operations
from serving.client import RetrievalClient
from serving.config import ServingConfig, VersionPolicy
from serving.proto import retrieval_pb2, retrieval_pb2_grpc
from serving.proto.generate import ROOT
from serving.release import verify_release
from serving.server import Server
from serving.state import ServingState, change_state, read_state
from tests.integration.serving.asking import Gated, wait_until
from tests.unit.serving import tiny

pytestmark = pytest.mark.slow

LATEST = VersionPolicy()
AVAILABLE, UNLOADING, END = (
    get_model_status_pb2.ModelVersionStatus.State.Value(name) for name in ("AVAILABLE", "UNLOADING", "END")
)
EXAMPLE = tiny.example(user_id=[b"u"], w=[1.0], time=[7]).SerializeToString()


class Root:
    """Releases of which each is known by every part of its answers.

    The nth has the items "n-a" and "n-b". The tower of one whose `offset` is o embeds w = 1 as [1 + o, ...], and "n-b"
    is [1000 + n, 0, 0, 0]: it comes first, with a score of (1 + o)(1000 + n).
    """

    def __init__(self, folder: Path, models: Path) -> None:
        self.work, self.folder, self.models, self.count = folder, folder / "r", models, 0

    def model(self, offset: float) -> Path:
        path = self.models / str(offset)
        return path if path.exists() else tiny.save_model(path, tiny.TinyModel(offset))

    def publish(self, offset: float = 0.0, model: Path | None = None) -> int:
        self.count += 1
        items = {f"{self.count}-a": [1.0, 0, 0, 0], f"{self.count}-b": [1000.0 + self.count, 0, 0, 0]}
        index = self.work / f"index-{self.count}"
        return tiny.publish(self.folder, model or self.model(offset), index, items=items)

    def decide(self, **values: object) -> None:
        change_state(self.folder, lambda state: ServingState(**values))


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("models")


@pytest.fixture
def root(tmp_path: Path, models: Path) -> Root:
    return Root(tmp_path, models)


class Running:
    """A server in this process."""

    def __init__(self, server: Server, channel: grpc.Channel, client: RetrievalClient) -> None:
        self.client = client
        self.models = model_service_pb2_grpc.ModelServiceStub(channel)
        self.predictions = prediction_service_pb2_grpc.PredictionServiceStub(channel)

    def version(self, query_id: str = "", label: str | None = None) -> int:
        """That answers a query, or with a label a call of the tower."""
        if query_id:
            return self.client.recommend(query_id=query_id, k=1).tower_version
        request = predict_pb2.PredictRequest(model_spec={"name": "tiny", "signature_name": "serialized_examples"})
        if label:
            request.model_spec.version_label = label
        request.inputs["examples"].CopyFrom(tf.make_tensor_proto([EXAMPLE]))
        return self.predictions.Predict(request, timeout=30).model_spec.version.value

    def states(self) -> dict[int, int]:
        request = get_model_status_pb2.GetModelStatusRequest(model_spec={"name": "tiny"})
        response = self.models.GetModelStatus(request, timeout=30)
        return {status.version: status.state for status in response.model_version_status}

    def reload(self, root: Root, **model: object) -> model_management_pb2.ReloadConfigResponse:
        config = {"name": "tiny", "base_path": str(root.folder), **model}
        request = model_management_pb2.ReloadConfigRequest(config={"model_config_list": {"config": [config]}})
        return self.models.HandleReloadConfigRequest(request, timeout=60)


@contextmanager
def serving(root: Root, policy: VersionPolicy = LATEST) -> Iterator[Running]:
    server = Server(root.folder, "tiny", ServingConfig(port=0, version_policy=policy))
    server.start()
    try:
        with grpc.insecure_channel(server.address) as channel, RetrievalClient(server.address, timeout=60) as client:
            yield Running(server, channel, client)
    finally:
        server.stop()


def test_new_release_is_picked_up(root: Root) -> None:
    first = root.publish()
    with serving(root) as running:
        assert running.client.recommend(features={"w": 1.0}, k=1).items[0].item_id == "1-b"
        second = root.publish(offset=2.0)
        wait_until(lambda: running.version("alice") == second)
        answer = running.client.recommend(features={"w": 1.0}, k=1)
        assert [(item.item_id, item.score) for item in answer.items] == [("2-b", 3.0 * 1002)]
        assert answer.fingerprint == verify_release(root.folder / str(second)).fingerprint
        assert running.version() == second
        wait_until(lambda: running.states() == {second: AVAILABLE, first: END})
        request = predict_pb2.PredictRequest(model_spec={"name": "tiny", "version": {"value": first}})
        with pytest.raises(grpc.RpcError, match=rf"Servable not found for request: Specific\(tiny, {first}\)"):
            running.predictions.Predict(request, timeout=30)


def test_broken_release_is_told_in_its_status(root: Root) -> None:
    first = root.publish()
    with serving(root) as running:
        second = root.publish()
        path = root.folder / str(second) / "saved_model.pb"
        whole = path.read_bytes()
        # What is loaded meanwhile was whole when it was read: only a server that comes later must refuse it.
        wait_until(lambda: running.version("alice") == second)
        path.write_bytes(whole[:-1])
        with serving(root) as late:
            assert late.version("alice") == first
            spec = {"name": "tiny", "version": {"value": second}}
            request = get_model_status_pb2.GetModelStatusRequest(model_spec=spec)
            (status,) = late.models.GetModelStatus(request, timeout=30).model_version_status
            assert (status.version, status.state) == (second, END)
            assert status.status.error_code == 15  # DATA_LOSS
            assert status.status.error_message == (
                f"{path}: has {len(whole) - 1} bytes, release.json says {len(whole)}"
            )
            assert running.version("alice") == second
            path.write_bytes(whole)
            wait_until(lambda: late.version("alice") == second)


def test_rollback_and_promotion(root: Root) -> None:
    first, second = root.publish(), root.publish()
    with serving(root) as running, serving(root) as other:
        operations.rollback(root.folder, LATEST)
        for server in (running, other):
            wait_until(lambda server=server: server.version("alice") == first)
        third = root.publish()
        operations.promote(root.folder, LATEST, second)
        wait_until(lambda: running.version("alice") == second)
        operations.follow_newest(root.folder)
        for server in (running, other):
            wait_until(lambda server=server: server.version("alice") == third)


def test_traffic_is_split_by_query(root: Root) -> None:
    first, second = root.publish(), root.publish()
    operations.put_label(root.folder, "stable", first, None)
    # alice is in bucket 7 of 100, bob in 50: canary has the first ten.
    operations.put_label(root.folder, "canary", second, {"stable": 90, "canary": 10})
    for _ in range(2):  # a restart sends everybody where they were
        with serving(root) as running:
            assert [running.version(query_id) for query_id in ("alice", "bob")] == [second, first]
            # Who has no id gets what most get.
            assert running.client.recommend(features={"w": 1.0}, k=1).tower_version == first
            assert [running.version(), running.version(label="canary")] == [first, second]
            third = root.publish()
            operations.put_label(root.folder, "canary", third, None)
            wait_until(lambda running=running, third=third: running.version("alice") == third)
            assert running.version("bob") == first
            operations.put_label(root.folder, "canary", second, None)
            wait_until(lambda running=running: running.version("alice") == second)


def test_reload(root: Root) -> None:
    first, second = root.publish(), root.publish()
    with serving(root) as running:
        with pytest.raises(grpc.RpcError) as raised:
            running.reload(root, version_labels={"stable": first})
        assert raised.value.code() is grpc.StatusCode.FAILED_PRECONDITION
        assert raised.value.details() == (
            f"Request to assign label to version {first} of model tiny, which is not currently available for inference"
        )
        assert read_state(root.folder) == ServingState()
        both = {"specific": {"versions": [first, second]}}
        response = running.reload(root, model_version_policy=both)
        assert response.HasField("status")
        assert response.status.error_code == 0
        assert list(running.states().items()) == [(second, AVAILABLE), (first, AVAILABLE)]
        running.reload(root, model_version_policy=both, version_labels={"stable": first, "canary": second})
        assert [running.version(label=label) for label in ("stable", "canary")] == [first, second]
        running.reload(root, model_version_policy=both, version_labels={"stable": second, "canary": first})
        assert [running.version(label=label) for label in ("stable", "canary")] == [second, first]
        spec = {"name": "tiny", "version_label": "canary"}
        request = get_model_status_pb2.GetModelStatusRequest(model_spec=spec)
        (status,) = running.models.GetModelStatus(request, timeout=30).model_version_status
        assert (status.version, status.state) == (first, AVAILABLE)
        with serving(root) as restarted:
            assert restarted.version(label="canary") == first
        with pytest.raises(grpc.RpcError) as raised:
            running.reload(root, name="other")
        assert raised.value.code() is grpc.StatusCode.INVALID_ARGUMENT
        running.reload(root)
        wait_until(lambda: running.states() == {first: END, second: AVAILABLE})
        with pytest.raises(grpc.RpcError, match="Unrecognized servable version label: canary"):
            running.version(label="canary")


def test_reload_to_what_cannot_be_served(root: Root) -> None:
    first, second = root.publish(), root.publish()
    path = root.folder / str(second) / "saved_model.pb"
    path.write_bytes(b"")
    with serving(root) as running:
        with pytest.raises(grpc.RpcError) as raised:
            running.reload(root, model_version_policy={"specific": {"versions": [second]}})
        assert raised.value.code() is grpc.StatusCode.FAILED_PRECONDITION
        assert raised.value.details().startswith(
            f"none of the specific versions can be served: {second}: {path}: has 0 bytes, release.json says "
        )
        assert running.version() == first
    assert read_state(root.folder) == ServingState()


def test_reload_does_not_take_a_label_its_traffic(root: Root) -> None:
    first = root.publish()
    root.decide(labels={"stable": first}, traffic={"stable": 100})
    with serving(root) as running:
        with pytest.raises(grpc.RpcError) as raised:
            running.reload(root)
        assert raised.value.code() is grpc.StatusCode.FAILED_PRECONDITION
        assert raised.value.details() == "label 'stable' has a share of the traffic, but no version"
        running.reload(root, version_labels={"stable": first})


def test_request_in_flight_ends_on_the_release_it_began_with(root: Root) -> None:
    first = root.publish(model=tiny.save_model(root.work / "gated", Gated(root.work)))
    with serving(root) as running, ThreadPoolExecutor(1) as pool:
        answer = pool.submit(running.client.recommend, query_id="slow", features={"w": 1.0}, k=1)
        wait_until((root.work / "started").exists)
        second = root.publish(offset=2.0)
        wait_until(lambda: running.version("alice") == second)
        assert not answer.done()
        assert running.states() == {first: UNLOADING, second: AVAILABLE}
        (root.work / "go").touch()
        found = answer.result(60)
        assert (found.tower_version, found.index_version) == (first, first)
        assert [(item.item_id, item.score) for item in found.items] == [("1-b", 1001.0)]
        wait_until(lambda: running.states() == {first: END, second: AVAILABLE})


class Process:
    """A server process."""

    def __init__(self, root: Root, log: Path) -> None:
        with log.open("a") as stderr:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "serving.server", "--releases", root.folder, "--model", "tiny", "--port", "0"],
                cwd=ROOT,
                stdout=subprocess.PIPE,
                stderr=stderr,
                text=True,
            )
        assert self.process.stdout is not None
        self.ready = self.process.stdout.readline()
        self.address = self.ready.split()[-1]

    def resident(self) -> float:
        """MiB."""
        pages = int(Path(f"/proc/{self.process.pid}/statm").read_text().split()[1])
        return pages * os.sysconf("SC_PAGE_SIZE") / 2**20


@contextmanager
def process(root: Root, log: Path) -> Iterator[Process]:
    running = Process(root, log)
    try:
        yield running
    finally:
        running.process.kill()
        running.process.wait()


def test_pin_survives_kill_9(root: Root) -> None:
    first = root.publish()
    root.publish()
    log = root.work / "log"
    with process(root, log) as running, RetrievalClient(running.address, timeout=60) as client:
        operations.rollback(root.folder, LATEST)
        wait_until(lambda: client.recommend(query_id="alice", k=1).tower_version == first)
        os.kill(running.process.pid, signal.SIGKILL)
        assert running.process.wait(60) == -signal.SIGKILL
    with process(root, log) as running, RetrievalClient(running.address, timeout=60) as client:
        assert running.ready.startswith(f"serving tiny version {first} on ")
        assert client.recommend(query_id="alice", k=1).items[0].item_id == "1-b"


OFFSETS = (1.0, 2.0, 4.0)
SWAPS, SECONDS_A_SWAP = 20, 3.0


def test_minute_of_swaps_under_load(root: Root) -> None:
    """No answer fails, none mixes two releases, and memory stays where it was."""
    published: dict[int, tuple[float, float, str]] = {}  # version -> what embeds 1.0, score and id of its best item

    def publish() -> int:
        offset = OFFSETS[root.count % len(OFFSETS)]
        version = root.publish(offset)
        published[version] = (1 + offset, (1 + offset) * (1000 + root.count), f"{root.count}-b")
        return version

    version = publish()
    recommended: set[tuple[int, int, float, str]] = set()
    predicted: set[tuple[int, float]] = set()
    failures: list[str] = []
    stop = threading.Event()

    def recommend(stub: retrieval_pb2_grpc.RetrievalServiceStub, query_id: str) -> None:
        request = retrieval_pb2.RecommendRequest(query_id=query_id, k=1)
        request.features["w"].floats.values.append(1.0)
        while not stop.wait(0.002):
            try:
                answer = stub.Recommend(request, timeout=60)
            except grpc.RpcError as error:
                failures.append(str(error))
            else:
                (item,) = answer.items
                recommended.add((answer.tower_version, answer.index_version, item.score, item.item_id))

    def predict(stub: prediction_service_pb2_grpc.PredictionServiceStub) -> None:
        request = predict_pb2.PredictRequest(model_spec={"name": "tiny", "signature_name": "serialized_examples"})
        request.inputs["examples"].CopyFrom(tf.make_tensor_proto([EXAMPLE]))
        while not stop.wait(0.002):
            try:
                response = stub.Predict(request, timeout=60)
            except grpc.RpcError as error:
                failures.append(str(error))
            else:
                predicted.add((response.model_spec.version.value, response.outputs["embedding"].float_val[0]))

    resident = []
    log = root.work / "log"
    with (
        process(root, log) as running,
        # No retries, as the client library makes them: they would hide failed answers.
        grpc.insecure_channel(running.address, [("grpc.enable_retries", 0)]) as channel,
        ThreadPoolExecutor(6) as pool,
    ):
        stub = prediction_service_pb2_grpc.PredictionServiceStub(channel)
        retrieval = retrieval_pb2_grpc.RetrievalServiceStub(channel)
        clients = [pool.submit(recommend, retrieval, f"user-{n}") for n in range(4)]
        clients += [pool.submit(predict, stub) for _ in range(2)]
        try:
            for swap in range(SWAPS):
                began = time.monotonic()
                version = publish()
                wait_until(lambda version=version: any(answer[0] == version for answer in tuple(recommended)))
                if swap % 5 == 4:
                    operations.prune(root.folder, LATEST, 2)
                time.sleep(max(0.0, began + SECONDS_A_SWAP - time.monotonic()))
                resident.append(running.resident())
        finally:
            stop.set()
        for done in clients:
            done.result()
    assert failures == []
    expected = {(version, version, score, item) for version, (_, score, item) in published.items()}
    assert recommended == expected
    assert predicted <= {(version, embedding) for version, (embedding, _, _) in published.items()}
    assert len(predicted) > SWAPS / 2
    third = len(resident) // 3
    assert max(resident[third:]) <= 1.1 * max(resident[:third]) + 30, resident
    assert "ERROR" not in log.read_text()
