"""Removing the artifacts of old runs."""

from __future__ import annotations

import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pipeline.metadata import Entry, Metadata, entries, pb
from pipeline.run import only_one


@dataclass(frozen=True)
class Cleaned:
    """What was removed, or would be.

    Attributes:
      artifacts: how many.
      bytes: of all their files.
      kept: why each run that stays does, by model or examples.
    """

    artifacts: int
    bytes: int
    kept: dict[str, str]


def _size(folder: Path) -> int:
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())


def _why_kept(history: list[Entry], keep: int, releases: Path) -> dict[int, str]:
    """For each entry's place in the history that stays, why."""
    reasons = dict.fromkeys(range(max(0, len(history) - keep), len(history)), "newest")
    for place, entry in enumerate(history):
        if entry.version is not None and (releases / str(entry.version)).is_dir():
            reasons[place] = f"release {entry.version}"
    blessed = [place for place, entry in enumerate(history) if entry.blessed]
    if blessed:
        # What the next run goes on from and is compared with.
        last = max(blessed, key=lambda place: (history[place].span, history[place].blessing.id))
        reasons.setdefault(last, "last blessed model")
    return reasons


def clean(home: Path, releases: Path, keep: int, *, dry_run: bool = False) -> Cleaned:
    """Removes the artifacts of all runs but those in use.

    In use are those of the `keep` newest training runs, of a run whose release is still there, and of the last blessed
    model. What is removed is marked in the metadata first, so that TFX neither answers from it nor resolves it, and the
    metadata stays: history and lineage go on telling of it.

    Args:
      home: of the pipeline.
      releases: base path of its releases.
      keep: how many training runs, as `history` lists them.
      dry_run: count only.

    Raises:
      RunError: a run is under way.
      MetadataError: the metadata cannot be read.
    """
    with only_one(home):
        metadata = Metadata(home, write=True)
        history = entries(metadata)
        reasons = _why_kept(history, keep, releases)
        used = {
            artifact
            for place in reasons
            for number in history[place].executions
            for side in (metadata.executions[number].outputs, metadata.executions[number].inputs)
            for artifacts in side.values()
            for artifact in artifacts
        }
        # An artifact that is marked but still there is what a killed clean left.
        root = (home / "artifacts").absolute()
        old = [
            artifact
            for artifact in metadata.artifacts.values()
            if artifact.id not in used and Path(artifact.uri).is_dir() and root in Path(artifact.uri).absolute().parents
        ]
        size = sum(_size(Path(artifact.uri)) for artifact in old)
        if not dry_run:
            _remove(metadata, old)
    kept = {
        f"span {history[place].span}, {history[place].outcome(releases)}": why for place, why in sorted(reasons.items())
    }
    return Cleaned(len(old), size, kept)


def _remove(metadata: Metadata, artifacts: list[Any]) -> None:
    for artifact in artifacts:
        artifact.state = pb.Artifact.DELETED
    if artifacts:
        metadata.store.put_artifacts(artifacts)
    for artifact in artifacts:
        shutil.rmtree(artifact.uri)
