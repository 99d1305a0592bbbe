"""The files that run stock TensorFlow Serving and the retrieval server: each parsed as its reader would."""

from __future__ import annotations

import copy
import re
from pathlib import Path
from typing import Any

import pytest
import yaml
from google.protobuf import descriptor_pb2, descriptor_pool, message_factory, text_format, wrappers_pb2
from google.protobuf.message import Message
from grpc_tools._protoc_compiler import run_main
from tensorflow_serving.config import model_server_config_pb2

from pipeline.config import load_config
from serving.config import ServingConfig
from serving.proto.generate import ROOT
from tests.unit.serving.strict import UnknownKeyError, check_compose, check_kubernetes

FOLDER = ROOT / "serving" / "config" / "tf_serving"
MANIFESTS = sorted(file for file in (FOLDER / "kubernetes").glob("*.yaml") if file.name != "retrieval.yaml")
PROTOS = Path(__file__).parent / "tf_serving_protos"
DEFAULT = load_config(ROOT / "configs" / "movielens.yaml")


def read_yaml(file: Path) -> Any:
    return yaml.safe_load(file.read_text())


@pytest.fixture(scope="module")
def messages(tmp_path_factory: pytest.TempPathFactory) -> dict[str, type[Message]]:
    """TensorFlow Serving's config messages by name, in a descriptor pool of their own."""
    target = tmp_path_factory.mktemp("protos") / "set"
    google = Path(__import__("grpc_tools").__file__).parent / "_proto"
    arguments = ["protoc", f"-I{PROTOS}", f"-I{google}", f"--descriptor_set_out={target}", "config.proto"]
    assert run_main([argument.encode() for argument in arguments]) == 0
    pool = descriptor_pool.DescriptorPool()
    pool.AddSerializedFile(wrappers_pb2.DESCRIPTOR.serialized_pb)
    (file,) = descriptor_pb2.FileDescriptorSet.FromString(target.read_bytes()).file
    pool.Add(file)
    factory = message_factory.MessageFactory(pool)
    return {
        message.name: factory.GetPrototype(pool.FindMessageTypeByName(f"tensorflow.serving.{message.name}"))
        for message in file.message_type
    }


def parse(name: str, message: Message) -> Any:
    return text_format.Parse((FOLDER / name).read_text(), message)


def test_models() -> None:
    (model,) = parse("models.config", model_server_config_pb2.ModelServerConfig()).model_config_list.config
    assert (model.name, model.base_path, model.model_platform) == (DEFAULT.name, "/releases", "tensorflow")
    assert model.model_version_policy.WhichOneof("policy_choice") == "latest"
    assert model.model_version_policy.latest.num_versions == 2
    assert dict(model.version_labels) == {"stable": 1, "canary": 2}


def test_batching(messages: dict[str, type[Message]]) -> None:
    batching = parse("batching.config", messages["BatchingParameters"]())
    assert (batching.max_batch_size.value, batching.batch_timeout_micros.value) == (32, 0)
    assert (batching.num_batch_threads.value, batching.max_enqueued_batches.value) == (2, 16)
    assert not batching.pad_variable_length_inputs


def test_monitoring(messages: dict[str, type[Message]]) -> None:
    prometheus = parse("monitoring.config", messages["MonitoringConfig"]()).prometheus_config
    assert (prometheus.enable, prometheus.path) == (True, "/monitoring/prometheus/metrics")


def test_tls_holds_no_secret(messages: dict[str, type[Message]]) -> None:
    tls = parse("ssl.config", messages["SSLConfig"]())
    assert (tls.server_key, tls.server_cert) == (
        "-----BEGIN ... KEY-----\n...\n",
        "-----BEGIN CERTIFICATE-----\n...\n",
    )
    assert (tls.custom_ca, tls.client_verify) == ("", False)


def test_a_field_that_does_not_exist_is_noticed(messages: dict[str, type[Message]]) -> None:
    with pytest.raises(text_format.ParseError, match="no field named"):
        text_format.Parse("server_key_file: 'x'", messages["SSLConfig"]())


def tower_address(name: str) -> str:
    """Where the retrieval server of a file looks for its tower."""
    config = ServingConfig.model_validate(read_yaml(FOLDER / name))
    assert (config.host, config.port) == ("0.0.0.0", 8600)
    assert config.tower is not None
    return config.tower.address


def mounted(arguments: list[str]) -> set[str]:
    """Files below /config that arguments name."""
    return {name for argument in arguments for name in re.findall(r"/config/([\w.]+)", argument)}


class TestCompose:
    @pytest.fixture
    def compose(self) -> dict[str, Any]:
        return read_yaml(FOLDER / "docker-compose.yaml")

    def test_schema(self, compose: dict[str, Any]) -> None:
        check_compose(compose)

    @pytest.mark.parametrize(
        ("place", "value"),
        [
            (("services", "tower", "comand"), []),
            (("services", "tower", "read_only"), "yes"),
            (("services", "retrieval", "build", "file"), "x"),
            (("services", "retrieval", "depends_on"), ["towel"]),
            (("services", "retrieval", "image"), "x"),
            (("version",), "3"),
        ],
    )
    def test_schema_is_strict(self, compose: dict[str, Any], place: tuple[str, ...], value: object) -> None:
        node = compose
        for key in place[:-1]:
            node = node[key]
        node[place[-1]] = value
        with pytest.raises(UnknownKeyError):
            check_compose(compose)

    def test_files_are_there_and_mounted(self, compose: dict[str, Any]) -> None:
        for service in compose["services"].values():
            files = {}
            for volume in service["volumes"]:
                source, target, mode = re.fullmatch(r"(\$\{.*\}|[^:]*):(.*):(.*)", volume).groups()
                assert mode == "ro"
                if not source.startswith("$"):
                    assert (FOLDER / source).is_file()
                    files[Path(target).name] = target
            assert mounted(service["command"]) == files.keys()
        build = compose["services"]["retrieval"]["build"]
        assert (FOLDER / build["context"]).resolve() == ROOT
        assert (ROOT / build["dockerfile"]).is_file()

    def test_command_of_the_retrieval_server(self, compose: dict[str, Any]) -> None:
        command = compose["services"]["retrieval"]["command"]
        assert command[command.index("--model") + 1] == DEFAULT.name
        assert tower_address("retrieval.yaml") == "tower:8500"
        assert "--port=8500" in compose["services"]["tower"]["command"]

    def test_health_check_is_python(self, compose: dict[str, Any]) -> None:
        kind, python, flag, code = compose["services"]["retrieval"]["healthcheck"]["test"]
        assert (kind, python, flag) == ("CMD", "python", "-c")
        compile(code, "healthcheck", "exec")
        assert ":8600" in code


class TestKubernetes:
    @pytest.mark.parametrize("file", MANIFESTS, ids=lambda file: file.name)
    def test_schema(self, file: Path) -> None:
        for document in yaml.safe_load_all(file.read_text()):
            check_kubernetes(document)

    @pytest.fixture
    def deployment(self) -> dict[str, Any]:
        return read_yaml(FOLDER / "kubernetes" / "deployment.yaml")

    @pytest.mark.parametrize(
        ("place", "value"),
        [
            (("spec", "template", "spec", "containers", 0, "readynessProbe"), {}),
            (("spec", "template", "spec", "containers", 0, "readinessProbe", "grpc", "port"), "8500"),
            (("spec", "template", "spec", "containers", 1, "securityContext", "readOnlyRootFs"), True),
            (("spec", "template", "spec", "containers", 1, "args"), "--port"),
            (("spec", "replicas"), "2"),
            (("kind",), "Deploymnet"),
        ],
    )
    def test_schema_is_strict(self, deployment: dict[str, Any], place: tuple[Any, ...], value: object) -> None:
        changed = copy.deepcopy(deployment)
        node: Any = changed
        for key in place[:-1]:
            node = node[key]
        node[place[-1]] = value
        with pytest.raises(UnknownKeyError):
            check_kubernetes(changed)

    def test_what_the_client_requires_is_required(self, deployment: dict[str, Any]) -> None:
        del deployment["spec"]["selector"]
        with pytest.raises(ValueError, match="selector"):
            check_kubernetes(deployment)

    def test_pod(self, deployment: dict[str, Any]) -> None:
        pod = check_kubernetes(deployment).spec.template.spec
        assert pod.security_context.run_as_non_root
        tower, retrieval = pod.containers
        for container in (tower, retrieval):
            security = container.security_context
            assert security.read_only_root_filesystem
            assert not security.allow_privilege_escalation
            assert security.capabilities.drop == ["ALL"]
            assert container.resources.limits.keys() == {"memory"}
            mounts = {mount.mount_path: mount for mount in container.volume_mounts}
            assert mounts["/releases"].read_only
            assert {mount.name for mount in container.volume_mounts} <= {volume.name for volume in pod.volumes}
        assert tower.readiness_probe.grpc.service == "ModelService"
        assert "--enable_grpc_healthcheck_service=true" in tower.args
        assert tower_address("kubernetes/retrieval.yaml") == f"127.0.0.1:{tower.readiness_probe.grpc.port}"
        # The tower outlives the server that asks it, and both end within the grace period.
        wait = int(retrieval.lifecycle.pre_stop._exec.command[1])
        assert wait + 10 < int(tower.lifecycle.pre_stop._exec.command[1]) < pod.termination_grace_period_seconds

    def test_kustomization_names_what_is_there(self, deployment: dict[str, Any]) -> None:
        kustomization = read_yaml(FOLDER / "kustomization.yaml")
        assert kustomization.keys() == {"apiVersion", "kind", "namespace", "resources", "configMapGenerator"}
        assert {FOLDER / name for name in kustomization["resources"]} == set(MANIFESTS)
        files = {}
        for generated in kustomization["configMapGenerator"]:
            assert generated.keys() == {"name", "files"}
            pairs = [name.rpartition("=")[::2] for name in generated["files"]]
            assert all((FOLDER / path).is_file() for _, path in pairs)
            files[generated["name"]] = {key or path for key, path in pairs}
        pod = check_kubernetes(deployment).spec.template.spec
        tower, retrieval = pod.containers
        assert files == {"tf-serving": mounted(tower.args), "retrieval": mounted(retrieval.args)}


def test_dockerfile() -> None:
    lines = (FOLDER / "Dockerfile").read_text().replace("\\\n", " ").splitlines()
    instructions = [line.split(maxsplit=1) for line in lines if line and not line.startswith("#")]
    assert {name for name, _ in instructions} == {
        "FROM",
        "RUN",
        "COPY",
        "WORKDIR",
        "ENV",
        "USER",
        "EXPOSE",
        "ENTRYPOINT",
    }
    for name, rest in instructions:
        if name == "COPY" and not rest.startswith("--from"):
            assert (ROOT / rest.split()[0]).exists()
    assert instructions[-1] == ["ENTRYPOINT", '["python", "-m", "serving.server"]']
