"""The release: a query tower and an item index under one version, complete or not there at all.

`<root>/<version>/` is a SavedModel folder that stock TensorFlow Serving can poll (`saved_model.pb`, `variables/`,
`assets/`, `assets.extra/`) and also holds `index/` (serving.index), `queries/` (serving.queries) and `release.json`
(Manifest). It is written below `<root>/.tmp-...`, synced to disk and renamed, so a folder with a number for its name is
always complete. Imports no TensorFlow.
"""

from __future__ import annotations

import fcntl
import hashlib
import json
import os
import re
import shutil
import time
import uuid
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from datetime import datetime, timezone
from pathlib import Path

from pydantic import ValidationError

from models.config import FeatureSpec, Frozen
from serving.index_manifest import ItemIndexError, read_manifest
from serving.queries import write_queries

INDEX = "index"
QUERIES = "queries"
MANIFEST = "release.json"
SAVED_MODEL = "saved_model.pb"
TEMPORARY = ".tmp-"
LOCK = ".lock"
CHUNK = 1 << 20
MAX_VERSION = (1 << 63) - 1  # an int64 on the wire


class ReleaseError(ValueError):
    """A release cannot be written, or one on disk is damaged, unsafe or inconsistent."""


class FileEntry(Frozen):
    """One file of a release."""

    bytes: int
    sha256: str


class Manifest(Frozen):
    """What release.json says."""

    version: int
    created: str  # ISO 8601, UTC
    fingerprint: str  # of model_name, features and files; the same for the same content under another version
    model_fingerprint: str  # of the SavedModel's files
    model_name: str
    features: FeatureSpec
    files: dict[str, FileEntry]  # by relative path; release.json itself is not among them


def folder_fingerprint(folder: Path) -> str:
    """Hash of a folder's relative paths, sizes and contents.

    Temporary files, whose name or folder starts with a dot, are left out.

    Returns:
      sha256 as 64 hex digits.

    Raises:
      ReleaseError: the folder is missing or empty, or holds a symlink.
    """
    files = {name: _digest(path) for name, path in _regular_files(folder) if not _temporary(name)}
    if not files:
        raise ReleaseError(f"{folder}: there are no files to fingerprint")
    return _fingerprint(files)


def list_versions(root: Path) -> list[int]:
    """The versions below a root, oldest first. An absent root has none; other folders are not looked at."""
    if not root.is_dir():
        return []
    return sorted(int(entry.name) for entry in root.iterdir() if _is_version(entry.name) and entry.is_dir())


def write_release(
    root: Path,
    *,
    model_name: str,
    features: FeatureSpec,
    model: Path,
    index: Path,
    queries: Iterable[tuple[bytes, bytes]],
) -> int:
    """Publishes a release.

    Writers on one root wait for each other (a lock on `<root>/.lock`), so what a killed writer left behind can be
    removed by the next one. The root must be on a file system with locks and an atomic rename.

    Args:
      root: created where it is missing.
      model_name: under which the model is served.
      features: of the pipeline that trained the model.
      model: SavedModel folder.
      index: folder of serving.index, built from the embeddings of that very model.
      queries: (query id, serialised raw tf.Example), sorted by the ids' bytes, each once.

    Returns:
      The version: max(now in unix seconds, the largest existing + 1); or, where the newest release is whole and has
      the same content already, that one's.

    Raises:
      ReleaseError: the index is of another model, or a folder holds a symlink or a pickle.
    """
    root.mkdir(parents=True, exist_ok=True)
    with locked(root):
        _remove_leftovers(root)
        folder = root / f"{TEMPORARY}{os.getpid()}-{uuid.uuid4().hex}"
        folder.mkdir()
        try:
            _copy_tree(model, folder, refuse=(INDEX, QUERIES, MANIFEST))
            _copy_tree(index, folder / INDEX)
            write_queries(folder / QUERIES, queries)
            return _complete(root, folder, model_name, features)
        finally:
            shutil.rmtree(folder, ignore_errors=True)


def remove_release(root: Path, version: int) -> None:
    """Removes a release; it vanishes by one rename. The caller holds the root's lock.

    Raises:
      OSError: it cannot be removed.
    """
    doomed = root / f"{TEMPORARY}{version}-{uuid.uuid4().hex}"
    (root / str(version)).rename(doomed)
    shutil.rmtree(doomed)


def _complete(root: Path, folder: Path, model_name: str, features: FeatureSpec) -> int:
    files = {name: _digest(path) for name, path in _regular_files(folder)}
    if SAVED_MODEL not in files:
        raise ReleaseError(f"the model has no {SAVED_MODEL}")
    model_fingerprint = _model_fingerprint(files)
    _check_pair(folder, model_fingerprint)
    fingerprint = _release_fingerprint(model_name, features, files)
    versions = list_versions(root)
    if versions and _holds(root / str(versions[-1]), fingerprint):
        return versions[-1]
    version = max(int(time.time()), versions[-1] + 1 if versions else 1)
    manifest = Manifest(
        version=version,
        created=datetime.now(timezone.utc).isoformat(timespec="seconds"),
        fingerprint=fingerprint,
        model_fingerprint=model_fingerprint,
        model_name=model_name,
        features=features,
        files=files,
    )
    (folder / MANIFEST).write_text(manifest.model_dump_json(indent=2) + "\n", encoding="utf-8")
    _sync_tree(folder)
    try:
        folder.rename(root / str(version))
    except OSError as error:
        raise ReleaseError(f"cannot publish version {version} in {root}: {error}") from error
    sync(root)
    return version


def verify_release(folder: Path) -> Manifest:
    """Reads a release's manifest and checks every file against it.

    Args:
      folder: `<root>/<version>`.

    Returns:
      The manifest.

    Raises:
      ReleaseError: a file is missing, truncated, changed or unexpected, a symlink or a pickle; the index was built
        from another model; or the manifest does not fit its folder.
    """
    if folder.is_symlink() or not folder.is_dir():
        raise ReleaseError(f"{folder}: is not a release folder")
    try:
        manifest = Manifest.model_validate_json((folder / MANIFEST).read_bytes())
    except (OSError, ValidationError) as error:
        problem = str(error).replace("\n", " ")
        raise ReleaseError(f"{folder / MANIFEST}: cannot read the manifest: {problem}") from error
    if str(manifest.version) != folder.name:
        raise ReleaseError(f"{folder}: {MANIFEST} says version {manifest.version}")
    found = {name: path for name, path in _regular_files(folder) if name != MANIFEST}
    for name in sorted(manifest.files.keys() | found.keys()):
        if name not in found:
            raise ReleaseError(f"{folder / name}: the file is missing")
        if name not in manifest.files:
            raise ReleaseError(f"{folder / name}: {MANIFEST} does not name this file")
        expected, size = manifest.files[name], found[name].stat().st_size
        if size != expected.bytes:
            raise ReleaseError(f"{folder / name}: has {size} bytes, {MANIFEST} says {expected.bytes}")
        try:
            content = _digest(found[name])
        except OSError as error:
            raise ReleaseError(f"{folder / name}: cannot be read: {error.strerror}") from error
        if content.sha256 != expected.sha256:
            raise ReleaseError(f"{folder / name}: its content has changed since the release was written")
    if _release_fingerprint(manifest.model_name, manifest.features, manifest.files) != manifest.fingerprint:
        raise ReleaseError(f"{folder / MANIFEST}: the fingerprint does not fit what it names")
    if _model_fingerprint(manifest.files) != manifest.model_fingerprint:
        raise ReleaseError(f"{folder / MANIFEST}: the model's fingerprint does not fit the model's files")
    _check_pair(folder, manifest.model_fingerprint)
    return manifest


def _check_pair(folder: Path, model_fingerprint: str) -> None:
    try:
        index = read_manifest(folder / INDEX)
    except ItemIndexError as error:
        raise ReleaseError(str(error)) from error
    if index.model_fingerprint != model_fingerprint:
        raise ReleaseError(
            f"the index was built from model {index.model_fingerprint[:12]}, but the release's model is "
            f"{model_fingerprint[:12]}: build the index again from this model"
        )


def _holds(folder: Path, fingerprint: str) -> bool:
    """Whether a release is whole and has this fingerprint."""
    try:
        return verify_release(folder).fingerprint == fingerprint
    except ReleaseError:
        return False


def _is_version(name: str) -> bool:
    return re.fullmatch(r"[1-9][0-9]{0,18}", name) is not None and int(name) <= MAX_VERSION


def _temporary(name: str) -> bool:
    return any(part.startswith(".") for part in name.split("/"))


def _regular_files(folder: Path) -> Iterator[tuple[str, Path]]:
    """(relative path, path) of every file below a folder, sorted; refuses symlinks, pickles and special files."""
    for path in sorted(folder.rglob("*")):
        if path.is_symlink():
            raise ReleaseError(f"{path}: a release must not hold a symlink")
        if path.is_dir():
            continue
        if not path.is_file():
            raise ReleaseError(f"{path}: is not a regular file")
        if path.suffix in (".pkl", ".pickle"):
            raise ReleaseError(f"{path}: a release must not hold a pickle, for loading one runs code")
        yield path.relative_to(folder).as_posix(), path


def _digest(path: Path) -> FileEntry:
    digest, size = hashlib.sha256(), 0
    with path.open("rb") as file:
        while chunk := file.read(CHUNK):
            digest.update(chunk)
            size += len(chunk)
    return FileEntry(bytes=size, sha256=digest.hexdigest())


def _fingerprint(files: Mapping[str, FileEntry]) -> str:
    lines = (f"{files[name].sha256} {files[name].bytes} {name}\n" for name in sorted(files))
    return hashlib.sha256("".join(lines).encode(errors="surrogateescape")).hexdigest()


def _model_fingerprint(files: Mapping[str, FileEntry]) -> str:
    """What `folder_fingerprint` of the SavedModel gave, from the release's files."""
    return _fingerprint({name: entry for name, entry in files.items() if name.split("/")[0] not in (INDEX, QUERIES)})


def _release_fingerprint(model_name: str, features: FeatureSpec, files: Mapping[str, FileEntry]) -> str:
    content = [model_name, features.model_dump(mode="json"), _fingerprint(files)]
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()


def _copy_tree(source: Path, target: Path, refuse: tuple[str, ...] = ()) -> None:
    """Copies the files of a folder, temporary ones left out."""
    for name, path in _regular_files(source):
        if _temporary(name):
            continue
        if name.split("/")[0] in refuse:
            raise ReleaseError(f"{path}: the name is reserved for the release's own files")
        (target / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(path, target / name)


@contextmanager
def locked(root: Path) -> Iterator[None]:
    """Keeps other writers on a root waiting."""
    with (root / LOCK).open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def _remove_leftovers(root: Path) -> None:
    """Removes what killed writers left. The caller holds the lock, so nobody is writing."""
    for entry in root.iterdir():
        if not entry.name.startswith(TEMPORARY):
            continue
        if entry.is_dir():
            shutil.rmtree(entry)
        else:
            entry.unlink()


def _sync_tree(folder: Path) -> None:
    for path in sorted(folder.rglob("*")):
        sync(path)
    sync(folder)


def sync(path: Path) -> None:
    """Has the system write a file or folder to disk."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
