"""Which of the releases on disk are loaded, and which one answers. Imports no TensorFlow."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass

from serving.config import VersionPolicy
from serving.state import ServingState


@dataclass(frozen=True)
class Selection:
    """What ought to be loaded."""

    newest: int | None  # answers the requests that name no version, where no label has a share of them
    versions: tuple[int, ...]  # all of them, in the order they are loaded: `newest` first


def select(versions: Sequence[int], policy: VersionPolicy, state: ServingState, refused: Collection[int]) -> Selection:
    """The releases that the policy, the pin and the labels ask for.

    A refused release counts as absent, so that an older one answers in its place. A pin hides what is newer from the
    policy "latest"; with the others it only moves `newest`. A labelled release is loaded in any case, but does not
    become `newest` by that.

    Args:
      versions: on disk, oldest first.
      policy: the configuration's; the state's own comes before it.
      state: the operators' decisions.
      refused: versions that cannot be served.
    """
    policy = state.policy or policy
    usable = [version for version in versions if version not in refused]
    reachable = [version for version in usable if state.pinned is None or version <= state.pinned]
    if policy.kind == "latest":
        chosen = reachable[-policy.num_versions :]
    elif policy.kind == "specific":
        chosen = [version for version in usable if version in policy.versions]
    else:
        chosen = usable
    newest = max(chosen if state.pinned is None else reachable, default=None)
    wanted = {*chosen, *(version for version in state.labels.values() if version in usable)}
    if newest is not None:
        wanted.add(newest)
    return Selection(newest, tuple(sorted(wanted, key=lambda version: (version != newest, -version))))
