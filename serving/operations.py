"""What an operator does with the releases of a root. It changes files; the servers follow.

Which release answers follows from the folder, the state and whether a release passes the canary, for a server just as
here: so what must know it tries the releases as a server would, the tower in this process. That imports TensorFlow, and
nothing else here does. It is done before the root's lock is taken, for which servers and the pipeline may be waiting.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

from serving.config import VersionPolicy
from serving.release import Manifest, ReleaseError, list_versions, locked, remove_release, verify_release
from serving.state import ServingState, change_state, read_state
from serving.versions import select


@dataclass(frozen=True)
class ReleaseRow:
    """One release on disk and what was decided about it."""

    version: int
    manifest: Manifest | None  # None if a file is missing or changed
    problem: str  # why a server would refuse it, as far as it was tried; else ""
    labels: tuple[str, ...]
    share: int  # percent of the traffic that its labels have
    pinned: bool
    serving: bool  # answers the requests that name no release, for as long as the traffic is not split


def list_releases(root: Path, policy: VersionPolicy) -> list[ReleaseRow]:
    """The releases of a root, oldest first: the files of each checked, and tried from the newest on until one answers.

    Raises:
      ReleaseError: the state file is broken.
    """
    state, versions, trials = read_state(root), list_versions(root), _Trials(root)
    checked = {version: _check(root, version) for version in versions}
    trials.problems.update({version: problem for version, (manifest, problem) in checked.items() if manifest is None})
    served = trials.served(policy, state)
    rows = []
    for version in versions:
        labels = tuple(sorted(label for label, labelled in state.labels.items() if labelled == version))
        rows.append(
            ReleaseRow(
                version,
                checked[version][0],
                trials.problems.get(version, ""),
                labels=labels,
                share=sum(state.traffic.get(label, 0) for label in labels),
                pinned=version == state.pinned,
                serving=version == served,
            )
        )
    return rows


def promote(root: Path, policy: VersionPolicy, version: int) -> ServingState:
    """Has a version answer all requests that name none: pins it, unless it would answer without a pin.

    Raises:
      ReleaseError: there is no such release, a server would refuse it, or the state cannot be changed.
    """
    trials = _Trials(root)

    def change(state: ServingState) -> ServingState:
        trials.require(version)
        unpinned = state.replace(pinned=None, traffic={})
        if select(list_versions(root), policy, unpinned, ()).newest == version:
            return unpinned
        return unpinned.replace(pinned=version)

    return _change_after_trials(root, change)


def follow_newest(root: Path) -> ServingState:
    """Ends the pin and the split of the traffic: the newest release answers, and each newer one after it."""
    return change_state(_existing(root), lambda state: state.replace(pinned=None, traffic={}))


def put_label(
    root: Path, label: str, version: int, traffic: Mapping[str, int] | None, salt: str | None = None
) -> ServingState:
    """Gives a label a version, and splits the traffic anew where `traffic` is not None, as `split_traffic` does.

    Raises:
      ReleaseError: there is no such release, a server would refuse it, or label and traffic do not fit together.
    """
    trials = _Trials(root)

    def change(state: ServingState) -> ServingState:
        trials.require(version)
        labelled = state.replace(labels={**state.labels, label: version})
        return labelled if traffic is None else _split(labelled, traffic, salt)

    return _change_after_trials(root, change)


def remove_label(root: Path, label: str) -> ServingState:
    """Takes a label away.

    Raises:
      ReleaseError: there is no such label, or it has a share of the traffic.
    """

    def change(state: ServingState) -> ServingState:
        if label not in state.labels:
            raise ReleaseError(f"there is no label {label!r}; there is: {', '.join(sorted(state.labels)) or 'none'}")
        if label in state.traffic:
            raise ReleaseError(
                f"label {label!r} has {state.traffic[label]} percent of the traffic: split it anew first"
            )
        return state.replace(labels={name: version for name, version in state.labels.items() if name != label})

    return change_state(_existing(root), change)


def split_traffic(root: Path, traffic: Mapping[str, int], salt: str | None = None) -> ServingState:
    """Splits the requests that name no release among labels.

    Args:
      root: folder of the releases.
      traffic: label -> percent.
      salt: deals the queries to the shares; None for the one there was.

    Raises:
      ReleaseError: a label has no version, the shares do not add up to 100, or the salt is no word.
    """
    return change_state(_existing(root), lambda state: _split(state, traffic, salt))


def rollback(root: Path, policy: VersionPolicy, to: int | None = None) -> ServingState:
    """Pins an earlier release and ends the split of the traffic.

    Args:
      root: folder of the releases.
      policy: the configuration's.
      to: the version; None for the newest that a server takes before the version now served, or where the traffic is
        split before the newest version that has a share of it.

    Raises:
      ReleaseError: there is no such release, a server would refuse it, or the state cannot be changed.
    """
    trials = _Trials(root)

    def change(state: ServingState) -> ServingState:
        if to is not None:
            trials.require(to)
            return state.replace(pinned=to, traffic={})
        shared = max((state.labels[label] for label in state.traffic), default=None)
        served = shared or trials.must_serve(policy, state)
        before = trials.newest_before(served)
        if before is None:
            raise ReleaseError(f"there is no release that can be served before version {served} in {root}")
        return state.replace(pinned=before, traffic={})

    return _change_after_trials(root, change)


def prune(root: Path, policy: VersionPolicy, keep: int) -> list[int]:
    """Removes old releases.

    Args:
      root: folder of the releases.
      policy: the configuration's.
      keep: so many of the newest stay, at least 1. So do what is pinned, labelled, served and loaded by the policies
        "latest" and "specific", and the newest before the one served that a server takes.

    Returns:
      The versions removed, oldest first.

    Raises:
      ReleaseError: none of the releases can be served, or one cannot be removed.
    """
    trials = _Trials(_existing(root))

    def find_removable() -> list[int]:
        state = read_state(root)
        served = trials.must_serve(policy, state)
        stays = {*trials.versions[-keep:], served, state.pinned, *state.labels.values(), trials.newest_before(served)}
        if (state.policy or policy).kind != "all":
            stays.update(trials.loaded(policy, state))
        return [version for version in trials.versions if version not in stays]

    find_removable()
    with locked(root):
        present = list_versions(root)
        removed = [version for version in find_removable() if version in present]
        for version in removed:
            try:
                remove_release(root, version)
            except OSError as error:
                raise ReleaseError(f"{root / str(version)}: cannot be removed: {error.strerror}") from error
    return removed


def _existing(root: Path) -> Path:
    if not list_versions(root):
        raise ReleaseError(f"there is no release in {root}")
    return root


def _check(root: Path, version: int) -> tuple[Manifest | None, str]:
    try:
        return verify_release(root / str(version)), ""
    except ReleaseError as error:
        return None, str(error)


def _change_after_trials(root: Path, change: Callable[[ServingState], ServingState]) -> ServingState:
    change(read_state(_existing(root)))
    return change_state(root, change)


def _split(state: ServingState, traffic: Mapping[str, int], salt: str | None) -> ServingState:
    return state.replace(traffic=dict(traffic), salt=state.salt if salt is None else salt)


class _Trials:
    """Which releases of a root a server would refuse; each is tried once, and only where it matters."""

    def __init__(self, root: Path) -> None:
        self.versions = list_versions(root)  # those there are now; what is published later is not looked at
        self.problems: dict[int, str] = {}  # version -> why it is refused
        self._root, self._passed = root, set[int]()

    def require(self, version: int) -> None:
        """Raises ReleaseError if there is no such release any more, or a server would refuse it."""
        present = list_versions(self._root)
        if version not in present:
            there = ", ".join(map(str, present))
            raise ReleaseError(f"there is no release {version} in {self._root}; there is: {there}")
        if not self._passes(version):
            raise ReleaseError(self.problems[version])

    def served(self, policy: VersionPolicy, state: ServingState) -> int | None:
        """The version that answers where the traffic is not split."""
        while True:
            newest = select(self.versions, policy, state, self.problems).newest
            if newest is None or self._passes(newest):
                return newest

    def must_serve(self, policy: VersionPolicy, state: ServingState) -> int:
        served = self.served(policy, state)
        if served is None:
            first = next(iter(self.problems.values()), "the version policy has none of them")
            raise ReleaseError(f"none of the {len(self.versions)} releases in {self._root} can be served: {first}")
        return served

    def loaded(self, policy: VersionPolicy, state: ServingState) -> tuple[int, ...]:
        """All versions that a server has loaded."""
        while True:
            versions = select(self.versions, policy, state, self.problems).versions
            if all(self._passes(version) for version in versions):
                return versions

    def newest_before(self, version: int) -> int | None:
        return next((older for older in reversed(self.versions) if older < version and self._passes(older)), None)

    def _passes(self, version: int) -> bool:
        from serving import canary

        if version not in self._passed and version not in self.problems:
            try:
                canary.try_release(self._root / str(version))
            except ReleaseError as error:
                self.problems[version] = str(error)
            else:
                self._passed.add(version)
        return version in self._passed
