from pathlib import Path
from typing import cast

import grpc
import pytest
from tensorflow_serving.config import model_server_config_pb2

from serving.config import VersionPolicy
from serving.reload import ReloadError, requested_state
from serving.retriever import Retriever
from serving.served import Served
from serving.state import ServingState

INVALID, PRECONDITION = grpc.StatusCode.INVALID_ARGUMENT, grpc.StatusCode.FAILED_PRECONDITION
SERVED = Served("m", {version: cast(Retriever, object()) for version in (5, 8)})


@pytest.fixture
def root(tmp_path: Path) -> Path:
    for version in (3, 5, 8):
        (tmp_path / str(version)).mkdir()
    return tmp_path


def requested(root: Path, *models: dict) -> ServingState:
    configs = [{"name": "m", "base_path": str(root), **model} for model in models]
    config = model_server_config_pb2.ModelServerConfig(model_config_list={"config": configs})
    return requested_state(config, root, SERVED)


@pytest.mark.parametrize(
    ("policy", "expected"),
    [
        (None, None),
        ({}, VersionPolicy()),
        ({"latest": {}}, VersionPolicy()),
        ({"latest": {"num_versions": 3}}, VersionPolicy(num_versions=3)),
        ({"all": {}}, VersionPolicy(kind="all")),
        ({"specific": {"versions": [5, 4]}}, VersionPolicy(kind="specific", versions=(5, 4))),
    ],
)
def test_policy(root: Path, policy: dict | None, expected: VersionPolicy | None) -> None:
    assert requested(root, {} if policy is None else {"model_version_policy": policy}).policy == expected


def test_labels(root: Path) -> None:
    labels = {"stable": 5, "canary": 8}
    assert requested(root, {"version_labels": labels}) == ServingState(labels=labels)
    assert requested(root, {"model_platform": "tensorflow"}) == ServingState()


def test_the_path_may_be_written_otherwise(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(root.parent)
    assert requested(root, {"base_path": root.name}) == requested(root, {"base_path": f"{root}/5/.."})
    (root / "link").symlink_to(root)
    assert requested(root, {"base_path": f"{root.name}/link"}) == ServingState()


# Resolved as a path, the long one takes minutes; a loop of links is an error of its own to pathlib.
@pytest.mark.parametrize("base_path", ["a/" * (1 << 20), "x" * (1 << 20), "loop", "loop/..", "missing"])
def test_a_path_that_cannot_be(root: Path, monkeypatch: pytest.MonkeyPatch, base_path: str) -> None:
    monkeypatch.chdir(root)
    (root / "loop").symlink_to("loop")
    with pytest.raises(ReloadError, match="base_path is") as raised:
        requested(root, {"base_path": base_path})
    assert raised.value.status is INVALID


def test_no_more_than_a_server_can_have(root: Path) -> None:
    labels = {f"l{number}": 5 for number in range(101)}
    with pytest.raises(ReloadError, match="101 version labels, at most 100 are taken"):
        requested(root, {"version_labels": labels})
    del labels["l100"]
    assert requested(root, {"version_labels": labels}).labels == labels
    versions = [5] * 101
    with pytest.raises(ReloadError, match=r"model_version_policy\.specific has 101 versions, at most 100 are taken"):
        requested(root, {"model_version_policy": {"specific": {"versions": versions}}})


@pytest.mark.parametrize(
    ("models", "status", "message"),
    [
        ([], INVALID, "this server has the model 'm' alone, the request names none"),
        ([{"name": "n"}], INVALID, "this server has the model 'm' alone, the request names 'n'"),
        ([{}, {"name": "n"}], INVALID, "this server has the model 'm' alone, the request names 'm', 'n'"),
        ([{"base_path": ""}], INVALID, "base_path is '', this server reads '{root}'"),
        ([{"base_path": "a\0b"}], INVALID, r"base_path is 'a\x00b', this server reads '{root}'"),
        ([{"base_path": "/"}], INVALID, "base_path is '/', this server reads '{root}'"),
        ([{"model_platform": "other"}], INVALID, "model_platform is 'other', must be 'tensorflow'"),
        ([{"logging_config": {}}], INVALID, "logging_config is not offered: this server logs no requests"),
        (
            [{"version_labels": {"stable": 3}}],
            PRECONDITION,
            "Request to assign label to version 3 of model m, which is not currently available for inference",
        ),
        ([{"version_labels": {"": 5}}], INVALID, "a version label is empty"),
        (
            [{"model_version_policy": {"specific": {}}}],
            INVALID,
            "model_version_policy.specific needs versions, each at least 1",
        ),
        (
            [{"model_version_policy": {"specific": {"versions": [0]}}}],
            INVALID,
            "model_version_policy.specific needs versions, each at least 1",
        ),
        (
            [{"model_version_policy": {"specific": {"versions": [9, 4]}}}],
            INVALID,
            "none of the specific versions [4, 9] is in {root}",
        ),
    ],
)
def test_refused(root: Path, models: list[dict], status: grpc.StatusCode, message: str) -> None:
    with pytest.raises(ReloadError) as raised:
        requested(root, *models)
    assert (raised.value.status, str(raised.value)) == (status, message.format(root=root))


def test_label_that_cannot_be(root: Path) -> None:
    with pytest.raises(ReloadError, match=r"labels\.a b.*should match pattern") as raised:
        requested(root, {"version_labels": {"a b": 5}})
    assert raised.value.status is INVALID


@pytest.mark.parametrize("values", [{"custom_model_config": {}}, {}])
def test_other_kinds_of_configuration(root: Path, values: dict) -> None:
    with pytest.raises(ReloadError, match="Only ModelConfigList is currently supported") as raised:
        requested_state(model_server_config_pb2.ModelServerConfig(**values), root, SERVED)
    assert raised.value.status is INVALID
