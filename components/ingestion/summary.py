"""What ingestion counted, and what it makes of it: errors for the user, properties of the artifacts."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timezone

from components.ingestion.config import IngestionConfig, SplitBySpan, SplitByTime
from components.ingestion.layout import Source
from components.ingestion.ordering import EVAL, ITEMS, TEST, TRAIN, held_out_splits
from components.ingestion.windows import LATE

# Keys of the counts: "<source>/rows" and "<source>/<reason>", and those that begin so.
ROWS = "rows"
SPLIT = "split/"
SPAN = "span/"
TIMESTAMPS = "timestamps"
FAILURE = "failure/"

SHOWN_REASONS = 3


@dataclass(frozen=True)
class Summary:
    """Counts of one run.

    rows: per kind of file; bad: the same, by reason; splits: rows per split, "items" and "queries" too,
    and those "late" or "early", which are in none; spans: interactions by the span they came with, equal
    ones counted once; first and last: unix seconds of the interactions, None without any; failures:
    messages.
    """

    rows: dict[Source, int]
    bad: dict[Source, dict[str, int]]
    splits: dict[str, int]
    spans: dict[int, int]
    first: int | None
    last: int | None
    failures: tuple[str, ...]

    @classmethod
    def from_json(cls, text: str) -> Summary:
        """Reads what `transforms.GenerateExamples` gives under "tally"."""
        counts: dict[str, tuple[int, int, int]] = json.loads(text)
        sums = {key: total for key, (total, _, _) in counts.items()}
        rows, bad = {}, {}
        for source in Source:
            prefix = f"{source.value}/"
            of_source = {key.removeprefix(prefix): n for key, n in sums.items() if key.startswith(prefix)}
            rows[source] = of_source.pop(ROWS, 0)
            bad[source] = dict(sorted(of_source.items()))
        _, first, last = counts.get(TIMESTAMPS, (0, None, None))
        return cls(
            rows=rows,
            bad=bad,
            splits={key.removeprefix(SPLIT): n for key, n in sums.items() if key.startswith(SPLIT)},
            spans={int(key.removeprefix(SPAN)): n for key, n in sums.items() if key.startswith(SPAN)},
            first=first,
            last=last,
            failures=tuple(sorted(key.removeprefix(FAILURE) for key in sums if key.startswith(FAILURE))),
        )

    def too_bad(self, limit: float) -> list[Source]:
        """The kinds of files in which more than this share of the rows are bad."""
        return [source for source in Source if sum(self.bad[source].values()) > limit * self.rows[source]]

    def properties(self) -> dict[str, int]:
        """Custom properties of the quarantine artifact: rows, bad_rows, `<kind>_rows`, `<kind>_bad_rows`, reasons."""
        result = {"rows": sum(self.rows.values()), "bad_rows": 0}
        for source in Source:
            bad = sum(self.bad[source].values())
            result[f"{source.value}_rows"] = self.rows[source]
            result[f"{source.value}_bad_rows"] = bad
            result["bad_rows"] += bad
            for reason, count in self.bad[source].items():
                result[reason] = result.get(reason, 0) + count
        return result


def bad_row_problem(summary: Summary, source: Source, limit: float, where: str, examples: Sequence[str]) -> str:
    """The line for a kind of file with too many bad rows.

    Args:
      summary: of the run.
      source: the kind of file.
      limit: `data.max_bad_share`.
      where: the place of the quarantine.
      examples: some of its lines, of that kind of file.
    """
    rows, reasons = summary.rows[source], summary.bad[source]
    bad = sum(reasons.values())
    frequent = sorted(reasons.items(), key=lambda item: (-item[1], item[0]))[:SHOWN_REASONS]
    return (
        f"data.{source.value}: {bad} of {rows} rows are bad ({bad / rows:.2%}), more than data.max_bad_share "
        f"allows ({limit:.2%}): {', '.join(f'{reason} {count}' for reason, count in frequent)}; "
        f"all bad rows are in {where}; the first: {' '.join(examples)}"
    )


def _date(seconds: float) -> str:
    return datetime.fromtimestamp(seconds, timezone.utc).isoformat()


def split_problems(summary: Summary, config: IngestionConfig) -> list[str]:
    """One line for each split that should have rows and has none, saying what to change."""
    if not summary.splits.get(ITEMS):
        return ["data.items: no valid item was found, so there is nothing to recommend"]
    if summary.first is None or summary.last is None:
        return ["data.interactions: no valid interaction was found"]
    split = config.data.split
    empty = [name for name in (TRAIN, *held_out_splits(split)) if not summary.splits.get(name)]
    found = f"the interactions are from {_date(summary.first)} to {_date(summary.last)}"
    problems = []
    for name in empty:
        if isinstance(split, SplitBySpan):
            what = f"span {config.span}" if name == EVAL else f"the window before span {config.span}"
            late = (
                f"; {summary.splits[LATE]} rows are of earlier days than the span's" if LATE in summary.splits else ""
            )
            problems.append(f"data.split: the {name} split is empty: {found}, none of {what} can be used{late}")
            continue
        if not isinstance(split, SplitByTime):
            least = {EVAL: split.test + 2, TEST: 2}[name]
            problems.append(
                f"data.split: the {name} split is empty, for no query has {least} interactions or more; "
                f"set data.split.{name} to 0, split by time, or give more interactions"
            )
        elif name == TRAIN:
            problems.append(
                f"data.split: the train split is empty: {found}, none before "
                f"eval_from = {split.eval_from.isoformat()}; choose a later eval_from, or split by last"
            )
        elif name == TEST and split.test_from is not None:
            problems.append(
                f"data.split: the test split is empty: {found}, none from test_from = {split.test_from.isoformat()} "
                "on; choose an earlier test_from, or leave it out"
            )
        else:
            end = f" and before test_from = {split.test_from.isoformat()}" if split.test_from else ""
            problems.append(
                f"data.split: the eval split is empty: {found}, none from eval_from = {split.eval_from.isoformat()} "
                f"on{end}; choose another date, or split by last"
            )
    return problems
