"""TensorFlow Serving's ReloadConfigRequest, for the one model of this server."""

from __future__ import annotations

import os
from pathlib import Path

import grpc
from tensorflow_serving.config import model_server_config_pb2

from serving.config import VersionPolicy
from serving.release import ReleaseError, list_versions
from serving.served import Served
from serving.state import ServingState

PLATFORM = "tensorflow"
MAX_NAMED = 100  # labels, and versions of the policy: they stay in the state file, which each server reads all the time
INVALID = grpc.StatusCode.INVALID_ARGUMENT


class ReloadError(ValueError):
    """A configuration that this server cannot take."""

    def __init__(self, status: grpc.StatusCode, message: str) -> None:
        super().__init__(message)
        self.status = status


def requested_state(config: model_server_config_pb2.ModelServerConfig, root: Path, served: Served) -> ServingState:
    """What a configuration asks for: policy and labels. It changes nothing else.

    Args:
      config: with a model_config_list that names the server's model alone. A model without a version policy has the
        one of the server's own configuration.
      root: folder of the releases.
      served: what is loaded; labels may name that only.

    Raises:
      ReloadError: it is about another model, path or platform, or a label's version is not available.
    """
    if config.WhichOneof("config") != "model_config_list":
        raise ReloadError(
            INVALID,
            "ServerModelConfig type not supported by HandleReloadConfigRequest. "
            "Only ModelConfigList is currently supported",
        )
    models = config.model_config_list.config
    if [model.name for model in models] != [served.model_name]:
        named = ", ".join(repr(model.name) for model in models) or "none"
        raise ReloadError(INVALID, f"this server has the model {served.model_name!r} alone, the request names {named}")
    model = models[0]
    if not _is_path_of(model.base_path, root):
        raise ReloadError(INVALID, f"base_path is {model.base_path!r}, this server reads {str(root)!r}")
    if model.model_platform not in ("", PLATFORM):
        raise ReloadError(INVALID, f"model_platform is {model.model_platform!r}, must be {PLATFORM!r}")
    if model.HasField("logging_config"):
        raise ReloadError(INVALID, "logging_config is not offered: this server logs no requests")
    policy = _policy(model) if model.HasField("model_version_policy") else None
    if policy is not None and policy.kind == "specific" and not set(policy.versions) & set(list_versions(root)):
        raise ReloadError(INVALID, f"none of the specific versions {sorted(policy.versions)} is in {root}")
    if len(model.version_labels) > MAX_NAMED:
        raise ReloadError(INVALID, f"{len(model.version_labels)} version labels, at most {MAX_NAMED} are taken")
    for label, version in sorted(model.version_labels.items()):
        if version not in served.retrievers:
            raise ReloadError(
                grpc.StatusCode.FAILED_PRECONDITION,
                f"Request to assign label to version {version} of model {model.name}, "
                "which is not currently available for inference",
            )
        if not label:
            raise ReloadError(INVALID, "a version label is empty")
    try:
        return ServingState().replace(policy=policy, labels=dict(model.version_labels))
    except ReleaseError as error:
        raise ReloadError(INVALID, str(error)) from error


def _is_path_of(base_path: str, root: Path) -> bool:
    try:
        # The system refuses a long path at once. A Path takes it apart, and resolving it takes by the square of its
        # length: minutes for one MiB.
        return os.path.samefile(base_path, root)  # noqa: PTH121
    except (OSError, ValueError):
        return False


def _policy(model: model_server_config_pb2.ModelConfig) -> VersionPolicy:
    policy = model.model_version_policy
    kind = policy.WhichOneof("policy_choice") or "latest"
    if kind == "specific":
        if not policy.specific.versions or min(policy.specific.versions) < 1:
            raise ReloadError(INVALID, "model_version_policy.specific needs versions, each at least 1")
        if len(policy.specific.versions) > MAX_NAMED:
            message = f"model_version_policy.specific has {len(policy.specific.versions)} versions"
            raise ReloadError(INVALID, f"{message}, at most {MAX_NAMED} are taken")
        return VersionPolicy(kind="specific", versions=tuple(policy.specific.versions))
    if kind == "all":
        return VersionPolicy(kind="all")
    return VersionPolicy(num_versions=max(1, policy.latest.num_versions))
