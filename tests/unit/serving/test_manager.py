"""Which release answers after each thing that can happen to the folder. `poll` is called by hand."""

import gc
import logging
import math
import shutil
import weakref
from pathlib import Path
from types import SimpleNamespace

import grpc
import pytest

from serving import loading, operations
from serving.config import VersionPolicy
from serving.manager import POLL_SECONDS
from serving.release import ReleaseError
from serving.served import VersionState, VersionStatus
from serving.state import read_state
from serving.status import RequestError
from tests.unit.serving import tiny
from tests.unit.serving.roots import AVAILABLE, END, Root, errors, truncate


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


class TestReload:
    def test_what_cannot_be_served_changes_nothing(self, root: Root) -> None:
        first, second = root.publish(), root.publish()
        truncate(root.folder / str(second))
        root.manager.poll()
        reason = root.current.statuses[second].error_message
        only = VersionPolicy(kind="specific", versions=(second,))
        with pytest.raises(ReleaseError) as raised:
            root.manager.reload(lambda state: state.replace(policy=only))
        assert str(raised.value) == f"none of the specific versions can be served: {second}: {reason}"
        assert not (root.folder / "state.json").exists()
        assert root.answer() == (first, "1-b")
        both = VersionPolicy(kind="specific", versions=(first, second))
        root.manager.reload(lambda state: state.replace(policy=both))
        assert read_state(root.folder).policy == both
        assert root.answer() == (first, "1-b")

    def test_what_is_loaded_for_it_is_loaded_once(self, root: Root, monkeypatch: pytest.MonkeyPatch) -> None:
        first, _ = root.publish(), root.publish()
        root.manager.poll()
        opened, opens = [], loading.open_release
        monkeypatch.setattr(loading, "open_release", lambda *a: opened.append(a[0].name) or opens(*a))
        only = VersionPolicy(kind="specific", versions=(first,))
        root.manager.reload(lambda state: state.replace(policy=only))
        root.manager.poll()
        assert opened == [str(first)]
        assert root.answer() == (first, "1-b")

    def test_state_that_cannot_be_written(self, root: Root, monkeypatch: pytest.MonkeyPatch) -> None:
        first, second = root.publish(), root.publish()
        root.manager.poll()

        def fails(*arguments: object) -> None:
            raise ReleaseError("it cannot be written")

        monkeypatch.setattr("serving.manager.change_state", fails)
        only = VersionPolicy(kind="specific", versions=(first,))
        with pytest.raises(ReleaseError, match="it cannot be written"):
            root.manager.reload(lambda state: state.replace(policy=only))
        root.manager.poll()
        assert root.answer() == (second, "2-b")
        assert root.current.statuses == {first: END, second: AVAILABLE}

    def test_during_a_load(self, root: Root, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr("serving.manager.RELOAD_SECONDS", 0.01)
        root.publish()
        refusals = []

        def load(*arguments: object) -> None:
            with pytest.raises(RequestError) as raised:
                root.manager.reload(lambda state: state)
            refusals.append(raised.value.status)
            raise ReleaseError("broken")

        monkeypatch.setattr(loading, "open_release", load)
        root.manager.poll()
        assert refusals == [grpc.StatusCode.UNAVAILABLE]


def test_looks_often_enough(root: Root, monkeypatch: pytest.MonkeyPatch) -> None:
    """The commands promise two seconds."""
    assert 0 < POLL_SECONDS <= 1.0
    waits = []

    def wait(seconds: float) -> bool:
        waits.append(seconds)
        return len(waits) > 2

    polls = []
    monkeypatch.setattr(root.manager, "_stopped", SimpleNamespace(wait=wait))
    monkeypatch.setattr(root.manager, "poll", lambda: polls.append(len(waits)))
    root.manager._run()
    assert waits == [POLL_SECONDS] * 3
    assert polls == [1, 2]


def test_stop_begins_no_further_load(root: Root, monkeypatch: pytest.MonkeyPatch) -> None:
    first = root.publish()
    root.manager.poll()
    root.publish()
    truncate(root.folder / str(root.publish()))
    opened, opens = [], loading.open_release

    def stop(folder: Path, remote: None) -> object:
        opened.append(folder.name)
        root.manager.stop()
        return opens(folder, remote)

    monkeypatch.setattr(loading, "open_release", stop)
    root.manager.poll()
    assert len(opened) == 1
    assert root.answer() == (first, "1-b")


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
    refusal, told = errors(caplog)
    reason = refusal.removeprefix(f"release {first} is refused: ")
    assert told == f"label 'stable' names version {first}, which cannot be served: {reason}"


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
        told = [message.split(":")[0] for message in errors(caplog)]
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
