"""What the commands do to files. The models are none: a stand-in for the canary says which ones a server refuses."""

import fcntl
from pathlib import Path

import pytest

from serving import operations
from serving.config import VersionPolicy
from serving.release import LOCK, ReleaseError, folder_fingerprint, list_versions, verify_release, write_release
from serving.state import ServingState, change_state, read_state
from tests.unit.serving.tiny import SPEC, save_index

LATEST = VersionPolicy()


@pytest.fixture(scope="module")
def parts(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    folder = tmp_path_factory.mktemp("parts")
    (folder / "model").mkdir()
    (folder / "model" / "saved_model.pb").write_text("a model")
    return folder / "model", save_index(folder / "index", folder_fingerprint(folder / "model"), {"a": [1, 2]})


@pytest.fixture(autouse=True)
def refused(monkeypatch: pytest.MonkeyPatch) -> set[int]:
    """Versions that are whole and fail the canary: to be filled by the test."""
    versions = set[int]()

    def try_release(folder: Path) -> None:
        with (folder.parent / LOCK).open("w") as lock:  # nobody has it: others would wait for as long as a load takes
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        if verify_release(folder).version in versions:
            raise ReleaseError(f"{folder}: embeds NaN")

    monkeypatch.setattr("serving.canary.try_release", try_release)
    return versions


@pytest.fixture
def root(tmp_path: Path, parts: tuple[Path, Path]) -> Path:
    """Five releases."""
    for n in range(5):
        publish(tmp_path, parts, n)
    return tmp_path


def publish(root: Path, parts: tuple[Path, Path], n: int) -> int:
    model, index = parts
    return write_release(root, model_name="m", features=SPEC, model=model, index=index, queries=[(b"%d" % n, b"")])


def damage(root: Path, *versions: int) -> None:
    for version in versions:
        (root / str(version) / "saved_model.pb").write_text("damaged")


def decide(root: Path, **values: object) -> None:
    change_state(root, lambda state: ServingState(**values))


class TestPromote:
    def test_an_older_one_is_pinned(self, root: Path) -> None:
        versions = list_versions(root)
        decide(root, pinned=versions[0], labels={"a": versions[1]}, traffic={"a": 100})
        operations.promote(root, LATEST, versions[2])
        assert read_state(root) == ServingState(pinned=versions[2], labels={"a": versions[1]})

    def test_the_newest_is_followed(self, root: Path) -> None:
        versions = list_versions(root)
        decide(root, pinned=versions[0])
        operations.promote(root, LATEST, versions[4])
        assert read_state(root) == ServingState()

    def test_the_newest_is_pinned_where_the_policy_would_not_have_it(self, root: Path) -> None:
        versions = list_versions(root)
        policy = VersionPolicy(kind="specific", versions=(versions[1], versions[2]))
        assert operations.promote(root, policy, versions[4]).pinned == versions[4]
        assert operations.promote(root, policy, versions[2]).pinned is None

    def test_broken_and_absent_ones_are_refused(self, root: Path) -> None:
        versions = list_versions(root)
        damage(root, versions[2])
        with pytest.raises(ReleaseError, match=rf"{versions[2]}/saved_model\.pb: its content has changed"):
            operations.promote(root, LATEST, versions[2])
        with pytest.raises(ReleaseError, match=f"there is no release 7 in .*; there is: {versions[0]}, {versions[1]}"):
            operations.promote(root, LATEST, 7)
        assert read_state(root) == ServingState()

    def test_what_a_server_refuses_is_refused(self, root: Path, refused: set[int]) -> None:
        versions = list_versions(root)
        refused.add(versions[2])
        for operation in (
            lambda: operations.promote(root, LATEST, versions[2]),
            lambda: operations.put_label(root, "a", versions[2], None),
            lambda: operations.rollback(root, LATEST, to=versions[2]),
        ):
            with pytest.raises(ReleaseError, match=f"/{versions[2]}: embeds NaN"):
                operation()
        assert read_state(root) == ServingState()

    def test_following_the_newest(self, root: Path) -> None:
        first = list_versions(root)[0]
        decide(root, pinned=first, labels={"a": first}, traffic={"a": 100})
        assert operations.follow_newest(root) == ServingState(labels={"a": first})


class TestLabels:
    def test_label_and_split(self, root: Path) -> None:
        versions = list_versions(root)
        operations.put_label(root, "stable", versions[0], None)
        operations.put_label(root, "canary", versions[4], {"stable": 90, "canary": 10})
        labels = {"stable": versions[0], "canary": versions[4]}
        assert read_state(root) == ServingState(labels=labels, traffic={"stable": 90, "canary": 10})
        operations.split_traffic(root, {"stable": 50, "canary": 50})
        # A label takes its share along.
        operations.put_label(root, "stable", versions[1], None)
        expected = {"stable": versions[1], "canary": versions[4]}
        assert read_state(root) == ServingState(labels=expected, traffic={"stable": 50, "canary": 50})

    def test_a_salt_stays_until_there_is_another(self, root: Path) -> None:
        version = list_versions(root)[0]
        assert operations.put_label(root, "a", version, {"a": 100}, "autumn").salt == "autumn"
        assert operations.put_label(root, "b", version, None).salt == "autumn"
        assert operations.split_traffic(root, {"a": 50, "b": 50}).salt == "autumn"
        assert operations.follow_newest(root).salt == "autumn"
        assert operations.split_traffic(root, {"a": 50, "b": 50}, "winter").salt == "winter"
        assert operations.split_traffic(root, {"a": 50, "b": 50}, "").salt == ""

    def test_label_is_removed(self, root: Path) -> None:
        versions = list_versions(root)
        decide(root, labels={"a": versions[0], "b": versions[1]}, traffic={"a": 100})
        assert operations.remove_label(root, "b").labels == {"a": versions[0]}
        with pytest.raises(ReleaseError, match="label 'a' has 100 percent of the traffic"):
            operations.remove_label(root, "a")
        with pytest.raises(ReleaseError, match="there is no label 'b'; there is: a"):
            operations.remove_label(root, "b")

    def test_refusals(self, root: Path) -> None:
        versions = list_versions(root)
        damage(root, versions[0])
        with pytest.raises(ReleaseError, match=r"saved_model\.pb"):
            operations.put_label(root, "stable", versions[0], None)
        with pytest.raises(ReleaseError, match="add up to 90 percent, not to 100"):
            operations.put_label(root, "stable", versions[1], {"stable": 90})
        with pytest.raises(ReleaseError, match="label 'x' has a share of the traffic, but no version"):
            operations.split_traffic(root, {"x": 100})
        decide(root, labels={"a": versions[1]})
        with pytest.raises(ReleaseError, match="salt: String should match pattern"):
            operations.split_traffic(root, {"a": 100}, "two words")
        decide(root, labels={})
        assert read_state(root) == ServingState()


class TestRollback:
    def test_goes_one_back_each_time_and_pins(self, root: Path, parts: tuple[Path, Path]) -> None:
        versions = list_versions(root)
        assert operations.rollback(root, LATEST).pinned == versions[3]
        # A push does not undo it.
        publish(root, parts, 9)
        assert operations.rollback(root, LATEST).pinned == versions[2]

    def test_passes_over_broken_ones(self, root: Path) -> None:
        versions = list_versions(root)
        damage(root, versions[2], versions[4])
        # The newest is broken, so the one before it is served; and the one before that is broken too.
        assert operations.rollback(root, LATEST).pinned == versions[1]

    def test_passes_over_those_that_a_server_refuses(self, root: Path, refused: set[int]) -> None:
        versions = list_versions(root)
        refused |= {versions[1], versions[3], versions[4]}
        assert operations.rollback(root, LATEST).pinned == versions[0]  # versions[2] answers

    def test_from_the_newest_with_a_share_of_the_traffic(self, root: Path) -> None:
        versions = list_versions(root)
        labels = {"stable": versions[1], "canary": versions[3]}
        decide(root, labels=labels, traffic={"stable": 90, "canary": 10})
        assert operations.rollback(root, LATEST) == ServingState(pinned=versions[2], labels=labels)

    def test_to_a_version(self, root: Path) -> None:
        versions = list_versions(root)
        assert operations.rollback(root, LATEST, to=versions[1]).pinned == versions[1]
        damage(root, versions[0])
        with pytest.raises(ReleaseError, match=r"saved_model\.pb"):
            operations.rollback(root, LATEST, to=versions[0])
        assert read_state(root).pinned == versions[1]

    def test_from_what_a_specific_policy_serves(self, root: Path) -> None:
        versions = list_versions(root)
        policy = VersionPolicy(kind="specific", versions=(versions[2],))
        assert operations.rollback(root, policy).pinned == versions[1]

    def test_nothing_before(self, root: Path) -> None:
        versions = list_versions(root)
        decide(root, pinned=versions[0])
        with pytest.raises(
            ReleaseError, match=f"there is no release that can be served before version {versions[0]} in"
        ):
            operations.rollback(root, LATEST)


class TestPrune:
    def test_keeps_the_newest(self, root: Path) -> None:
        versions = list_versions(root)
        assert operations.prune(root, LATEST, 3) == versions[:2]
        assert list_versions(root) == versions[2:]
        assert operations.prune(root, LATEST, 3) == []
        assert sorted(path.name for path in root.iterdir()) == [".lock", *map(str, versions[2:])]

    def test_keeps_the_served_and_the_one_before(self, root: Path) -> None:
        versions = list_versions(root)
        damage(root, versions[3], versions[4])
        assert operations.prune(root, LATEST, 1) == [versions[0], versions[3]]
        assert list_versions(root) == [versions[1], versions[2], versions[4]]

    def test_keeps_what_a_server_falls_back_to(self, root: Path, refused: set[int]) -> None:
        versions = list_versions(root)
        refused |= {versions[1], versions[3], versions[4]}
        # versions[2] answers, versions[0] is what a rollback would find.
        assert operations.prune(root, LATEST, 1) == [versions[1], versions[3]]
        refused |= {versions[0], versions[2]}
        with pytest.raises(
            ReleaseError, match=f"none of the 3 releases in .* can be served: .*/{versions[4]}: embeds NaN"
        ):
            operations.prune(root, LATEST, 1)
        assert list_versions(root) == [versions[0], versions[2], versions[4]]

    def test_keeps_as_many_as_the_policy_loads_of_those_that_are_not_refused(
        self, root: Path, refused: set[int]
    ) -> None:
        versions = list_versions(root)
        refused |= {versions[2], versions[4]}
        # Loaded are versions[3], [1] and [0].
        assert operations.prune(root, VersionPolicy(num_versions=3), 1) == [versions[2]]

    def test_keeps_the_pinned_and_the_labelled(self, root: Path) -> None:
        versions = list_versions(root)
        decide(root, pinned=versions[2], labels={"old": versions[0]})
        # Before the pinned one is versions[1].
        assert operations.prune(root, LATEST, 1) == [versions[3]]

    @pytest.mark.parametrize("kind", ["latest", "specific"])
    def test_keeps_what_the_policy_loads(self, root: Path, kind: str) -> None:
        versions = list_versions(root)
        latest, specific = VersionPolicy(num_versions=4), VersionPolicy(kind="specific", versions=(versions[1],))
        # Of the specific policy versions[1] is served, versions[0] is before it, versions[4] is the newest.
        removed = versions[:1] if kind == "latest" else versions[2:4]
        assert operations.prune(root, latest if kind == "latest" else specific, 1) == removed

    def test_policy_all_does_not_keep_everything(self, root: Path) -> None:
        versions = list_versions(root)
        assert operations.prune(root, VersionPolicy(kind="all"), 2) == versions[:3]

    def test_nothing_whole(self, root: Path) -> None:
        damage(root, *list_versions(root))
        with pytest.raises(
            ReleaseError, match=r"none of the 5 releases in .* can be served: .*saved_model\.pb: its content"
        ):
            operations.prune(root, LATEST, 1)
        assert len(list_versions(root)) == 5


def test_list(root: Path) -> None:
    versions = list_versions(root)
    damage(root, versions[4])
    labels = {"a": versions[1], "b": versions[1], "c": versions[2]}
    decide(root, pinned=versions[0], labels=labels, traffic={"a": 60, "b": 10, "c": 30})
    rows = operations.list_releases(root, LATEST)
    assert [row.version for row in rows] == versions
    assert [row.labels for row in rows] == [(), ("a", "b"), ("c",), (), ()]
    assert [row.share for row in rows] == [0, 70, 30, 0, 0]
    assert [(row.pinned, row.serving) for row in rows] == [(True, True)] + [(False, False)] * 4
    assert [row.manifest is None for row in rows] == [False] * 4 + [True]
    assert "saved_model.pb" in rows[4].problem
    operations.follow_newest(root)
    assert [row.serving for row in operations.list_releases(root, LATEST)] == [False, False, False, True, False]


def test_list_tells_what_a_server_falls_back_to(root: Path, refused: set[int]) -> None:
    versions = list_versions(root)
    damage(root, versions[3])
    refused |= {versions[1], versions[4]}
    rows = operations.list_releases(root, LATEST)
    assert [row.serving for row in rows] == [False, False, True, False, False]
    # versions[1] need not be tried to tell who answers.
    assert [bool(row.problem) for row in rows] == [False, False, False, True, True]
    assert rows[4].problem == f"{root / str(versions[4])}: embeds NaN"
    assert rows[4].manifest is not None
    refused |= set(versions)
    assert not any(row.serving for row in operations.list_releases(root, LATEST))


def test_root_without_releases(tmp_path: Path) -> None:
    assert operations.list_releases(tmp_path / "absent", LATEST) == []
    for operation in (
        lambda: operations.promote(tmp_path, LATEST, 1),
        lambda: operations.rollback(tmp_path, LATEST),
        lambda: operations.prune(tmp_path, LATEST, 1),
        lambda: operations.follow_newest(tmp_path),
    ):
        with pytest.raises(ReleaseError, match=f"there is no release in {tmp_path}"):
            operation()
    assert list(tmp_path.iterdir()) == []


def test_writer_removes_what_a_killed_change_left(root: Path, parts: tuple[Path, Path]) -> None:
    decide(root, pinned=list_versions(root)[0])
    (root / ".tmp-state.json").write_text("{")
    (root / ".tmp-5-killed").mkdir()
    publish(root, parts, 7)
    names = [path.name for path in root.iterdir()]
    assert [name for name in names if name.startswith(".tmp")] == []
    assert "state.json" in names
