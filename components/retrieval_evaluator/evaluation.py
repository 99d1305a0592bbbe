"""The evaluation as one Beam transform, and what it writes."""

from __future__ import annotations

import json
import uuid
from collections.abc import Sequence
from typing import Any

import apache_beam as beam
import tensorflow as tf
from apache_beam.pvalue import AsDict, AsIter, AsSingleton
from apache_beam.utils import shared

from components.embedding.embedder import Embedder
from components.retrieval_evaluator.blessing import decide
from components.retrieval_evaluator.bootstrap import ratio
from components.retrieval_evaluator.catalogue import Catalogue
from components.retrieval_evaluator.config import EvaluationConfig
from components.retrieval_evaluator.embedding import EmbedItems
from components.retrieval_evaluator.metrics import UNIT, metric_names
from components.retrieval_evaluator.ranking import REPEATS, AddSums, JoinSeen, RankByModel, RankByPopularity, Sums
from components.retrieval_evaluator.rows import parse_count, parse_interaction, parse_item
from models.config import FeatureSpec

BATCH = 512


class Evaluate(beam.PTransform):
    """Ranks the whole catalogue for each held-out interaction and writes metrics.json.

    Args:
      patterns: file pattern of each split, "train" and "items" and the held-out ones, "eval" or "test".
      counts_file: of the artifact ItemCounts.
      models: SavedModel folder by name, "candidate" and perhaps "blessed".
      spec: names of the raw columns.
      config: what to compute and the thresholds.
      left_out: why there is a blessed model that is not among `models`; None if there is none such.
      output: path of metrics.json.
    """

    def __init__(
        self,
        *,
        patterns: dict[str, str],
        counts_file: str,
        models: dict[str, str],
        spec: FeatureSpec,
        config: EvaluationConfig,
        left_out: str | None,
        output: str,
    ) -> None:
        super().__init__()
        self._patterns = patterns
        self._counts_file = counts_file
        self._embedders = {name: Embedder(folder, shared.Shared()) for name, folder in models.items()}
        self._spec = spec
        self._config = config
        self._left_out = left_out
        self._output = output

    def expand(self, pipeline: beam.Pipeline) -> beam.PCollection:
        interactions = {
            split: pipeline
            | f"Read {split}" >> beam.io.ReadFromTFRecord(pattern)
            | f"Parse {split}" >> beam.Map(parse_interaction, self._spec, split)
            for split, pattern in self._patterns.items()
            if split != "items"
        }
        items = (
            pipeline
            | "Read items" >> beam.io.ReadFromTFRecord(self._patterns["items"])
            | "Parse items" >> beam.Map(parse_item, self._spec)
        )
        counts = (
            pipeline
            | "Read counts" >> beam.io.ReadFromTFRecord(self._counts_file)
            | "Parse counts" >> beam.Map(parse_count)
        )
        one = pipeline | "One" >> beam.Create([None])
        catalogue = one | "Catalogue" >> beam.Map(
            lambda _, items, counts: Catalogue.build(items, counts),
            AsIter(items | "Item and category" >> beam.Map(lambda item: item[:2])),
            AsDict(counts),
        )
        batches = items | "Batch items" >> beam.BatchElements(BATCH, BATCH)
        embeddings = {
            name: one
            | f"Arrange items of {name}"
            >> beam.Map(
                lambda _, catalogue, embedded: catalogue.arrange(embedded),
                AsSingleton(catalogue),
                AsIter(batches | f"Embed items by {name}" >> beam.ParDo(EmbedItems(embedder))),
            )
            for name, embedder in self._embedders.items()
        }
        splits = [split for split in ("eval", "test") if split in interactions]
        results, repeats = [], []
        for split in splits:
            metrics, left_out = self._rank(split, interactions, catalogue, embeddings)
            results.append(metrics)
            repeats.append(left_out)
        return one | "Write metrics" >> beam.Map(
            _write_metrics,
            AsDict(results | "All metrics" >> beam.Flatten()),
            AsDict(repeats | "All repeats" >> beam.Flatten()),
            self._config,
            self._left_out,
            self._output,
        )

    def _rank(
        self,
        split: str,
        interactions: dict[str, beam.PCollection],
        catalogue: beam.PCollection,
        embeddings: dict[str, beam.PCollection],
    ) -> tuple[beam.PCollection, beam.PCollection]:
        """Sums keyed by (split, model, dimension, value), and (split, number of repeats)."""

        def item_ids(earlier: str) -> beam.PCollection:
            return interactions[earlier] | f"{earlier} before {split}" >> beam.MapTuple(
                lambda query, row: (query, row[0])
            )

        groups = {"rows": interactions[split], "train": item_ids("train")}
        if split == "test" and "eval" in interactions:
            groups["earlier"] = item_ids("eval")
        joined = (
            groups
            | f"Group {split}" >> beam.CoGroupByKey()
            | f"Join seen, {split}"
            >> beam.ParDo(JoinSeen(self._config.exclude_seen)).with_outputs(REPEATS, main="rows")
        )
        batches = joined.rows | f"Batch {split}" >> beam.BatchElements(BATCH, BATCH)
        ks, draw = self._config.ks, len(self._embedders) > 1
        ranked = [
            batches | f"Rank {split} by popularity" >> beam.ParDo(RankByPopularity(ks), AsSingleton(catalogue)),
            *(
                batches
                | f"Rank {split} by {name}"
                >> beam.ParDo(
                    RankByModel(name, embedder, ks, draw), AsSingleton(catalogue), AsSingleton(embeddings[name])
                )
                for name, embedder in self._embedders.items()
            ),
        ]
        metrics = (
            ranked
            | f"All sums of {split}" >> beam.Flatten()
            | f"Add up {split}" >> beam.CombinePerKey(AddSums())
            | f"Name {split}" >> beam.MapTuple(lambda key, values: ((split, *key), values))
        )
        repeats = (
            joined[REPEATS]
            | f"Count repeats of {split}" >> beam.combiners.Count.Globally()
            | f"Name repeats of {split}" >> beam.Map(lambda number: (split, number))
        )
        return metrics, repeats


def assemble(sums: dict[tuple[str, str, str, str], Sums], repeats: dict[str, int], ks: Sequence[int]) -> dict[str, Any]:
    """The "splits" of metrics.json.

    Args:
      sums: by (split, model, dimension, value).
      repeats: rows left out because their target was seen, by split.
      ks: cut-offs of the metrics.

    Raises:
      ValueError: a split has no row to evaluate.
    """
    names = metric_names(ks)
    splits: dict[str, Any] = {}
    for split, left_out in sorted(repeats.items()):
        of_split = {key[1:]: value for key, value in sorted(sums.items()) if key[0] == split}
        if not of_split:
            raise ValueError(
                f"split {split} has no row to evaluate ({left_out} left out, for their item was seen before)"
            )
        models: dict[str, Any] = {}
        compared: dict[str, Any] = {}
        for (model, dimension, value), (rows, totals) in of_split.items():
            slices = models.setdefault(model, {"unscorable_rows": 0})
            means = {**dict(zip(names, (totals[0] * UNIT / rows).tolist(), strict=True)), "rows": rows}
            if dimension == "overall":
                slices[dimension] = means
            elif dimension == "unscorable":
                slices["unscorable_rows"] = rows
            else:
                slices.setdefault(dimension, {})[value] = means
            blessed = of_split.get(("blessed", dimension, value))
            if model == "candidate" and blessed is not None and dimension != "unscorable":
                columns = zip(names, totals.T, blessed[1].T, strict=True)
                ratios = {name: ratio(mine, theirs)._asdict() for name, mine, theirs in columns}
                compared.setdefault(dimension, {})[value] = ratios
        splits[split] = {
            "rows": models["candidate"]["overall"]["rows"],
            "repeats_left_out": left_out,
            "models": models,
            **({"ratio_to_blessed": compared} if compared else {}),
        }
    return splits


def _write_metrics(
    _: None,
    sums: dict[tuple[str, str, str, str], Sums],
    repeats: dict[str, int],
    config: EvaluationConfig,
    left_out: str | None,
    path: str,
) -> None:
    splits = assemble(sums, repeats, config.ks)
    checks = decide(splits, config, left_out)
    verdict = {
        "blessed": all(check.met for check in checks),
        "reasons": [check.reason for check in checks],
        "refused": [check.reason for check in checks if not check.met],
        "blessed_left_out": left_out,
    }
    temporary = f"{path}.tmp-{uuid.uuid4().hex}"
    with tf.io.gfile.GFile(temporary, "w") as file:
        file.write(json.dumps({"splits": splits, **verdict}, indent=2, allow_nan=False))
    tf.io.gfile.rename(temporary, path, overwrite=True)
