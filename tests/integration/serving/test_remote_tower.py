"""The retrieval server with its tower in another process, which it speaks to as to TensorFlow Serving, over TLS."""

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from serving import loading
from serving.client import RetrievalClient, RetrievalError
from serving.config import ServingConfig, TowerConfig
from serving.proto.generate import ROOT
from serving.release import ReleaseError
from serving.retriever import Retriever
from serving.server import Server, ServerError, serve
from tests.unit.serving import certificates, tiny

pytestmark = pytest.mark.slow


class Remote:
    """A process that serves the release there is, and no later one."""

    def __init__(self, folder: Path, releases: Path, ca: certificates.Pair) -> None:
        pair = certificates.make(folder, "tower", ca)
        versions = [int(folder.name) for folder in releases.glob("[1-9]*")]
        policy = {"kind": "specific", "versions": versions}
        config = {
            "port": 0,
            "version_policy": policy,
            "tls": {"certificate": str(pair.certificate), "key": str(pair.key)},
        }
        (folder / "tower.yaml").write_text(yaml.safe_dump(config))
        arguments = ["--releases", releases, "--model", "tiny", "--config", folder / "tower.yaml"]
        with (folder / "stderr").open("w") as stderr:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "serving.server", *map(str, arguments)],
                cwd=ROOT,
                stdout=subprocess.PIPE,
                stderr=stderr,
                text=True,
            )
        assert self.process.stdout is not None
        self.address = self.process.stdout.readline().split()[-1]

    def kill(self) -> None:
        self.process.kill()
        self.process.wait()


@pytest.fixture
def releases(tmp_path: Path, model: Path) -> Path:
    tiny.publish(tmp_path / "r", model, tmp_path / "index")
    return tmp_path / "r"


@pytest.fixture
def ca(tmp_path: Path) -> certificates.Pair:
    return certificates.make(tmp_path, "ca")


@pytest.fixture
def remote(tmp_path: Path, releases: Path, ca: certificates.Pair) -> Iterator[Remote]:
    remote = Remote(tmp_path, releases, ca)
    yield remote
    remote.kill()


def test_release_waits_for_its_version_and_a_tower_that_is_gone_is_said(
    tmp_path: Path, releases: Path, ca: certificates.Pair, remote: Remote
) -> None:
    (first,) = (int(folder.name) for folder in releases.glob("[1-9]*"))
    second = tiny.publish(releases, tiny.save_model(tmp_path / "m2", tiny.TinyModel(50.0)), tmp_path / "index2")
    tower = TowerConfig(address=remote.address, ca=ca.certificate, timeout_seconds=30.0, load_seconds=0.1)
    server = Server(releases, "tiny", ServingConfig(port=0, tower=tower))
    # The newest release is the second, but the other process has the first alone.
    assert server.start() == first != second
    with RetrievalClient(server.address, timeout=60) as client:
        answer = client.recommend(query_id="alice", k=2)
        assert [(item.item_id, item.score) for item in answer.items] == [("i5", 5.0), ("i4", 4.0)]
        assert answer.tower_version == first
        with pytest.raises(RetrievalError) as raised:
            client.recommend(features={"w": "1"})
        assert raised.value.status == "INVALID_ARGUMENT"
        remote.kill()
        with pytest.raises(RetrievalError) as raised:
            client.recommend(query_id="alice")
        assert raised.value.status == "UNAVAILABLE"
        assert raised.value.message.startswith(
            f"TensorFlow Serving at {remote.address} did not answer for version {first} of tiny: UNAVAILABLE: "
        )
    server.stop()


def test_nobody_there(releases: Path) -> None:
    tower = TowerConfig(address="127.0.0.1:1", load_seconds=0.1)
    with pytest.raises(ReleaseError, match="none of the 1 releases"):
        Server(releases, "tiny", ServingConfig(port=0, tower=tower)).start()


def test_signal_ends_the_waiting_at_a_start(releases: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    complete = loading.complete_release

    def signal_while_waiting(*arguments: Any) -> Retriever:
        os.kill(os.getpid(), signal.SIGTERM)
        return complete(*arguments)

    monkeypatch.setattr(loading, "complete_release", signal_while_waiting)
    ready: list[str] = []
    tower = TowerConfig(address="127.0.0.1:1", load_seconds=1e6)
    serve(releases, "tiny", ServingConfig(port=0, tower=tower), on_ready=ready.append)
    assert ready == []


def test_authority_that_cannot_be_read(releases: Path, tmp_path: Path) -> None:
    tower = TowerConfig(address="127.0.0.1:1", ca=tmp_path / "none.pem")
    with pytest.raises(ServerError, match=r"serving\.tower\.ca: cannot read .*none\.pem: No such file"):
        Server(releases, "tiny", ServingConfig(port=0, tower=tower))
