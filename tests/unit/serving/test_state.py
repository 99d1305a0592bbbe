import os
from pathlib import Path

import pytest

from serving.config import VersionPolicy
from serving.release import ReleaseError
from serving.state import ServingState, change_state, read_state


def test_no_file_is_no_decision(tmp_path: Path) -> None:
    assert read_state(tmp_path) == ServingState()


def test_what_is_written_is_read(tmp_path: Path) -> None:
    state = ServingState(
        pinned=7,
        labels={"stable": 7, "canary-2.1": 9},
        traffic={"stable": 99, "canary-2.1": 1},
        salt="autumn-2",
        policy=VersionPolicy(kind="specific", versions=(7, 9)),
    )
    assert change_state(tmp_path, lambda _: state) == state
    assert read_state(tmp_path) == state
    changed = change_state(tmp_path, lambda before: before.replace(pinned=None))
    assert changed == read_state(tmp_path) == ServingState(**{**dict(state), "pinned": None})
    assert sorted(path.name for path in tmp_path.iterdir()) == [".lock", "state.json"]


def test_a_reader_never_sees_half_a_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    before = change_state(tmp_path, lambda state: state.replace(pinned=1))

    def killed(descriptor: int) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(os, "fsync", killed)
    with pytest.raises(KeyboardInterrupt):
        change_state(tmp_path, lambda state: state.replace(pinned=2))
    assert read_state(tmp_path) == before


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("", "Invalid JSON"),
        ("{", "Invalid JSON"),
        ("[]", "Input should be an object"),
        ('{"pin": 1}', "pin: Extra inputs are not permitted"),
        ('{"pinned": "1"}', "pinned: Input should be a valid integer"),
        ('{"pinned": 0}', "pinned: Input should be greater than 0"),
        ('{"labels": {"": 1}}', "labels..*: String should match pattern"),
        ('{"labels": {"a b": 1}}', "labels.a b.*: String should match pattern"),
        ('{"traffic": {"a": 100}}', "label 'a' has a share of the traffic, but no version"),
        (
            '{"labels": {"a": 1, "b": 2}, "traffic": {"a": 90, "b": 9}}',
            "the shares of the traffic add up to 99 percent, not to 100",
        ),
        ('{"labels": {"a": 1}, "traffic": {"a": 101}}', "traffic.a: Input should be less than or equal to 100"),
        ('{"policy": {"kind": "specific"}}', "policy: the policy specific needs at least one of versions"),
    ],
)
def test_broken_file(tmp_path: Path, content: str, message: str) -> None:
    (tmp_path / "state.json").write_text(content)
    with pytest.raises(ReleaseError, match=message) as raised:
        read_state(tmp_path)
    assert str(raised.value).startswith(f"{tmp_path / 'state.json'}: ")
    assert "\n" not in str(raised.value)
    with pytest.raises(ReleaseError, match=message):
        change_state(tmp_path, lambda state: state.replace(pinned=1))
    assert (tmp_path / "state.json").read_text() == content


def test_change_that_does_not_fit(tmp_path: Path) -> None:
    with pytest.raises(ReleaseError, match=r"^label 'a' has a share of the traffic, but no version$"):
        change_state(tmp_path, lambda state: state.replace(traffic={"a": 100}))
    assert not (tmp_path / "state.json").exists()


def test_root_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(ReleaseError, match=r"state\.json: cannot be written: No such file or directory"):
        change_state(tmp_path / "absent", lambda state: state)


def test_state_that_cannot_be_read(tmp_path: Path) -> None:
    (tmp_path / "state.json").mkdir()
    with pytest.raises(ReleaseError, match=r"state\.json: cannot be read: Is a directory"):
        read_state(tmp_path)
