"""What ingestion counted, and what it makes of it: errors for the user, properties of the artifacts."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timezone

from components.ingestion.config import IngestionConfig, SplitBySpan, SplitByTime
from components.ingestion.layout import Source
from components.ingestion.ordering import EVAL, ITEMS, TEST, TRAIN, held_out_splits
from components.ingestion.windows import LATE

# Keys of the counts: "<source>/<span>/rows" and "<source>/<span>/<reason>", and those that begin so.
ROWS = "rows"
SPLIT = "split/"
SPAN = "span/"
TIMESTAMPS = "timestamps"
FAILURE = "failure/"

SHOWN_REASONS = 3


def count_key(source: Source, span: int, name: str) -> str:
    """Key of the count of rows, or of bad rows with one reason, that came with a span."""
    return f"{source.value}/{span}/{name}"


def remedy(span: int) -> str:
    """What to do about a delivery that cannot be used."""
    return f"deliver span {span} again, or name it in data.split.skip"


@dataclass(frozen=True)
class Summary:
    """Counts of one run.

    rows: per kind of file and span (a catalogue's is the run's); bad: the same, by reason; splits: rows per split,
    "items" and "queries" too, and those "late" or "early", which are in none; spans: interactions by the span they came
    with, equal ones counted once; first and last: unix seconds of the interactions, None without any; failures:
    messages.
    """

    rows: dict[Source, dict[int, int]]
    bad: dict[Source, dict[int, dict[str, int]]]
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
        rows: dict[Source, dict[int, int]] = {source: {} for source in Source}
        bad: dict[Source, dict[int, dict[str, int]]] = {source: {} for source in Source}
        for source in Source:
            prefix = f"{source.value}/"
            for key in sorted(key for key in sums if key.startswith(prefix)):
                span, _, name = key.removeprefix(prefix).partition("/")
                if name == ROWS:
                    rows[source][int(span)] = sums[key]
                else:
                    bad[source].setdefault(int(span), {})[name] = sums[key]
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

    def too_bad(self, limit: float) -> list[tuple[Source, int]]:
        """The kinds of files and spans of which more than this share of the rows are bad."""
        return [
            (source, span)
            for source in Source
            for span, reasons in sorted(self.bad[source].items())
            if sum(reasons.values()) > limit * self.rows[source][span]
        ]

    def reasons(self, source: Source) -> Counter[str]:
        """The bad rows of a kind of file, of all spans, by reason."""
        return sum((Counter(of_span) for of_span in self.bad[source].values()), Counter[str]())

    def properties(self) -> dict[str, int]:
        """Custom properties of the quarantine artifact: rows, bad_rows, `<kind>_rows`, `<kind>_bad_rows`, reasons."""
        result = {"rows": 0, "bad_rows": 0}
        for source in Source:
            reasons = self.reasons(source)
            rows, bad = sum(self.rows[source].values()), reasons.total()
            result[f"{source.value}_rows"] = rows
            result[f"{source.value}_bad_rows"] = bad
            result["rows"] += rows
            result["bad_rows"] += bad
            for reason, count in reasons.items():
                result[reason] = result.get(reason, 0) + count
        return result


def bad_row_problem(
    summary: Summary, source: Source, span: int, config: IngestionConfig, where: str, examples: Sequence[str]
) -> str:
    """The line for a delivery with too many bad rows.

    Args:
      summary: of the run.
      source: the kind of file.
      span: the one the rows came with.
      config: of the run.
      where: the place of the quarantine.
      examples: some of its lines, of that delivery.
    """
    rows, reasons = summary.rows[source][span], summary.bad[source][span]
    bad = sum(reasons.values())
    frequent = sorted(reasons.items(), key=lambda item: (-item[1], item[0]))[:SHOWN_REASONS]
    of_span, what_to_do = "", "mend the files"
    if isinstance(config.data.split, SplitBySpan) and source is Source.INTERACTIONS:
        of_span, what_to_do = f" of span {span}", remedy(span)
    return (
        f"data.{source.value}: {bad} of {rows} rows{of_span} are bad ({bad / rows:.2%}), more than data.max_bad_share "
        f"allows ({config.data.max_bad_share:.2%}): "
        f"{', '.join(f'{reason} {count}' for reason, count in frequent)}; {what_to_do}; "
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
