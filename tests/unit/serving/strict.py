"""Deployment files against what reads them; a key that nobody knows is an error."""

from __future__ import annotations

import re
from typing import Any

import kubernetes.client
from kubernetes.client import models

PRIMITIVES: dict[str, tuple[type, ...]] = {"str": (str,), "int": (int,), "bool": (bool,), "float": (float, int)}


class UnknownKeyError(ValueError):
    """A file has a key, a value or a kind that its reader does not know."""


def check_kubernetes(document: dict[str, Any]) -> Any:
    """The manifest as an object of the Kubernetes client, which checks what is required."""
    group, _, version = document["apiVersion"].rpartition("/")
    name = version.capitalize() + document["kind"]
    if (group, document["kind"]) not in {
        ("apps", "Deployment"),
        ("", "Service"),
        ("", "PersistentVolumeClaim"),
        ("", "Namespace"),
        ("policy", "PodDisruptionBudget"),
    }:
        raise UnknownKeyError(f"{document['apiVersion']} has no {document['kind']}")
    return _typed(document, name, document["kind"])


def _typed(value: Any, kind: str, place: str) -> Any:
    if kind == "object":
        return value
    if kind in PRIMITIVES:
        if not isinstance(value, PRIMITIVES[kind]) or (kind == "int" and isinstance(value, bool)):
            raise UnknownKeyError(f"{place}: {value!r} is no {kind}")
        return value
    if inner := re.fullmatch(r"list\[(.*)\]", kind):
        if not isinstance(value, list):
            raise UnknownKeyError(f"{place}: {value!r} is no list")
        return [_typed(item, inner[1], f"{place}[{number}]") for number, item in enumerate(value)]
    if inner := re.fullmatch(r"dict\(str, (.*)\)", kind):
        return {_typed(key, "str", place): _typed(item, inner[1], f"{place}.{key}") for key, item in value.items()}
    model = getattr(models, kind)
    names = {key: name for name, key in model.attribute_map.items()}
    if not isinstance(value, dict) or value.keys() - names.keys():
        raise UnknownKeyError(f"{place}: {kind} takes {sorted(names)}, got {value!r}")
    typed = {names[key]: _typed(item, model.openapi_types[names[key]], f"{place}.{key}") for key, item in value.items()}
    return model(**typed, local_vars_configuration=kubernetes.client.Configuration())


TEXT, TEXTS, FLAG = (str,), (list,), (bool,)
SERVICE: dict[str, tuple[type, ...]] = {
    "image": TEXT, "command": TEXTS, "entrypoint": TEXTS, "user": TEXT, "read_only": FLAG, "cap_drop": TEXTS,
    "security_opt": TEXTS, "tmpfs": TEXTS, "volumes": TEXTS, "ports": TEXTS, "stop_signal": TEXT, "restart": TEXT,
    "build": (dict,), "depends_on": TEXTS, "stop_grace_period": TEXT, "healthcheck": (dict,),
}  # fmt: skip
BUILD = {"context": TEXT, "dockerfile": TEXT}
HEALTHCHECK = {"test": TEXTS, "interval": TEXT, "timeout": TEXT, "start_period": TEXT, "retries": (int,)}


def check_compose(document: dict[str, Any]) -> None:
    """The keys of the compose specification that our file uses, and their types."""
    _keys(document, {"name": TEXT, "services": (dict,)}, "compose")
    for name, service in document["services"].items():
        _keys(service, SERVICE, name)
        if ("image" in service) == ("build" in service):
            raise UnknownKeyError(f"{name}: needs one of image and build")
        _keys(service.get("build", {}), BUILD, f"{name}.build")
        _keys(service.get("healthcheck", {}), HEALTHCHECK, f"{name}.healthcheck")
        for key in ("command", "entrypoint", "volumes", "ports"):
            if not all(isinstance(item, str) for item in service.get(key, [])):
                raise UnknownKeyError(f"{name}.{key}: not all are texts")
        if not set(service.get("depends_on", [])) <= document["services"].keys():
            raise UnknownKeyError(f"{name}.depends_on names no service")


def _keys(node: dict[str, Any], known: dict[str, tuple[type, ...]], place: str) -> None:
    for key, value in node.items():
        if key not in known or not isinstance(value, known[key]):
            raise UnknownKeyError(f"{place}.{key}: {value!r}")
