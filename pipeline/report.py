"""Tables for the terminal."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from rich.console import Console
from rich.table import Table

from pipeline.run import PutAside, RunResult
from pipeline.terminal import plain_console
from serving.client import Recommendations

_NAMES = {"candidate": "this model", "popular": "most popular", "blessed": "last blessed model"}


def print_run(result: RunResult) -> None:
    """As far as the run went: quality on the held-out splits, the index against exact search, the release."""
    console = plain_console()
    if result.put_aside is not None and result.put_aside.reasons:
        _print_put_aside(console, result.put_aside)
    if result.metrics is not None:
        _print_metrics(console, result.metrics)
    if result.index is not None:
        _print_index(console, result.index)
    if result.metrics is not None and not result.metrics["blessed"]:
        console.print("Not blessed: " + "; ".join(result.metrics["reasons"]), soft_wrap=True)
    elif result.release is not None:
        console.print(f"Release: version {result.release['version']} in {result.release['path']}", soft_wrap=True)
    elif result.note is not None:
        console.print(result.note, soft_wrap=True)


def _print_put_aside(console: Console, put_aside: PutAside) -> None:
    frequent = sorted(put_aside.reasons.items(), key=lambda item: (-item[1], item[0]))
    console.print(
        f"{sum(put_aside.reasons.values()):,} of {put_aside.rows:,} rows put aside: "
        f"{', '.join(f'{count:,} {reason}' for reason, count in frequent)}; see {put_aside.folder}",
        soft_wrap=True,
    )


def _print_metrics(console: Console, evaluations: dict[str, Any]) -> None:
    for split, evaluation in evaluations["splits"].items():
        models = evaluation["models"]
        metrics = [m for m in models["candidate"]["overall"] if m.startswith(("HR", "MRR"))]
        title = f"Held-out split {split}, {evaluation['rows']:,} interactions"
        if left_out := evaluation["repeats_left_out"]:
            title += f" ({left_out:,} left out: their item was seen before, evaluation.exclude_seen)"
        table = Table()
        table.add_column("model", no_wrap=True)
        for metric in metrics:
            table.add_column(metric, justify="right")
        for model, name in _NAMES.items():
            if model in models:
                table.add_row(name, *(f"{models[model]['overall'][metric]:.4f}" for metric in metrics))
        console.print(title, soft_wrap=True)
        console.print(table)
    if left_out := evaluations["blessed_left_out"]:
        console.print(left_out[0].upper() + left_out[1:], soft_wrap=True)


def _print_index(console: Console, index: dict[str, Any]) -> None:
    latency = index["latency"]
    console.print(
        f"ScaNN index: {index['items']:,} items, {index['searcher']['kind']}, recall@{index['recall_at']} "
        f"{index['recall']:.4f} against exact search; one query {latency['index_p50_us']:.0f} us (p50), "
        f"exact {latency['exact_p50_us']:.0f} us, ratio {latency['ratio']:.2f}",
        soft_wrap=True,
    )


def print_recommendations(query_id: str, answer: Recommendations, shown: Sequence[str]) -> None:
    """One query's recommendations as a table, with the versions that answered."""
    known = "" if answer.known_query else " (unknown: answered from the out-of-vocabulary row)"
    table = Table(title=f"Query {query_id}{known}, release {answer.tower_version}", title_justify="left")
    for column in ("rank", "item", "score", *shown):
        table.add_column(column, justify="right" if column in ("rank", "score") else "left")
    for rank, item in enumerate(answer.items, start=1):
        table.add_row(
            str(rank), item.item_id, f"{item.score:.4f}", *(item.features.get(column, "") for column in shown)
        )
    plain_console().print(table)
    if answer.truncated:
        print(f"Fewer than asked for, because of: {', '.join(answer.truncated_by)}")
