"""Tables and trees of what has run: `history` and `lineage`."""

from __future__ import annotations

import json
import sys
from collections import defaultdict
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table
from rich.tree import Tree

from pipeline.metadata import (
    EXAMPLES,
    Entry,
    Metadata,
    MetadataError,
    ancestry,
    entries,
    moment,
    value_of,
)

METRICS = ("HR@50", "HR@100", "MRR")
LOG_WIDTH = 140


def _console() -> Console:
    """As wide as the terminal; in a file or a scheduler's log, wide enough for a line each."""
    return Console(highlight=False, width=None if sys.stdout.isatty() else LOG_WIDTH)


def print_history(metadata: Metadata, releases: Path) -> None:
    """One line a training run: when, span, what it went on from, metrics, outcome."""
    console = _console()
    table = Table(title="Training runs, the newest last; times in UTC", title_justify="left")
    history = entries(metadata)
    metrics = [m for m in METRICS if any(m in entry.metrics for entry in history)]
    for column in ("run", "span", "model", "from", *metrics, "blessed", "outcome"):
        table.add_column(column, justify="left" if column in ("run", "from", "blessed", "outcome") else "right")
    for entry in history:
        base = metadata.input(entry.model, "base_model") if entry.model is not None else None
        shown = [f"{entry.metrics[m]:.4f}" if m in entry.metrics else "" for m in metrics]
        gone = entry.version is not None and not (releases / str(entry.version)).is_dir()
        table.add_row(
            moment(entry.ended),
            str(entry.span),
            str(entry.model.id) if entry.model is not None else "",
            "" if entry.model is None else f"model {base.id}" if base is not None else "cold",
            *shown,
            "" if entry.blessing is None else "yes" if entry.blessed else "no",
            entry.outcome + (", removed" if gone else ""),
        )
    console.print(table)
    for entry in history:
        refused = value_of(entry.blessing, "refused") if entry.blessing is not None else None
        if refused:
            console.print(f"Span {entry.span}, model {entry.model.id} was not blessed: {refused}", soft_wrap=True)


def print_lineage(metadata: Metadata, version: int, releases: Path) -> None:
    """What a release was made of, back to the input files.

    Raises:
      MetadataError: no run has published that version.
    """
    history = entries(metadata)
    entry = next((e for e in reversed(history) if e.version == version), None)
    if entry is None:
        there = ", ".join(str(v) for v in sorted({e.version for e in history if e.version is not None})) or "none"
        raise MetadataError(f"no run has published release {version}; there is: {there}")
    folder = releases / str(version)
    tree = Tree(f"release {version}: {folder}{'' if folder.is_dir() else ' (removed)'}")
    tree.add(f"published {moment(entry.release.create_time_since_epoch)}, span {entry.span}")
    index = next(iter(metadata.producers[entry.release.id].inputs["index"]))
    _add(tree, "index", metadata.artifacts[index])
    blessing = tree.add("blessed on span " + str(entry.span))
    blessing.add("  ".join(f"{name} {value:.4f}" for name, value in entry.metrics.items() if name != "rows"))
    _add_models(tree, metadata, entry)
    _console().print(tree, soft_wrap=True)


def _add_models(tree: Tree, metadata: Metadata, entry: Entry) -> None:
    for depth, model in enumerate(ancestry(metadata, entry.model)):
        node = tree.add(f"{'went on from model' if depth else 'model'} {model.id}: {model.uri}")
        examples = _examples_of(metadata, model)
        if examples is None:
            continue
        inputs = json.loads(value_of(examples, "inputs"))
        files = defaultdict(list)
        for file in inputs:
            files[file["kind"], file["span"]].append(file)
        spans = sorted({span for kind, span in files if kind == "interactions"})
        if len(spans) > 1:
            node.add(f"trained on spans {spans[0]} to {spans[-2]}, evaluated on {spans[-1]}")
        if depth:
            continue
        for (kind, span), listed in sorted(files.items()):
            branch = node.add(f"{kind}, span {span}")
            for file in listed:
                branch.add(f"{file['path']}  sha256 {file['sha256'][:16]}")


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
