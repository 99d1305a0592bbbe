import pytest
from pydantic import ValidationError

from serving.config import VersionPolicy
from serving.state import ServingState
from serving.versions import select

LATEST, TWO, ALL = VersionPolicy(), VersionPolicy(num_versions=2), VersionPolicy(kind="all")
ON_DISK = [3, 5, 8, 13]


def specific(*versions: int) -> VersionPolicy:
    return VersionPolicy(kind="specific", versions=versions)


@pytest.mark.parametrize(
    ("policy", "state", "refused", "newest", "loaded"),
    [
        (LATEST, {}, (), 13, (13,)),
        (LATEST, {}, (13,), 8, (8,)),
        (LATEST, {}, (13, 8, 5, 3), None, ()),
        (TWO, {}, (), 13, (13, 8)),
        (TWO, {}, (8,), 13, (13, 5)),
        (VersionPolicy(num_versions=9), {}, (), 13, (13, 8, 5, 3)),
        (ALL, {}, (5,), 13, (13, 8, 3)),
        (specific(3, 8), {}, (), 8, (8, 3)),
        (specific(3, 8), {}, (8,), 3, (3,)),
        (specific(4), {}, (), None, ()),
        # A pin hides what is newer from the policy latest, and moves the newest of the others.
        (LATEST, {"pinned": 5}, (), 5, (5,)),
        (TWO, {"pinned": 8}, (), 8, (8, 5)),
        (LATEST, {"pinned": 5}, (5,), 3, (3,)),
        (LATEST, {"pinned": 7}, (), 5, (5,)),
        (LATEST, {"pinned": 2}, (), None, ()),
        (ALL, {"pinned": 5}, (), 5, (5, 13, 8, 3)),
        (specific(13), {"pinned": 5}, (), 5, (5, 13)),
        # A label has its version loaded, and does not make it the newest.
        (LATEST, {"labels": {"stable": 3}}, (), 13, (13, 3)),
        (LATEST, {"labels": {"stable": 3, "old": 3, "gone": 4}}, (), 13, (13, 3)),
        (LATEST, {"labels": {"stable": 3}}, (3,), 13, (13,)),
        (specific(5), {"labels": {"canary": 13}}, (), 5, (5, 13)),
        (LATEST, {"pinned": 5, "labels": {"canary": 13}}, (), 5, (5, 13)),
        # The state's policy comes before the configuration's.
        (LATEST, {"policy": ALL}, (), 13, (13, 8, 5, 3)),
    ],
)
def test_selection(
    policy: VersionPolicy, state: dict, refused: tuple[int, ...], newest: int | None, loaded: tuple[int, ...]
) -> None:
    selection = select(ON_DISK, policy, ServingState(**state), refused)
    assert (selection.newest, selection.versions) == (newest, loaded)


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"kind": "specific"}, "the policy specific needs at least one of versions"),
        ({"versions": (1,)}, "versions belong to the policy specific, not to latest"),
        ({"kind": "all", "num_versions": 2}, "num_versions belongs to the policy latest, not to all"),
        ({"num_versions": 0}, "greater than 0"),
    ],
)
def test_policy_that_does_not_fit(values: dict, message: str) -> None:
    with pytest.raises(ValidationError, match=message):
        VersionPolicy(**values)
