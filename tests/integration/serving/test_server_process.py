"""The server as a process of its own, and what its command line refuses."""

import json
import os
import signal
import socket
import subprocess
import sys
import urllib.request
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from grpc_health.v1 import health_pb2

from serving.client import RetrievalClient, RetrievalError
from serving.proto.generate import ROOT
from serving.server import main
from tests.integration.serving.asking import Gated, command, health, refuses, wait_until
from tests.unit.serving import tiny

SERVING = health_pb2.HealthCheckResponse.SERVING


@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_process_stops_in_order(tmp_path: Path, model: Path, number: signal.Signals) -> None:
    version = tiny.publish(tmp_path / "r", model, tmp_path / "index")
    (tmp_path / "serving.yaml").write_text("max_k: 3\nport: 1\nrest_port: 0")
    arguments = command(
        "--releases", tmp_path / "r", "--model", "tiny", "--port", 0, "--config", tmp_path / "serving.yaml"
    )
    with (tmp_path / "stderr").open("w") as stderr:
        process = subprocess.Popen(arguments, cwd=ROOT, stdout=subprocess.PIPE, stderr=stderr, text=True)
    try:
        assert process.stdout is not None
        line = process.stdout.readline()
        assert line.startswith(f"serving tiny version {version} on 127.0.0.1:")
        address = line.split()[-1]
        assert health(address) == SERVING
        line = process.stdout.readline()
        assert line.startswith("REST and metrics on 127.0.0.1:")
        with urllib.request.urlopen(f"http://{line.split()[-1]}/v1/models/tiny", timeout=30) as page:
            assert json.load(page)["model_version_status"][0]["state"] == "AVAILABLE"
        with RetrievalClient(address, timeout=30) as client:
            assert len(client.recommend(query_id="alice", k=3).items) == 3
            with pytest.raises(RetrievalError, match="k is 4, must be 1 to 3"):
                client.recommend(query_id="alice", k=4)
        os.kill(process.pid, number)
        assert process.wait(60) == 0
        assert process.stdout.read() == ""
    finally:
        process.kill()
        process.wait()


@pytest.mark.slow
def test_request_under_way_at_a_stop_is_answered(tmp_path: Path) -> None:
    model = tiny.save_model(tmp_path / "model", Gated(tmp_path))
    tiny.publish(tmp_path / "r", model, tmp_path / "index")
    process = subprocess.Popen(
        command("--releases", tmp_path / "r", "--model", "tiny", "--port", 0),
        cwd=ROOT,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
    )
    try:
        assert process.stdout is not None
        address = process.stdout.readline().split()[-1]
        with RetrievalClient(address, timeout=60) as client, ThreadPoolExecutor(1) as pool:
            answer = pool.submit(client.recommend, query_id="slow", features={"w": 1.0}, k=2)
            wait_until((tmp_path / "started").exists)
            process.terminate()
            wait_until(lambda: refuses(address))
            assert not answer.done()
            assert process.poll() is None
            (tmp_path / "go").touch()
            assert [(item.item_id, item.score) for item in answer.result(60).items] == [("i5", 5.0), ("i4", 4.0)]
        assert process.wait(60) == 0
    finally:
        process.kill()
        process.wait()


@pytest.mark.slow
def test_help_does_not_wait_for_tensorflow() -> None:
    code = (
        "import sys, serving.server\n"
        "try: serving.server.main(['--help'])\n"
        "finally: print([m for m in ('tensorflow', 'scann') if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    assert done.stdout.startswith("usage: python -m serving.server")
    assert done.stdout.endswith("\n[]\n")
    assert done.stderr == ""


@pytest.mark.slow
def test_process_without_releases_says_so_in_one_line(tmp_path: Path) -> None:
    folder = tmp_path / "nowhere"
    arguments = command("--releases", folder, "--model", "tiny", "--port", 0)
    done = subprocess.run(arguments, cwd=ROOT, capture_output=True, text=True, timeout=120)
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr == f"error: there is no release in {folder}\n"


@pytest.mark.slow
def test_process_says_why_it_cannot_start(tmp_path: Path) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        done = subprocess.run(
            command("--releases", tmp_path, "--model", "tiny", "--port", port),
            cwd=ROOT,
            capture_output=True,
            text=True,
            timeout=120,
        )
    assert done.returncode == 1
    assert done.stdout == ""
    assert done.stderr.splitlines()[-1].startswith(f"error: cannot listen on 127.0.0.1:{port}: the port is taken")
    assert "Traceback" not in done.stderr


def test_main_without_a_release(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    before = signal.getsignal(signal.SIGTERM)
    assert main(["--releases", str(tmp_path), "--model", "tiny", "--port", "0"]) == 1
    assert capsys.readouterr().err.endswith(f"error: there is no release in {tmp_path}\n")
    assert signal.getsignal(signal.SIGTERM) is before


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("max_kk: 3", "error: max_kk: Extra inputs are not permitted"),
        ("tls: {certificate: a}", "error: tls.key: Field required"),
        ("- port", "serving.yaml: 'list' object is not a mapping"),
        ("port: [", "serving.yaml: while parsing a flow node"),
        (None, "serving.yaml: [Errno 2] No such file or directory"),
    ],
)
def test_main_with_a_file_that_cannot_be(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], content: str | None, message: str
) -> None:
    file = tmp_path / "serving.yaml"
    if content is not None:
        file.write_text(content)
    with pytest.raises(SystemExit) as raised:
        main(["--releases", str(tmp_path), "--model", "tiny", "--config", str(file)])
    assert raised.value.code == 2
    assert message in capsys.readouterr().err


def test_main_with_a_port_that_cannot_be(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as raised:
        main(["--releases", str(tmp_path), "--model", "tiny", "--port", "70000"])
    assert raised.value.code == 2
    assert "error: port: Input should be less than or equal to 65535" in capsys.readouterr().err
