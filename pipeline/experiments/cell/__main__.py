"""Trains and ranks one cell: `python -m pipeline.experiments.cell JOB.json`. All output goes to the cell's log."""

from __future__ import annotations

import json
import logging
import sys
import time
from collections.abc import Collection, Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import tensorflow as tf
import tensorflow_transform as tft

from models import features
from models.config import FeatureSpec, Kind
from models.data import load_catalogue
from models.features import Encodings
from models.retrieval_model import RetrievalModel
from models.trainer import Settings, train
from pipeline.experiments.exchange import write_ranks
from pipeline.experiments.preparation.held_out import LIGHT, NEW_QUERY_ITEMS, HeldOut

BATCH = 1024
NEW_QUERY_ROWS = 2_500  # held-out rows that are ranked once more as new queries, at most


def _files(folder: str) -> list[str]:
    return sorted(str(file) for file in Path(folder).iterdir())


def _query_batches(records: list[bytes], spec: FeatureSpec, graph: tft.TFTransformOutput) -> Iterator[dict[str, Any]]:
    layer = graph.transform_features_layer()
    for start in range(0, len(records), BATCH):
        yield layer.call(tf.io.parse_example(records[start : start + BATCH], features.raw_query_spec(spec)))


def query_batches(
    folder: str, spec: FeatureSpec, graph: tft.TFTransformOutput, encodings: Encodings, held_out: HeldOut
) -> list[dict[str, tf.Tensor]]:
    """The held-out rows as a server would see them: raw features through the Transform graph.

    Args:
      folder: gzipped TFRecords of the raw held-out rows.
      spec: the declared features.
      graph: the Transform graph.
      encodings: the columns to take.
      held_out: the rows, whose order the result has.

    Returns:
      Batches of what the query tower takes, B rows in all.

    Raises:
      ValueError: the files' rows are not those of `held_out`.
    """
    by_pair = {}
    for record in tf.data.TFRecordDataset(_files(folder), compression_type="GZIP").as_numpy_iterator():
        feature = tf.train.Example.FromString(record).features.feature
        query, item = (feature[key].bytes_list.value[0].decode() for key in (spec.query_id, spec.item_id))
        by_pair[query, item] = record
    pairs = list(zip(held_out.query_id.tolist(), held_out.item_id.tolist(), strict=True))
    if set(pairs) != set(by_pair):
        raise ValueError(f"{folder} and {len(pairs)} prepared held-out rows differ; remove the prepared folder")
    batches = _query_batches([by_pair[pair] for pair in pairs], spec, graph)
    return [features.query_columns(batch, encodings) for batch in batches]


def embed_queries(model: RetrievalModel, batches: Iterable[Mapping[str, tf.Tensor]]) -> np.ndarray:
    """float32 [B, D] or [B, K, D]."""
    embed = tf.function(model.query_embeddings, autograph=False, reduce_retracing=True)
    return np.concatenate([embed(dict(batch)).numpy() for batch in batches])


def as_new(
    columns: Mapping[str, tf.Tensor], encodings: Encodings, histories: Collection[str], items: int
) -> dict[str, tf.Tensor]:
    """The same queries, had they come after training: unknown, and with short histories.

    Args:
      columns: what the query tower takes.
      encodings: of the query tower.
      histories: which of the columns are histories.
      items: the last so many of each history are kept.
    """
    unknown = tf.fill(tf.shape(columns[features.QUERY_INDEX]), tf.constant(encodings.query_rows - 1, tf.int64))
    changed = {features.QUERY_INDEX: unknown}
    for e in encodings.query:
        if e.key == encodings.query_id:
            changed[e.key] = tf.fill(tf.shape(unknown), tf.constant(e.missing, tf.int64))
        elif e.key in histories:
            present = tf.cast(columns[e.key] > 0, tf.int32)
            later = tf.cumsum(present, axis=1, exclusive=True, reverse=True)
            changed[e.key] = tf.where(later < items, columns[e.key], 0)
    return {**columns, **changed}


def embed_items(model: RetrievalModel, files: list[str], negatives: dict[str, Any]) -> np.ndarray:
    """float32 [N, D], the catalogue's embeddings by candidate index."""
    catalogue = load_catalogue(files, model.encodings, negatives)
    columns = {**catalogue.columns, features.CANDIDATE_INDEX: np.arange(len(catalogue.counts))}
    embed = tf.function(model.item_embeddings, autograph=False, reduce_retracing=True)
    parts = [
        embed({key: tf.constant(column[start : start + BATCH]) for key, column in columns.items()}).numpy()
        for start in range(0, len(catalogue.counts), BATCH)
    ]
    return np.concatenate(parts)


def run(job: dict[str, Any]) -> None:
    """Trains, ranks, and writes ranks.npz, light.npz and cell.json.

    Args:
      job: "config": {"features", "negatives", "model", "train"} as plain JSON; "columns": {"query_id", "item_id",
        "timestamp", "category"}; "row", "seed"; "prepared": the preparation's folder; "folder": where to write.
    """
    config, folder, prepared = job["config"], Path(job["folder"]), Path(job["prepared"])
    artifacts = json.loads((prepared / "artifacts.json").read_text())
    spec = FeatureSpec.model_validate_json(json.dumps({**job["columns"], "features": config["features"]}))
    settings = Settings.parse(
        {
            "features": spec.model_dump_json(),
            **{part: json.dumps(config[part]) for part in ("model", "train", "negatives")},
            "checkpoints": str(folder / "checkpoints"),
            "fingerprint": "cell",
        }
    )
    graph = tft.TFTransformOutput(artifacts["transform_graph"])
    train_files, item_files = _files(artifacts["train"]), _files(artifacts["items"])
    held_out = HeldOut.load(prepared)

    started = time.monotonic()
    history = tf.keras.callbacks.History()
    model = train(settings, train_files, item_files, graph, [history])
    trained = time.monotonic()
    batches = query_batches(artifacts["held_out"], spec, graph, model.encodings, held_out)
    items = embed_items(model, item_files, settings.negatives)
    rank = held_out.rank(embed_queries(model, batches), items)
    some = held_out.part(NEW_QUERY_ROWS)
    histories = {feature.name for feature in spec.features if feature.kind is Kind.HISTORY}
    light = []
    for n in NEW_QUERY_ITEMS:
        queries = embed_queries(model, (as_new(batch, model.encodings, histories, n) for batch in batches))
        light.append(held_out.rank(queries, items, some))
    np.savez_compressed(folder / LIGHT, rows=some, rank=np.stack(light))
    write_ranks(folder / "ranks.npz", held_out.query_id.tolist(), held_out.item_id.tolist(), rank)
    result = {
        "row": job["row"],
        "seed": job["seed"],
        "config": config,
        "curve": {name: [float(v) for v in values] for name, values in history.history.items()},
        "seconds": {"train": trained - started, "rank": time.monotonic() - trained},
    }
    (folder / "cell.json").write_text(json.dumps(result, indent=2))


if __name__ == "__main__":
    logging.basicConfig(level=logging.INFO, stream=sys.stdout)
    run(json.loads(Path(sys.argv[1]).read_text()))
