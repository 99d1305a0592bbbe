"""Trains each of some days of Ta-Feng twice, cold and warm, and compares them on the day after."""

from __future__ import annotations

import csv
import shutil
import subprocess
import sys
import zlib
from pathlib import Path
from typing import Annotated, Any

import typer
import yaml

from benchmarks.retraining.report import pairs, report
from pipeline.config import load_config, read_tree
from pipeline.metadata import Metadata

ROOT = Path("runs") / "retraining"
FIRST_DAY, SECONDS_PER_DAY = 973_036_800, 86_400  # 2000-11-01
CONFIG = Path("configs") / "ta_feng.yaml"
SOURCE = Path("data") / "ta_feng" / "interactions.csv"
BATCH = 256  # a window has a tenth of the rows that the configuration's batches are made for


def cut_into_days(source: Path, folder: Path, share: float) -> None:
    """Writes a folder for each day, of a share of the users chosen by a hash of their id; once."""
    if folder.exists():
        return
    temporary = folder.with_name(f".tmp-{folder.name}")
    shutil.rmtree(temporary, ignore_errors=True)
    with source.open(newline="") as file:
        rows = csv.DictReader(file)
        days: dict[int, list[dict[str, str]]] = {}
        for row in rows:
            if zlib.crc32(row["user_id"].encode()) < share * 2**32:
                days.setdefault((int(row["timestamp"]) - FIRST_DAY) // SECONDS_PER_DAY, []).append(row)
    for day, of_day in days.items():
        (temporary / str(day)).mkdir(parents=True)
        with (temporary / str(day) / "interactions.csv").open("w", newline="") as file:
            writer = csv.DictWriter(file, fieldnames=list(of_day[0]))
            writer.writeheader()
            writer.writerows(of_day)
    temporary.rename(folder)


def make_config(data: Path, name: str, window: int, epochs: int, warm: dict[str, Any] | None) -> dict[str, Any]:
    """configs/ta_feng.yaml by span, without thresholds: every model is blessed, so that every span has a base."""
    tree = read_tree(CONFIG)
    tree["name"], tree["root"] = name, str(ROOT)
    tree["data"]["interactions"]["files"] = f"{data}/{{SPAN}}/*.csv"
    tree["data"]["split"] = {"by": "span", "window": window, "first_day": "2000-11-01"}
    # The day after is in no bucket of the days trained on.
    tree["features"] = [feature for feature in tree["features"] if feature["kind"] != "timestamp"]
    # People buy the same again; the day after is judged by all they bought.
    tree["evaluation"] = {"ks": [10, 50, 100], "exclude_seen": False, "thresholds": []}
    tree["train"] = {**tree["train"], "batch_size": BATCH, "epochs": epochs, "warm_start": warm}
    return tree


def main(
    first: Annotated[int, typer.Option(min=2, help="The first span; spans are days since 2000-11-01.")] = 60,
    spans: Annotated[int, typer.Option(min=1, help="So many after it are trained cold and warm.")] = 20,
    window: Annotated[int, typer.Option(min=1)] = 60,
    epochs: Annotated[int, typer.Option(min=1, help="Of a cold run.")] = 6,
    warm_epochs: Annotated[int, typer.Option(min=1)] = 1,
    optimizer: Annotated[str, typer.Option(help="keep or reset, when warm.")] = "keep",
    share: Annotated[float, typer.Option(min=0.001, max=1, help="Of the users.")] = 0.15,
) -> None:
    """Runs the pipeline up to its evaluation, cold and then warm, for one span after the other.

    Both train on the same cached data in the same pipeline, so the warm run goes on from the warm model of the span
    before. Interrupted, it goes on where it was. Needs `python -m pipeline data ta_feng` once.
    """
    if not SOURCE.is_file():
        sys.exit(f"there is no {SOURCE}: run python -m pipeline data ta_feng")
    data = ROOT / "data" / f"share-{share:g}"
    data.parent.mkdir(parents=True, exist_ok=True)
    cut_into_days(SOURCE, data, share)
    name = f"w{window}-e{epochs}-{warm_epochs}-{optimizer}-s{share:g}".replace(".", "_")
    files = {}
    for kind, warm in (("cold", None), ("warm", {"epochs": warm_epochs, "optimizer": optimizer})):
        files[kind] = ROOT / f"{name}-{kind}.yaml"
        files[kind].write_text(yaml.safe_dump(make_config(data, name, window, epochs, warm)))
        load_config(files[kind])
    for span in range(first, first + spans + 1):
        # The warm run is the second, so its model is the newest of its span and the next one's base.
        for kind in ("warm",) if span == first else ("cold", "warm"):
            command = [sys.executable, "-m", "pipeline", "run", "--until", "evaluate", "--span", str(span)]
            subprocess.run([*command, "--config", str(files[kind])], check=True)
    text = report(pairs(Metadata(ROOT / name)))
    (ROOT / f"{name}.md").write_text(text)
    print(text)


if __name__ == "__main__":
    typer.run(main)
