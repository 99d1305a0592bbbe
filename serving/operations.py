"""What an operator does with the releases of a root. It changes files; the servers follow. Imports no TensorFlow."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
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
    manifest: Manifest | None  # None if the release is broken
    problem: str  # what is broken about it, else ""
    labels: tuple[str, ...]
    share: int  # percent of the traffic that its labels have
    pinned: bool
    serving: bool  # answers the requests that name no release, for as long as the traffic is not split


def list_releases(root: Path, policy: VersionPolicy) -> list[ReleaseRow]:
    """The releases of a root, oldest first, each read and checked as a whole.

    Raises:
      ReleaseError: the state file is broken.
    """
    state, versions = read_state(root), list_versions(root)
    checked = {version: _check(root, version) for version in versions}
    broken = {version for version, (manifest, _) in checked.items() if manifest is None}
    newest = select(versions, policy, state, broken).newest
    rows = []
    for version in versions:
        labels = tuple(sorted(label for label, labelled in state.labels.items() if labelled == version))
        rows.append(
            ReleaseRow(
                version,
                *checked[version],
                labels=labels,
                share=sum(state.traffic.get(label, 0) for label in labels),
                pinned=version == state.pinned,
                serving=version == newest,
            )
        )
    return rows


def promote(root: Path, policy: VersionPolicy, version: int) -> ServingState:
    """Has a version answer all requests that name none: pins it, unless it would answer without a pin.

    Raises:
      ReleaseError: there is no such release, it is broken, or the state cannot be changed.
    """

    def change(state: ServingState) -> ServingState:
        _require_whole(root, version)
        unpinned = state.replace(pinned=None, traffic={})
        if select(list_versions(root), policy, unpinned, ()).newest == version:
            return unpinned
        return unpinned.replace(pinned=version)

    return change_state(_existing(root), change)


def follow_newest(root: Path) -> ServingState:
    """Ends the pin and the split of the traffic: the newest release answers, and each newer one after it."""
    return change_state(_existing(root), lambda state: state.replace(pinned=None, traffic={}))


def put_label(
    root: Path, label: str, version: int, traffic: Mapping[str, int] | None, salt: str | None = None
) -> ServingState:
    """Gives a label a version, and splits the traffic anew where `traffic` is not None, as `split_traffic` does.

    Raises:
      ReleaseError: there is no such release, it is broken, or label and traffic do not fit together.
    """

    def change(state: ServingState) -> ServingState:
        _require_whole(root, version)
        labelled = state.replace(labels={**state.labels, label: version})
        return labelled if traffic is None else _split(labelled, traffic, salt)

    return change_state(_existing(root), change)


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
      to: the version; None for the newest whole one before the version now served, or where the traffic is split
        before the newest version that has a share of it.

    Raises:
      ReleaseError: there is no such release, it is broken, or the state cannot be changed.
    """

    def change(state: ServingState) -> ServingState:
        if to is not None:
            _require_whole(root, to)
            return state.replace(pinned=to, traffic={})
        served = max((state.labels[label] for label in state.traffic), default=None) or _serving(root, policy, state)
        before = _newest_whole(root, [version for version in list_versions(root) if version < served])
        if before is None:
            raise ReleaseError(f"there is no whole release before version {served} in {root}")
        return state.replace(pinned=before, traffic={})

    return change_state(_existing(root), change)


def prune(root: Path, policy: VersionPolicy, keep: int) -> list[int]:
    """Removes old releases.

    Args:
      root: folder of the releases.
      policy: the configuration's.
      keep: so many of the newest stay, at least 1. So do what is pinned, labelled, served and loaded by the policies
        "latest" and "specific", and the newest whole release before the one served.

    Returns:
      The versions removed, oldest first.

    Raises:
      ReleaseError: none of the releases is whole, or one cannot be removed.
    """
    with locked(_existing(root)):
        state, versions = read_state(root), list_versions(root)
        served = _serving(root, policy, state)
        stays = {*versions[-keep:], served, state.pinned, *state.labels.values()}
        stays.add(_newest_whole(root, [version for version in versions if version < served]))
        if (state.policy or policy).kind != "all":
            stays.update(select(versions, policy, state, ()).versions)
        removed = [version for version in versions if version not in stays]
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


def _require_whole(root: Path, version: int) -> None:
    versions = list_versions(root)
    if version not in versions:
        raise ReleaseError(f"there is no release {version} in {root}; there is: {', '.join(map(str, versions))}")
    verify_release(root / str(version))


def _newest_whole(root: Path, versions: Iterable[int]) -> int | None:
    return next((version for version in sorted(versions, reverse=True) if _check(root, version)[0]), None)


def _split(state: ServingState, traffic: Mapping[str, int], salt: str | None) -> ServingState:
    return state.replace(traffic=dict(traffic), salt=state.salt if salt is None else salt)


def _serving(root: Path, policy: VersionPolicy, state: ServingState) -> int:
    """The version that answers where the traffic is not split, as far as the files tell."""
    versions, broken = list_versions(root), set[int]()
    while (newest := select(versions, policy, state, broken).newest) is not None:
        if _check(root, newest)[0]:
            return newest
        broken.add(newest)
    raise ReleaseError(f"none of the {len(versions)} releases in {root} is whole and can be served")
