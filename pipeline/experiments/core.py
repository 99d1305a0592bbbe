"""The 5-core of a data set: what is left when users and items with few interactions are taken out. No TensorFlow."""

from __future__ import annotations

import hashlib
import json
import tempfile
from dataclasses import dataclass
from datetime import datetime, timezone
from pathlib import Path

import pandas as pd

from components.ingestion.config import DataConfig, FileConfig, SplitByLast, SplitByTime
from components.ingestion.values import timestamp_parser
from pipeline.run import RunError

MIN_INTERACTIONS = 5
HELD_OUT_TIME = 0.1  # share of the interactions that a split by time holds out, once for eval and once for test
SEED = 7  # of ties in time


@dataclass(frozen=True)
class Core:
    """A data set's 5-core on disk.

    Attributes:
      folder: interactions.csv, items.csv and, if the set has them, queries.csv.
      fingerprint: of the source files' content and of how the core is made; 16 hex digits.
      eval_from: unix seconds; eval of a split by time begins here.
      test_from: unix seconds; test of a split by time begins here.
    """

    folder: Path
    fingerprint: str
    eval_from: int
    test_from: int


def five_core(pairs: pd.DataFrame) -> pd.DataFrame:
    """Leaves out rows whose value of a column stands in fewer than five rows, repeatedly, until nothing changes.

    Args:
      pairs: distinct pairs, two columns.
    """
    size = -1
    while size != len(pairs):
        size = len(pairs)
        for column in pairs.columns:
            pairs = pairs[pairs.groupby(column)[column].transform("size") >= MIN_INTERACTIONS]
    return pairs


def _files(files: FileConfig, key: str) -> list[str]:
    if files.format != "csv":
        raise RunError(f"data.{key}.format: experiments read csv (given: {files.format!r})")
    pattern = Path(files.files)
    paths = sorted(str(path) for path in pattern.parent.glob(pattern.name))
    if not paths:
        raise RunError(f"data.{key}.files: no file matches {files.files}")
    return paths


def _read(files: FileConfig, key: str) -> pd.DataFrame:
    parts = [pd.read_csv(p, sep=files.delimiter, dtype=str, keep_default_na=False) for p in _files(files, key)]
    return pd.concat(parts, ignore_index=True)


def _fingerprint(data: DataConfig, sources: dict[str, FileConfig]) -> str:
    digest = hashlib.sha256(Path(__file__).read_bytes())
    for key, files in sources.items():
        # Not the path: a data set that was moved or downloaded again is the same.
        digest.update(files.model_copy(update={"files": key}).model_dump_json().encode())
        for path in _files(files, key):
            digest.update(hashlib.sha256(Path(path).read_bytes()).digest())
    return digest.hexdigest()[:16]


def make_core(data: DataConfig, root: Path) -> Core:
    """Writes a data set's 5-core, unless it is there.

    Users and items with fewer than five distinct partners are left out, repeatedly, until none is left; of the
    catalogues stay the rows of those that remain.

    Args:
      data: names files and columns; all must be CSV.
      root: the core goes to a folder in here that is named after the sources' content.

    Raises:
      RunError: a file is not there or no CSV, lacks a column or has a moment that cannot be read, or nothing is left.
    """
    sources: dict[str, FileConfig] = {"interactions": data.interactions, "items": data.items}
    if data.queries is not None:
        sources["queries"] = data.queries
    fingerprint = _fingerprint(data, sources)
    folder = root / f"core-{fingerprint}"
    if not folder.exists():
        root.mkdir(parents=True, exist_ok=True)
        # A folder of its own: another experiment may be making the same core.
        with tempfile.TemporaryDirectory(dir=root, prefix=".tmp-core-") as scratch:
            temporary = Path(scratch) / folder.name
            temporary.mkdir()
            try:
                cuts = _write(data, temporary)
            except KeyError as e:
                raise RunError(f"{data.interactions.files} or a catalogue beside it has no column {e}") from e
            (temporary / "core.json").write_text(json.dumps(cuts))
            try:
                temporary.rename(folder)
            except OSError:
                if not folder.exists():
                    raise
    return Core(folder, fingerprint, **json.loads((folder / "core.json").read_text()))


def _write(data: DataConfig, folder: Path) -> dict[str, int]:
    query, item, timestamp = data.interactions.query_id, data.interactions.item_id, data.interactions.timestamp
    rows = _read(data.interactions, "interactions")
    parse = timestamp_parser(data.interactions.timestamp_format)
    try:
        seconds = rows[timestamp].map(parse)
    except ValueError as e:
        raise RunError(f"{data.interactions.files}: column {timestamp!r} has a moment that cannot be read: {e}") from e
    if seconds.isna().any():
        raise RunError(f"{data.interactions.files}: column {timestamp!r} lacks {seconds.isna().sum()} values")
    first = rows[[query, item]].assign(seconds=seconds).sort_values("seconds", kind="stable")
    first = first.drop_duplicates([query, item])
    pairs = five_core(first[[query, item]])
    if pairs.empty:
        raise RunError(f"{data.interactions.files}: its {MIN_INTERACTIONS}-core is empty")
    kept = rows.merge(pairs, on=[query, item])
    kept.to_csv(folder / "interactions.csv", index=False, sep=data.interactions.delimiter)
    items = _read(data.items, "items")
    items[items[data.items.id].isin(pairs[item])].to_csv(folder / "items.csv", index=False, sep=data.items.delimiter)
    if data.queries is not None:
        queries = _read(data.queries, "queries")
        queries = queries[queries[data.queries.id].isin(pairs[query])]
        queries.to_csv(folder / "queries.csv", index=False, sep=data.queries.delimiter)
    times = first.loc[pairs.index, "seconds"].sort_values().to_numpy()
    test_from = times[int((1 - HELD_OUT_TIME) * len(times))]
    eval_from = times[int((1 - 2 * HELD_OUT_TIME) * len(times))]
    return {"eval_from": int(eval_from), "test_from": int(test_from)}


def experiment_split(core: Core, split: str, evaluation: str) -> tuple[SplitByLast | SplitByTime, str]:
    """The pipeline's split, and the name of its part that is ranked.

    Where test is ranked nothing is held out for eval, so the model learns from those rows too.

    Args:
      core: gives the cuts of time.
      split: "last" or "time".
      evaluation: "eval" or "test".

    Raises:
      RunError: a split by time is asked for of a set in which the last tenths of time are one moment.
    """
    if split == "last":
        return SplitByLast(by="last", eval=int(evaluation == "eval"), test=1, seed=SEED), evaluation
    eval_from, test_from = (datetime.fromtimestamp(s, timezone.utc) for s in (core.eval_from, core.test_from))
    if eval_from == test_from:
        raise RunError(f"{core.folder}: a split by time needs more than one moment in the last fifth of interactions")
    if evaluation == "test":
        return SplitByTime(by="time", eval_from=test_from), "eval"
    return SplitByTime(by="time", eval_from=eval_from, test_from=test_from), "eval"
