"""Which release answers after each thing that can happen to the folder. `poll` is called by hand."""

import gc
import json
import logging
import math
import os
import pickle
import shutil
import weakref
from collections.abc import Callable
from pathlib import Path

import grpc
import numpy as np
import pytest
import tensorflow as tf

from serving import manager as module
from serving import operations, release
from serving.config import TowerConfig, VersionPolicy
from serving.manager import DATA_LOSS, UNKNOWN, Manager
from serving.release import ReleaseError
from serving.served import Current, VersionState, VersionStatus
from serving.state import ServingState, change_state
from serving.status import RequestError
from tests.unit.serving import tiny

UNAVAILABLE = 14  # google.rpc.Code
AVAILABLE = VersionStatus(VersionState.AVAILABLE)
END = VersionStatus(VersionState.END)


def errors(caplog: pytest.LogCaptureFixture) -> list[str]:
    """What the manager complained of."""
    records = [record for record in caplog.records if record.name == "serving.manager"]
    return [record.getMessage() for record in records if record.levelno >= logging.ERROR]


class Root:
    """A releases root with a manager on it."""

    def __init__(self, folder: Path, model: Path, policy: VersionPolicy) -> None:
        self.folder, self.model, self.count = folder / "r", model, 0
        self.work = folder
        self.current = Current("tiny")
        self.manager = Manager(self.folder, self.current, policy)

    def publish(self, model: Path | None = None, **values: object) -> int:
        """A release whose items nobody else has: the nth one's are "n-a" and "n-b"."""
        self.count += 1
        items = {f"{self.count}-a": [1, 0, 0, 0], f"{self.count}-b": [2, 0, 0, 0]}
        return tiny.publish(
            self.folder, model or self.model, self.work / f"index-{self.count}", **{"items": items, **values}
        )

    def decide(self, **values: object) -> None:
        change_state(self.folder, lambda state: ServingState(**values))

    def answer(self) -> tuple[int, str]:
        """(version, item) that answer a query now."""
        _, retriever = self.current.served.assign("alice")
        answer = retriever.recommend(query_id="alice", features={}, k=1)
        return retriever.manifest.version, answer.hits[0].item_id.decode()


@pytest.fixture
def root(tmp_path: Path, model: Path) -> Root:
    return Root(tmp_path, model, VersionPolicy())


def sign(folder: Path) -> None:
    """Makes a changed release's manifest fit its files again: damage from before it was written."""
    manifest = release.Manifest.model_validate_json((folder / "release.json").read_bytes())
    files = {n: release._digest(p) for n, p in release._regular_files(folder) if n != "release.json"}
    fingerprint = release._release_fingerprint(manifest.model_name, manifest.features, files)
    changed = manifest.model_copy(update={"files": files, "fingerprint": fingerprint})
    (folder / "release.json").write_text(changed.model_dump_json())


def truncate(folder: Path) -> None:
    path = folder / "index" / "embeddings.npy"
    path.write_bytes(path.read_bytes()[:-1])


def wrong_fingerprint(folder: Path) -> None:
    content = json.loads((folder / "release.json").read_text())
    (folder / "release.json").write_text(json.dumps(content | {"fingerprint": "0" * 64}))


def nan_in_index(folder: Path) -> None:
    path = folder / "index" / "embeddings.npy"
    embeddings = np.load(path)
    embeddings[1, 2] = math.nan
    np.save(path, embeddings)
    sign(folder)


def symlink(folder: Path) -> None:
    (folder / "assets").mkdir(exist_ok=True)
    (folder / "assets" / "link").symlink_to("/etc/hostname")


def add_pickle(folder: Path) -> None:
    (folder / "index" / "scann_docids.pkl").write_bytes(pickle.dumps(1))


DAMAGES: list[tuple[Callable[[Path], object], str]] = [
    (truncate, r"embeddings\.npy: has 159 bytes, release\.json says 160"),
    (wrong_fingerprint, "the fingerprint does not fit what it names"),
    (nan_in_index, r"embeddings\.npy: item '2-b' has an embedding with NaN or infinity"),
    (symlink, "must not hold a symlink"),
    (add_pickle, "must not hold a pickle"),
    (lambda folder: (folder / "release.json").unlink(), "cannot read the manifest"),
    (lambda folder: (folder / "saved_model.pb").write_bytes(b"x"), r"saved_model\.pb: has 1 bytes"),
    (lambda folder: shutil.rmtree(folder / "queries"), "the file is missing"),
]


@pytest.mark.parametrize(("damage", "message"), DAMAGES)
def test_broken_release_is_refused_once_and_the_old_one_goes_on(
    root: Root, caplog: pytest.LogCaptureFixture, damage: Callable[[Path], object], message: str
) -> None:
    first = root.publish()
    root.manager.poll()
    before = root.current.served
    assert root.answer() == (first, "1-b")
    second = root.publish()
    damage(root.folder / str(second))
    with caplog.at_level(logging.ERROR):
        for _ in range(3):
            root.manager.poll()
    assert root.current.served is before
    assert root.answer() == (first, "1-b")
    (told,) = errors(caplog)
    assert told.startswith(f"release {second} is refused: {root.folder / str(second)}")
    status = root.current.statuses[second]
    assert (status.state, status.error_code) == (VersionState.END, DATA_LOSS)
    assert told.endswith(status.error_message)
    with pytest.raises(ReleaseError, match=message):
        raise ReleaseError(status.error_message)
    assert root.current.statuses[first] == AVAILABLE


class NanForBob(tiny.TinyModel):
    """Answers everybody but one stored query."""

    @tf.function(input_signature=tiny.TinyModel.serving_default.input_signature)
    def serving_default(self, user_id, w, tags, history, time):
        return super().serving_default(user_id, tf.where(user_id == "bob", math.inf, w), tags, history, time)


@pytest.mark.parametrize(
    ("tower", "values", "message"),
    [
        (NanForBob(), {}, "canary query 'bob' failed: the query's embedding has NaN or infinity"),
        (tiny.TinyModel(offset=math.nan), {}, "cannot load the release: the query's embedding has NaN or infinity"),
        (None, {"items": {"a": [1, 2]}}, "the tower's embedding has shape [4], the index [2]"),
        (None, {"model_name": "other"}, "is of model 'other', not of 'tiny'"),
    ],
)
def test_release_that_cannot_answer_is_refused(
    root: Root, tower: tiny.TinyModel | None, values: dict, message: str
) -> None:
    first = root.publish()
    root.manager.poll()
    model = None if tower is None else tiny.save_model(root.work / "broken", tower)
    second = root.publish(model, **values)
    root.manager.poll()
    assert root.answer() == (first, "1-b")
    status = root.current.statuses[second]
    assert (status.state, status.error_code) == (VersionState.END, DATA_LOSS)
    assert message in status.error_message


def test_operations_know_which_release_answers(root: Root) -> None:
    """Whole files, and a tower that embeds NaN: the commands try a release just as the manager does."""
    first = root.publish()
    root.manager.poll()
    broken = tiny.save_model(root.work / "broken", tiny.TinyModel(offset=math.nan))
    second, third = root.publish(broken), root.publish(broken)
    root.manager.poll()
    assert root.answer() == (first, "1-b")
    rows = operations.list_releases(root.folder, VersionPolicy())
    assert [(row.version, row.serving) for row in rows] == [(first, True), (second, False), (third, False)]
    assert rows[2].problem == root.current.statuses[third].error_message
    with pytest.raises(ReleaseError, match=f"there is no release that can be served before version {first}"):
        operations.rollback(root.folder, VersionPolicy())
    assert operations.prune(root.folder, VersionPolicy(), keep=1) == [second]


def test_release_that_breaks_a_library_does_not_end_the_watching(root: Root, monkeypatch: pytest.MonkeyPatch) -> None:
    first = root.publish()
    root.manager.poll()
    second = root.publish()

    def fails(*arguments: object) -> None:
        raise MemoryError("too much")

    monkeypatch.setattr(module, "load_release", fails)
    root.manager.poll()
    assert root.answer() == (first, "1-b")
    assert root.current.statuses[second] == VersionStatus(
        VersionState.END, UNKNOWN, f"{root.folder / str(second)}: MemoryError: too much"
    )


def test_release_whose_remote_tower_is_not_there_yet_is_tried_again(
    root: Root, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = root.publish()
    root.manager.poll()
    second, load = root.publish(), module.load_release
    remote = TowerConfig(address="127.0.0.1:1")
    answers = [RequestError(grpc.StatusCode.UNAVAILABLE, "not yet"), None]

    def loads(folder: Path, tower: TowerConfig | None) -> object:
        assert tower == remote
        problem = answers.pop(0)
        if problem is not None:
            raise ReleaseError("cannot load it") from problem
        return load(folder)

    monkeypatch.setattr(root.manager, "_remote", remote)
    monkeypatch.setattr(module, "load_release", loads)
    root.manager.poll()
    assert root.answer() == (first, "1-b")
    assert root.current.statuses[second] == VersionStatus(VersionState.END, UNAVAILABLE, "cannot load it")
    root.manager.poll()
    assert root.answer() == (second, "2-b")


def test_repaired_release_is_tried_again(root: Root) -> None:
    first = root.publish()
    root.manager.poll()
    second = root.publish()
    path = root.folder / str(second) / "index" / "embeddings.npy"
    whole = path.read_bytes()
    path.write_bytes(whole[:-1])
    root.manager.poll()
    assert root.answer() == (first, "1-b")
    path.write_bytes(whole)
    root.manager.poll()
    assert root.answer() == (second, "2-b")
    assert root.current.statuses[second] == AVAILABLE


def test_same_size_repair_is_seen_by_its_time(root: Root) -> None:
    first = root.publish()
    root.manager.poll()
    second = root.publish()
    path = root.folder / str(second) / "index" / "embeddings.npy"
    whole = path.read_bytes()
    path.write_bytes(whole[:-1] + b"?")
    os.utime(path, ns=(1, 1))
    root.manager.poll()
    assert root.answer() == (first, "1-b")
    path.write_bytes(whole)
    root.manager.poll()
    assert root.answer() == (second, "2-b")


def test_nothing_is_read_when_nothing_changed(root: Root, monkeypatch: pytest.MonkeyPatch) -> None:
    root.publish()
    truncate(root.folder / str(root.publish()))
    root.manager.poll()
    served, statuses = root.current.served, root.current.statuses

    def read(*arguments: object) -> None:
        raise AssertionError("a release was read again")

    monkeypatch.setattr(module, "load_release", read)
    monkeypatch.setattr(release, "_digest", read)
    for _ in range(3):
        root.manager.poll()
    assert root.current.served is served
    assert root.current.statuses is statuses


def test_new_release_takes_the_place_of_the_old_one(root: Root) -> None:
    first = root.publish()
    root.manager.poll()
    before = root.current.served
    second = root.publish()
    root.manager.poll()
    assert root.answer() == (second, "2-b")
    assert list(root.current.served.retrievers) == [second]
    # A request that has begun holds the state it began with.
    assert before.find("tiny").manifest.version == first
    assert root.current.statuses == {first: VersionStatus(VersionState.UNLOADING), second: AVAILABLE}
    del before
    root.manager.poll()
    assert root.current.statuses == {first: END, second: AVAILABLE}


def test_dropped_release_is_freed(root: Root) -> None:
    root.publish()
    root.manager.poll()
    retriever = weakref.ref(root.current.served.find("tiny"))
    # What TensorFlow holds of the model is in cycles.
    model = weakref.ref(root.current.served.find("tiny").tower._model)
    root.publish()
    gc.disable()
    try:
        root.manager.poll()
        root.manager.poll()
    finally:
        gc.enable()
    assert retriever() is None
    assert model() is None


def test_pin_labels_and_traffic(root: Root) -> None:
    first, second = root.publish(), root.publish()
    root.manager.poll()
    assert root.answer() == (second, "2-b")
    root.decide(pinned=first)
    root.manager.poll()
    assert root.answer() == (first, "1-b")
    third = root.publish()
    root.manager.poll()
    assert list(root.current.served.retrievers) == [first]
    root.decide(labels={"stable": first, "canary": third}, traffic={"stable": 92, "canary": 8})
    root.manager.poll()
    # alice is in bucket 7 of 100, and canary has the first eight.
    assert root.answer() == (third, "3-b")
    assert root.current.served.assign("bob")[0] == "stable"
    assert root.current.served.find("tiny", label="canary").manifest.version == third
    # With this salt she is in bucket 70.
    root.decide(labels={"stable": first, "canary": third}, traffic={"stable": 92, "canary": 8}, salt="autumn")
    root.manager.poll()
    assert root.answer() == (first, "1-b")
    root.decide(labels={"stable": first, "canary": third}, traffic={"stable": 93, "canary": 7})
    root.manager.poll()
    assert root.answer() == (first, "1-b")


def test_label_on_a_broken_release(root: Root, caplog: pytest.LogCaptureFixture) -> None:
    first, second = root.publish(), root.publish()
    truncate(root.folder / str(first))
    root.decide(labels={"stable": first}, traffic={"stable": 100})
    with caplog.at_level(logging.ERROR):
        root.manager.poll()
        root.manager.poll()
    assert root.answer() == (second, "2-b")
    told = [record.getMessage() for record in caplog.records if record.name == "serving.manager"]
    assert told[1:] == [f"label 'stable' names version {first}, which cannot be served"]


@pytest.mark.parametrize("content", ["{", '{"pinned": 5, "pinnned": 5}'])
def test_broken_state_leaves_what_was_decided(root: Root, caplog: pytest.LogCaptureFixture, content: str) -> None:
    first = root.publish()
    root.publish()
    root.decide(pinned=first)
    root.manager.poll()
    (root.folder / "state.json").write_text(content)
    with caplog.at_level(logging.ERROR):
        root.manager.poll()
        root.manager.poll()
    assert root.answer() == (first, "1-b")
    (told,) = errors(caplog)
    assert told.startswith(f"{root.folder / 'state.json'}: ")
    assert told.endswith("; what was decided before still holds")
    third = root.publish()
    (root.folder / "state.json").unlink()
    root.manager.poll()
    assert root.answer() == (third, "3-b")


@pytest.mark.parametrize("policy", [VersionPolicy(num_versions=2), VersionPolicy(kind="all")])
def test_several_versions(tmp_path: Path, model: Path, policy: VersionPolicy) -> None:
    root = Root(tmp_path, model, policy)
    versions = [root.publish(), root.publish()]
    root.manager.poll()
    versions.append(root.publish())
    root.manager.poll()
    assert sorted(root.current.served.retrievers) == versions[-2 if policy.kind == "latest" else 0 :]
    assert root.answer() == (versions[2], "3-b")


def test_folder_that_vanishes(root: Root, caplog: pytest.LogCaptureFixture) -> None:
    first, second = root.publish(), root.publish()
    root.manager.poll()
    shutil.rmtree(root.folder / str(second))
    root.manager.poll()
    assert root.answer() == (first, "1-b")
    root.folder.rename(root.work / "away")
    with caplog.at_level(logging.ERROR):
        root.manager.poll()
    assert root.answer() == (first, "1-b")
    assert f"there is no release in {root.folder}" in caplog.text
    (root.work / "away").rename(root.folder)
    third = root.publish()
    root.manager.poll()
    assert root.answer() == (third, "3-b")


class TestStart:
    def start(self, root: Root) -> int:
        try:
            return root.manager.start()
        finally:
            root.manager.stop()

    def test_newest_whole_release_of_the_model(self, root: Root, caplog: pytest.LogCaptureFixture) -> None:
        first, second = root.publish(), root.publish()
        third = root.publish(model_name="other")
        truncate(root.folder / str(second))
        (root.folder / str(third + 1)).mkdir()
        with caplog.at_level(logging.ERROR):
            assert self.start(root) == first
        told = [record.getMessage().split(":")[0] for record in caplog.records if record.name == "serving.manager"]
        assert told == [f"release {version} is refused" for version in (third + 1, third, second)]

    def test_pinned_release(self, root: Root) -> None:
        first = root.publish()
        root.publish()
        root.decide(pinned=first)
        assert self.start(root) == first

    def test_pinned_release_that_is_broken_makes_room_for_an_older_one(self, root: Root) -> None:
        first, second = root.publish(), root.publish()
        root.publish()
        truncate(root.folder / str(second))
        root.decide(pinned=second)
        assert self.start(root) == first

    def test_nothing_to_serve(self, root: Root) -> None:
        with pytest.raises(ReleaseError, match=f"^there is no release in {root.folder}$"):
            self.start(root)
        truncate(root.folder / str(root.publish()))
        with pytest.raises(ReleaseError, match=f"^none of the 1 releases in {root.folder} can be served as 'tiny'$"):
            self.start(root)

    def test_nothing_that_the_pin_allows(self, root: Root) -> None:
        root.publish()
        root.decide(pinned=1)
        with pytest.raises(ReleaseError, match="can be served as 'tiny' with version 1 pinned"):
            self.start(root)

    def test_broken_state(self, root: Root) -> None:
        root.publish()
        (root.folder / "state.json").write_text("{")
        with pytest.raises(ReleaseError, match=r"state\.json: Invalid JSON"):
            self.start(root)
