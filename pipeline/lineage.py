"""Tables and trees of what has run: `history` and `lineage`."""

from __future__ import annotations

import json
import sys
from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table
from rich.tree import Tree

from pipeline.metadata import (
    COLD_START,
    EXAMPLES,
    Entry,
    Metadata,
    MetadataError,
    ancestry,
    entries,
    moment,
    value_of,
)
from pipeline.terminal import plain_console

LOG_WIDTH = 140


def _console() -> Console:
    """As wide as the terminal; in a file or a scheduler's log, wide enough for a line each."""
    return plain_console(width=None if sys.stdout.isatty() else LOG_WIDTH)


def print_history(metadata: Metadata, releases: Path, thresholds: Sequence[str]) -> None:
    """One line a training run: when, span, what it went on from, metrics, outcome.

    Args:
      metadata: of the pipeline.
      releases: base path of its releases.
      thresholds: the metrics that decide; those of them that are recorded are shown, or else all that are.
    """
    console = _console()
    table = Table(title="Training runs, the newest last; times in UTC", title_justify="left")
    history = entries(metadata)
    recorded = dict.fromkeys(name for entry in history for name in entry.metrics if name != "rows")
    metrics = [name for name in dict.fromkeys(thresholds) if name in recorded] or list(recorded)
    for column in ("run", "span", "model", "from", *metrics, "blessed", "outcome"):
        table.add_column(column, justify="left" if column in ("run", "from", "blessed", "outcome") else "right")
    for entry in history:
        shown = [f"{entry.metrics[m]:.4f}" if m in entry.metrics else "" for m in metrics]
        table.add_row(
            moment(entry.ended),
            str(entry.span),
            str(entry.model.id) if entry.model is not None else "",
            _start(metadata, entry.model),
            *shown,
            "" if entry.blessing is None else "yes" if entry.blessed else "no",
            entry.outcome(releases),
        )
    console.print(table)
    for entry in history:
        refused = value_of(entry.blessing, "refused") if entry.blessing is not None else None
        if refused:
            console.print(f"Span {entry.span}, model {entry.model.id} was not blessed: {refused}", soft_wrap=True)
        if entry.model is not None and (cold := value_of(entry.model, COLD_START)):
            offered = metadata.input(entry.model, "base_model")
            if offered is not None:
                console.print(
                    f"Span {entry.span}, model {entry.model.id} did not go on from model {offered.id}: {cold}",
                    soft_wrap=True,
                )


def _start(metadata: Metadata, model: Any) -> str:
    if model is None:
        return ""
    base, cold = metadata.base_of(model), value_of(model, COLD_START)
    return f"model {base.id}" if base is not None else "not recorded" if cold is None else "cold"


def print_lineage(metadata: Metadata, version: int, releases: Path) -> None:
    """What a release was made of, back to the input files.

    Raises:
      MetadataError: no run has published that version.
    """
    history = entries(metadata)
    entry = next((e for e in reversed(history) if version in e.releases), None)
    if entry is None:
        there = ", ".join(str(v) for v in sorted({v for e in history for v in e.releases})) or "none"
        raise MetadataError(f"no run has published release {version}; there is: {there}")
    folder = releases / str(version)
    tree = Tree(f"release {version}: {folder}{'' if folder.is_dir() else ' (removed)'}")
    release = entry.releases[version]
    tree.add(f"published {moment(release.create_time_since_epoch)}, span {entry.span}")
    index = next(iter(metadata.producers[release.id].inputs["index"]))
    _add(tree, "index", metadata.artifacts[index])
    blessing = tree.add("blessed on span " + str(entry.span))
    blessing.add("  ".join(f"{name} {value:.4f}" for name, value in entry.metrics.items() if name != "rows"))
    _add_models(tree, metadata, entry)
    _console().print(tree, soft_wrap=True)


def _add_models(tree: Tree, metadata: Metadata, entry: Entry) -> None:
    for depth, model in enumerate(ancestry(metadata, entry.model)):
        node = tree.add(f"{'went on from model' if depth else 'model'} {model.id}: {model.uri}")
        if cold := value_of(model, COLD_START):
            node.add(f"cold start: {cold}")
        examples = _examples_of(metadata, model)
        if examples is None:
            continue
        inputs = json.loads(value_of(examples, "inputs"))
        files = defaultdict(list)
        for file in inputs:
            files[file["kind"], file["span"]].append(file)
        spans = sorted({span for kind, span in files if kind == "interactions"})
        if len(spans) > 1:
            node.add(f"trained on spans {_ranges(spans[:-1])}, evaluated on {spans[-1]}")
        for span, reason in json.loads(value_of(examples, "left_out") or "{}").items():
            node.add(f"span {span} left out: {reason}")
        if depth:
            continue
        for (kind, span), listed in sorted(files.items()):
            branch = node.add(f"{kind}, span {span}")
            for file in listed:
                branch.add(f"{file['path']}  sha256 {file['sha256'][:16]}")


def _ranges(spans: list[int]) -> str:
    """Ordered spans, those that follow each other as first and last: 1 to 3, 5."""
    runs: list[list[int]] = []
    for span in spans:
        if runs and span == runs[-1][-1] + 1:
            runs[-1].append(span)
        else:
            runs.append([span])
    return ", ".join(f"{run[0]} to {run[-1]}" if len(run) > 1 else str(run[0]) for run in runs)


def _examples_of(metadata: Metadata, model: Any) -> Any:
    """Walks from a model's training data back to what ingestion wrote."""
    component, _, key = EXAMPLES.partition(".")
    artifact = metadata.input(model, "examples")
    while artifact is not None:
        producer = metadata.producers[artifact.id]
        if producer.component == component and artifact.id in producer.outputs[key]:
            return artifact
        artifact = metadata.input(artifact, "examples")
    return None


def _add(tree: Tree, name: str, artifact: Any) -> None:
    recall = value_of(artifact, "recall")
    tree.add(f"{name}: {artifact.uri}" + (f", recall {recall:.4f}" if recall is not None else ""))
