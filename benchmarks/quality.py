"""Quality of DAT on MovieLens-100K, the last interaction of each user held out, over seeds.

  python benchmarks/quality.py [--seeds 3]

The set is brought to its 5-core first (users and items with at least five interactions), the whole catalogue is ranked
for each held-out interaction, items seen before are left out, ties count against the model. Each cell is a run of the
real pipeline; what does not depend on the seed comes from TFX's cache. Writes one row a config: mean and 95 % interval
(Student's t) over the seeds.
"""

from __future__ import annotations

import argparse
import math
import statistics
from pathlib import Path

import pandas as pd

from components.ingestion.config import SplitByLast
from pipeline.config import PipelineConfig, load_config
from pipeline.datasets import movielens
from pipeline.run import run_pipeline

METRICS = ("HR@50", "HR@100", "MRR")
# Row of the table -> configuration, and the kind of model in place of its own.
ROWS = {
    "DAT, practical (configs/movielens.yaml)": ("configs/movielens.yaml", "dat"),
    "two-tower, the same but for the augmented vectors": ("configs/movielens.yaml", "two_tower"),
    "DAT, the paper's form (configs/movielens_paper.yaml)": ("configs/movielens_paper.yaml", "dat"),
}
ROOT = Path("runs") / "quality"
# 97.5 % points of Student's t by degrees of freedom.
T975 = {1: 12.706, 2: 4.303, 3: 3.182, 4: 2.776, 5: 2.571, 6: 2.447, 7: 2.365, 8: 2.306, 9: 2.262}


def five_core(source: Path, target: Path) -> None:
    """Copies the set, users and items with fewer than five interactions left out, repeatedly."""
    target.mkdir(parents=True, exist_ok=True)
    rows = pd.read_csv(source / "interactions.csv", dtype=str)
    size = -1
    while size != len(rows):
        size = len(rows)
        for column in ("user_id", "item_id"):
            rows = rows[rows.groupby(column)[column].transform("size") >= 5]
    rows.to_csv(target / "interactions.csv", index=False)
    for name, column in (("items", "item_id"), ("users", "user_id")):
        catalogue = pd.read_csv(source / f"{name}.csv", dtype=str, keep_default_na=False)
        catalogue[catalogue[column].isin(rows[column])].to_csv(target / f"{name}.csv", index=False)


def _held_out(config: PipelineConfig, kind: str, data: Path, seed: int) -> PipelineConfig:
    files = config.data.model_copy(
        update={
            "interactions": config.data.interactions.model_copy(update={"files": str(data / "interactions.csv")}),
            "items": config.data.items.model_copy(update={"files": str(data / "items.csv")}),
            "queries": config.data.queries
            and config.data.queries.model_copy(update={"files": str(data / "users.csv")}),
            "split": SplitByLast(by="last", eval=0, test=1),
        }
    )
    return config.model_copy(
        update={
            "name": "quality",
            "root": str(ROOT),
            "data": files,
            "model": config.model.model_copy(update={"kind": kind}),
            "train": config.train.model_copy(update={"seed": seed}),
            "evaluation": config.evaluation.model_copy(update={"thresholds": ()}),
        }
    )


def _cell(values: list[float]) -> str:
    mean = statistics.mean(values)
    if len(values) == 1:
        return f"{mean:.3f}"
    half = T975[len(values) - 1] * statistics.stdev(values) / math.sqrt(len(values))
    return f"{mean:.3f} ± {half:.3f}"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, default=3, choices=range(1, len(T975) + 2))
    arguments = parser.parse_args()
    source, data = Path("data/movielens"), ROOT / "data"
    if not (source / "interactions.csv").exists():
        movielens(source)
    if not (data / "interactions.csv").exists():
        five_core(source, data)
    rows: dict[str, dict[str, list[float]]] = {}
    for name, (file, kind) in ROWS.items():
        for seed in range(1, arguments.seeds + 1):
            result = run_pipeline(_held_out(load_config(file), kind, data, seed))
            models = result.metrics["splits"]["test"]["models"]
            rows["most popular"] = {metric: [models["popular"]["overall"][metric]] for metric in METRICS}
            for metric in METRICS:
                rows.setdefault(name, {}).setdefault(metric, []).append(models["candidate"]["overall"][metric])
    print("| model | " + " | ".join(METRICS) + " |\n|---|" + "---|" * len(METRICS))
    for name, row in rows.items():
        print(f"| {name} | " + " | ".join(_cell(row[metric]) for metric in METRICS) + " |")


if __name__ == "__main__":
    main()
