"""Prepares a data set in a process of its own: `python -m pipeline.experiments.preparation JOB.json`."""

from __future__ import annotations

import json
import sys
from collections import defaultdict
from pathlib import Path
from typing import Any

from components.ingestion.ordering import Interaction, in_order, split_seed
from pipeline.config import PipelineConfig
from pipeline.experiments import exchange
from pipeline.experiments.preparation.held_out import HeldOut
from pipeline.progress import quiet
from pipeline.run import RunError, run_components

POPULAR = "popular.npz"
BATCH = 4096


def _pipeline(config: PipelineConfig) -> Any:
    from pipeline.pipeline import local_pipeline, prepare

    return local_pipeline(config, prepare(config).components)


def _interactions(folder: Path, config: PipelineConfig) -> list[tuple[str, str, int]]:
    """(query id, item id, unix seconds) of a split of the raw examples."""
    import tensorflow as tf

    spec = config.feature_spec
    columns = {
        spec.query_id: tf.io.FixedLenFeature([], tf.string),
        spec.item_id: tf.io.FixedLenFeature([], tf.string),
        spec.timestamp: tf.io.FixedLenFeature([], tf.int64),
    }
    files = sorted(str(file) for file in folder.iterdir())
    rows: list[tuple[str, str, int]] = []
    for batch in tf.data.TFRecordDataset(files, compression_type="GZIP").batch(BATCH):
        parsed = tf.io.parse_example(batch, columns)
        queries, items, seconds = (parsed[key].numpy().tolist() for key in columns)
        rows += [(q.decode(), i.decode(), s) for q, i, s in zip(queries, items, seconds, strict=True)]
    return rows


def _categories(folder: Path, config: PipelineConfig) -> dict[str, str]:
    import tensorflow as tf

    spec = config.feature_spec
    categories = {}
    for record in tf.data.TFRecordDataset([str(f) for f in folder.iterdir()], compression_type="GZIP"):
        feature = tf.train.Example.FromString(record.numpy()).features.feature
        category = feature[spec.category].bytes_list.value
        categories[feature[spec.item_id].bytes_list.value[0].decode()] = category[0].decode() if category else ""
    return categories


def _in_time_order(rows: list[tuple[str, str, int]], config: PipelineConfig) -> list[tuple[str, str, int, int]]:
    """(query id, item id, unix seconds, position), sorted by query and position."""
    seed = split_seed(config.data.split)
    by_query: dict[str, list[Interaction]] = defaultdict(list)
    for query, item, seconds in rows:
        by_query[query].append(Interaction(item.encode(), seconds, b""))
    return [
        (query, interaction.item_id.decode(), interaction.timestamp, position)
        for query, interactions in sorted(by_query.items())
        for position, interaction in enumerate(in_order(query.encode(), interactions, seed, deduplicate=False))
    ]


def prepare(job: dict[str, Any]) -> None:
    """Runs the pipeline's first part and writes what cells, report and peers need.

    Args:
      job: "config": a PipelineConfig as JSON text, "held_out": the split that is ranked, "folder": gets held_out.npz,
        popular.npz and at last artifacts.json, "exchange": gets the CSV files.

    Raises:
      RunError: a component failed.
      ValueError: no interaction is held out.
    """
    config = PipelineConfig.model_validate_json(job["config"])
    outputs, log = run_components(config, lambda: _pipeline(config))
    with quiet(log):
        _write(config, job["held_out"], Path(job["folder"]), Path(job["exchange"]), outputs)


def _write(config: PipelineConfig, split: str, folder: Path, shared: Path, outputs: dict[str, Path]) -> None:
    import tensorflow_transform as tft

    from models.features import ITEM_VOCABULARY

    examples = outputs["RetrievalExampleGen.examples"]
    graph = outputs["Transform.transform_graph"]
    train = _in_time_order(_interactions(examples / "Split-train", config), config)
    rows = [(query, item) for query, item, _ in _interactions(examples / f"Split-{split}", config)]
    categories = _categories(examples / "Split-items", config)
    catalogue = [item.decode() for item in tft.TFTransformOutput(str(graph)).vocabulary_by_name(ITEM_VOCABULARY)]
    by_query: dict[str, list[str]] = defaultdict(list)
    for query, item, *_ in train:
        by_query[query].append(item)
    held_out = HeldOut.build(by_query, rows, catalogue, categories)
    held_out.save(folder)
    queries, items = held_out.query_id.tolist(), held_out.item_id.tolist()
    exchange.write_ranks(folder / POPULAR, queries, items, held_out.rank_by_popularity())
    exchange.write_folder(shared, train, zip(queries, items, strict=True), sorted(categories.items()))
    artifacts = {
        "train": str(outputs["NegativeSampler.sampled_examples"] / "Split-train"),
        "items": str(outputs["NegativeSampler.sampled_examples"] / "Split-items"),
        "held_out": str(examples / f"Split-{split}"),
        "transform_graph": str(graph),
    }
    temporary = folder / ".tmp-artifacts.json"
    temporary.write_text(json.dumps(artifacts, indent=2))
    temporary.replace(folder / "artifacts.json")


if __name__ == "__main__":
    try:
        prepare(json.loads(Path(sys.argv[1]).read_text()))
    except RunError as e:
        sys.exit(str(e))
