"""Which releases are loaded, refused and tried again, and which are waited for. `poll` is called by hand."""

import json
import logging
import math
import os
import pickle
import shutil
import threading
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace

import grpc
import numpy as np
import pytest
import tensorflow as tf

from serving import loading, release
from serving.config import TowerConfig, VersionPolicy
from serving.loading import DATA_LOSS, HINT, UNKNOWN
from serving.manager import Manager
from serving.release import ReleaseError
from serving.served import VersionState, VersionStatus
from serving.status import RequestError
from tests.unit.serving import tiny
from tests.unit.serving.roots import AVAILABLE, END, Root, errors, truncate

UNAVAILABLE = 14  # google.rpc.Code


def sign(folder: Path) -> None:
    """Makes a changed release's manifest fit its files again: damage from before it was written."""
    manifest = release.Manifest.model_validate_json((folder / "release.json").read_bytes())
    files = {n: release._digest(p) for n, p in release._regular_files(folder) if n != "release.json"}
    fingerprint = release._release_fingerprint(manifest.model_name, manifest.features, files)
    changed = manifest.model_copy(update={"files": files, "fingerprint": fingerprint})
    (folder / "release.json").write_text(changed.model_dump_json())


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


def test_release_that_breaks_a_library_does_not_end_the_watching(root: Root, monkeypatch: pytest.MonkeyPatch) -> None:
    first = root.publish()
    root.manager.poll()
    second = root.publish()

    def fails(*arguments: object) -> None:
        raise MemoryError("too much")

    monkeypatch.setattr(loading, "complete_release", fails)
    root.manager.poll()
    assert root.answer() == (first, "1-b")
    assert root.current.statuses[second] == VersionStatus(
        VersionState.END, UNKNOWN, f"{root.folder / str(second)}: MemoryError: too much"
    )


class Towers:
    """Stands in for TensorFlow Serving: a version in `absent` is not there. Time stands still unless it is moved on."""

    def __init__(self, root: Root, monkeypatch: pytest.MonkeyPatch) -> None:
        self.absent = set[int]()
        self.opened: list[int] = []
        self.asked: list[int] = []
        self.seconds = 0.0
        remote = TowerConfig(address="127.0.0.1:1", load_seconds=60.0)
        root.manager = Manager(root.folder, root.current, VersionPolicy(), remote)
        opens, completes = loading.open_release, loading.complete_release

        def open_release(folder: Path, tower: TowerConfig | None) -> object:
            assert tower == remote
            self.opened.append(int(folder.name))
            return opens(folder, None)

        def complete_release(folder: Path, *opened: object) -> object:
            self.asked.append(int(folder.name))
            if self.asked[-1] in self.absent:
                raise ReleaseError("cannot load it") from RequestError(grpc.StatusCode.UNAVAILABLE, "not there")
            return completes(folder, *opened)

        monkeypatch.setattr(loading, "open_release", open_release)
        monkeypatch.setattr(loading, "complete_release", complete_release)
        monkeypatch.setattr(loading, "time", SimpleNamespace(monotonic=lambda: self.seconds))


@pytest.fixture
def towers(root: Root, monkeypatch: pytest.MonkeyPatch) -> Towers:
    return Towers(root, monkeypatch)


class TestRemoteTower:
    def test_is_asked_once_with_each_look_and_the_files_are_read_once(self, root: Root, towers: Towers) -> None:
        first = root.publish()
        root.manager.poll()
        second = root.publish()
        towers.absent.add(second)
        for _ in range(3):
            root.manager.poll()
        assert towers.opened == [first, second]
        assert towers.asked == [first, second, second, second]
        assert root.answer() == (first, "1-b")
        assert root.current.statuses[second] == VersionStatus(VersionState.LOADING)
        towers.absent.clear()
        root.manager.poll()
        assert root.answer() == (second, "2-b")
        assert root.current.statuses[second] == AVAILABLE

    def test_after_load_seconds_it_is_refused_and_still_asked(
        self, root: Root, towers: Towers, caplog: pytest.LogCaptureFixture
    ) -> None:
        first = root.publish()
        root.manager.poll()
        second = root.publish()
        towers.absent.add(second)
        for towers.seconds in (0.0, 59.0):
            root.manager.poll()
            assert root.current.statuses[second].state is VersionState.LOADING
        assert errors(caplog) == []
        for towers.seconds in (60.0, 61.0):
            root.manager.poll()
            message = f"{root.folder / str(second)}: not there; {HINT}"
            assert root.current.statuses[second] == VersionStatus(VersionState.END, UNAVAILABLE, message)
            assert root.answer() == (first, "1-b")
        assert errors(caplog) == [f"release {second} is refused: {message}"]
        towers.absent.clear()
        root.manager.poll()
        assert root.answer() == (second, "2-b")
        assert towers.opened == [first, second]

    def test_decisions_are_followed_meanwhile(self, root: Root, towers: Towers) -> None:
        first = root.publish()
        root.manager.poll()
        towers.absent.add(root.publish())
        root.decide(labels={"stable": first})
        root.manager.poll()
        assert root.current.served.find("tiny", label="stable").manifest.version == first

    def test_what_answered_goes_on_meanwhile(self, root: Root, towers: Towers) -> None:
        """Neither a pin nor a label goes by way of some other release."""
        first, second, third = root.publish(), root.publish(), root.publish()
        root.decide(labels={"canary": third}, traffic={"canary": 100})
        root.manager.poll()
        towers.absent |= {second}
        root.decide(pinned=second, labels={"canary": second, "new": second}, traffic={"canary": 100})
        root.manager.poll()
        assert root.current.served.newest == third
        assert root.current.served.labels == {"canary": third}
        assert root.answer() == (third, "3-b")
        towers.seconds = 60.0
        root.manager.poll()
        assert (root.current.served.newest, root.current.served.labels) == (first, {})
        towers.absent.clear()
        root.manager.poll()
        assert root.current.served.newest == second
        assert root.current.served.labels == {"canary": second, "new": second}

    def test_a_pinned_and_a_labelled_one_that_never_come_are_told_with_the_reason(
        self, root: Root, towers: Towers, caplog: pytest.LogCaptureFixture
    ) -> None:
        first, second, _ = root.publish(), root.publish(), root.publish()
        towers.absent.add(second)
        root.decide(pinned=second, labels={"old": second})
        root.manager.poll()
        towers.seconds = 60.0
        root.manager.poll()
        root.manager.poll()
        why = f"{root.folder / str(second)}: not there; {HINT}"
        assert errors(caplog) == [
            f"release {second} is refused: {why}",
            f"version {second} is pinned, which cannot be served: {why}",
            f"label 'old' names version {second}, which cannot be served: {why}",
        ]
        assert root.answer() == (first, "1-b")

    def test_one_that_is_no_longer_wanted_is_forgotten(self, root: Root, towers: Towers) -> None:
        first, second = root.publish(), root.publish()
        towers.absent.add(second)
        root.decide(pinned=first)
        root.manager.poll()
        root.decide(pinned=first, labels={"canary": second})
        root.manager.poll()
        root.decide(pinned=first)
        root.manager.poll()
        root.manager.poll()
        assert towers.asked == [first, second]
        assert root.current.statuses == {first: AVAILABLE, second: END}

    def test_the_last_request_to_what_was_unloaded_does_not_end_the_waiting(self, root: Root, towers: Towers) -> None:
        first = root.publish()
        root.manager.poll()
        request = root.current.served
        root.publish()
        root.manager.poll()
        towers.absent.add(first)
        root.decide(pinned=first)
        root.manager.poll()
        del request
        root.manager.poll()
        assert root.current.statuses[first] == VersionStatus(VersionState.LOADING)

    def test_the_start_waits_for_the_newest(self, root: Root, towers: Towers, monkeypatch: pytest.MonkeyPatch) -> None:
        first, second = root.publish(), root.publish()
        root.decide(labels={"old": first})  # it is not loaded in vain before
        towers.absent.add(second)

        def pass_seconds(seconds: float) -> bool:
            assert root.current.served.newest is None
            towers.seconds += 30.0
            return towers.seconds > 60.0

        stopped = SimpleNamespace(wait=pass_seconds)
        try:
            assert root.manager.start(stopped) == first  # type: ignore[arg-type]
        finally:
            root.manager.stop()
        assert towers.seconds == 60.0
        assert towers.asked[:4] == [second, second, second, first]

    def test_the_start_can_be_stopped(self, root: Root, towers: Towers) -> None:
        towers.absent.add(root.publish())
        stopped = threading.Event()
        stopped.set()
        with pytest.raises(ReleaseError, match="none of the 1 releases"):
            root.manager.start(stopped)
        assert len(towers.asked) == 1


@pytest.mark.parametrize("spoil", [lambda whole: whole[:-1], lambda whole: whole[:-1] + b"?"], ids=["cut", "changed"])
def test_repaired_release_is_tried_again(root: Root, spoil: Callable[[bytes], bytes]) -> None:
    first = root.publish()
    root.manager.poll()
    second = root.publish()
    path = root.folder / str(second) / "index" / "embeddings.npy"
    whole = path.read_bytes()
    path.write_bytes(spoil(whole))
    os.utime(path, ns=(1, 1))
    root.manager.poll()
    assert root.answer() == (first, "1-b")
    path.write_bytes(whole)
    root.manager.poll()
    assert root.answer() == (second, "2-b")
    assert root.current.statuses[second] == AVAILABLE


def test_nothing_is_read_when_nothing_changed(root: Root, monkeypatch: pytest.MonkeyPatch) -> None:
    root.publish()
    truncate(root.folder / str(root.publish()))
    root.manager.poll()
    served, statuses = root.current.served, root.current.statuses

    def read(*arguments: object) -> None:
        raise AssertionError("a release was read again")

    monkeypatch.setattr(loading, "open_release", read)
    monkeypatch.setattr(release, "_digest", read)
    for _ in range(3):
        root.manager.poll()
    assert root.current.served is served
    assert root.current.statuses is statuses
