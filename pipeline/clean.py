"""Removing what old runs left."""

from __future__ import annotations

import shutil
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pipeline.metadata import Entry, Metadata, entries, pb
from pipeline.run import RunError, only_one


@dataclass(frozen=True)
class Cleaned:
    """What was removed, or would be.

    Attributes:
      artifacts: how many.
      bytes: of all their files, and of what is left over from runs beside them.
      kept: each run that stays, oldest first, and why.
    """

    artifacts: int
    bytes: int
    kept: tuple[tuple[str, str], ...]


def _size(path: Path) -> int:
    return sum(file.stat().st_size for file in (path, *path.rglob("*")) if file.is_file())


def _leftovers(home: Path, oldest: float, uris: Iterable[str]) -> list[Path]:
    """What runs have left that is no artifact.

    Args:
      home: of the pipeline, in which no run is under way.
      oldest: seconds since 1970, the start of the oldest run that stays.
      uris: of all artifacts.

    Returns:
      Each component's folder of unfinished work, but for the bad rows of runs since then that were refused for them;
      outputs of killed components, which TFX has never recorded; and the logs and the checkpoints of abandoned
      trainings that were last written before.
    """
    written = [path for folder in ("logs", "checkpoints") for path in (home / folder).glob("*")]
    old = [path for path in written if path.stat().st_mtime < oldest]
    # <component>/<output>/<execution>, wherever the home was called from or has been moved to.
    recorded = {parts[i : i + 3] for parts in (Path(uri).parts for uri in uris) for i in range(len(parts) - 2)}
    outputs = (home / "artifacts").glob("[!.]*/[!.]*/[!.]*")
    killed = [folder for folder in outputs if folder.parts[-3:] not in recorded]
    unfinished: list[Path] = []
    for system in (home / "artifacts").glob("*/.system"):
        quarantines = system.glob("stateful_working_dir/*/quarantine")
        stays = {at for q in quarantines if q.stat().st_mtime >= oldest for at in (q.parent, q.parent.parent, system)}
        parts = [*system.iterdir(), *system.glob("stateful_working_dir/*")] if stays else [system]
        unfinished += [part for part in parts if part not in stays and (part == system or part.parent in stays)]
    return [*unfinished, *killed, *old]


def _why_kept(history: list[Entry], keep: int, releases: Path) -> dict[int, str]:
    """For each entry's place in the history that stays, why."""
    reasons = dict.fromkeys(range(max(0, len(history) - keep), len(history)), "newest")
    for place, entry in enumerate(history):
        if there := entry.served_from(releases):
            reasons[place] = f"release {', '.join(map(str, there))}"
    blessed = [place for place, entry in enumerate(history) if entry.blessed]
    if blessed:
        # What the next run goes on from and is compared with.
        last = max(blessed, key=lambda place: (history[place].span, history[place].blessing.id))
        reasons.setdefault(last, "last blessed model")
    return reasons


def clean(home: Path, releases: Path, keep: int, *, dry_run: bool = False, wait: float = 0) -> Cleaned:
    """Removes the artifacts of all runs but those in use, and their logs, abandoned checkpoints and unfinished work.

    In use are those of the `keep` newest training runs, of a run whose release is still there, and of the last blessed
    model. What is removed is marked in the metadata first, so that TFX neither answers from it nor resolves it, and the
    metadata stays: history and lineage go on telling of it.

    Args:
      home: of the pipeline.
      releases: base path of its releases.
      keep: how many training runs, as `history` lists them.
      dry_run: count only.
      wait: seconds to wait for a run that is under way.

    Raises:
      RunError: a run is under way, or something cannot be removed; what was begun goes on with the next call.
      MetadataError: the metadata cannot be read.
    """
    with only_one(home, wait):
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
        oldest = min((history[place].started for place in reasons), default=0) / 1000
        leftovers = _leftovers(home, oldest, (artifact.uri for artifact in metadata.artifacts.values()))
        size = sum(_size(path) for path in (*(Path(artifact.uri) for artifact in old), *leftovers))
        if not dry_run:
            try:
                _remove(metadata, old, leftovers)
            except OSError as error:
                raise RunError(f"{error.filename}: cannot be removed: {error.strerror}; run it again") from error
    kept = tuple(
        (f"span {history[place].span}, {history[place].outcome(releases)}", why)
        for place, why in sorted(reasons.items())
    )
    return Cleaned(len(old), size, kept)


def _remove(metadata: Metadata, artifacts: list[Any], leftovers: list[Path]) -> None:
    for artifact in artifacts:
        artifact.state = pb.Artifact.DELETED
    if artifacts:
        metadata.store.put_artifacts(artifacts)
    for artifact in artifacts:
        shutil.rmtree(artifact.uri)
    for path in leftovers:
        if path.is_dir():
            shutil.rmtree(path)
        else:
            path.unlink()
