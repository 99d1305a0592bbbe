"""Executor of the NegativeSampler."""

from __future__ import annotations

import logging
from typing import Any

import apache_beam as beam
import tensorflow as tf
from apache_beam.pvalue import AsDict, AsIter, AsSingleton
from tfx import types
from tfx.components.util import examples_utils
from tfx.dsl.components.base import base_beam_executor
from tfx.proto import example_gen_pb2
from tfx.types import artifact_utils
from tfx.utils import path_utils

from components.embedding.inputs import unmet_inputs
from components.negative_sampler.config import NegativesConfig
from components.negative_sampler.mining import MineHardNegatives
from components.negative_sampler.rows import TrainRow, parse_item_row, parse_train_row
from components.negative_sampler.sampling import Distribution
from components.negative_sampler.transforms import (
    SampleQueries,
    SampleRows,
    WriteFiles,
    counts_by_index,
    write_catalogue,
)
from models.config import FeatureSpec

progress = logging.getLogger("retrieval.progress")

# One output file per so many bytes of (gzipped) input: its rows are sorted in one process.
BYTES_PER_FILE = 16 * 2**20


class Executor(base_beam_executor.BaseBeamExecutor):
    """Draws the negatives of each train row and counts the positives of each item."""

    def Do(
        self,
        input_dict: dict[str, list[types.Artifact]],
        output_dict: dict[str, list[types.Artifact]],
        exec_properties: dict[str, Any],
    ) -> None:
        """Runs the sampling.

        Args:
          input_dict:
            - examples: one Examples artifact, transformed, with splits `train` and `items`.
            - raw_examples: the same before Transform. Read for hard negatives only.
            - blessed_model: optional, the model that ranks the catalogue for hard negatives. Without it, or if it
              reads features that the examples no longer have in that kind, all of them are -1.
          output_dict:
            - sampled_examples: split `train`, the rows with `negative_indices` and `negative_log_q`, and
              `hard_negative_indices` if there are to be any; split `items`, the catalogue with `item_count`.
            - item_counts: ItemCounts.
          exec_properties:
            - config: JSON of a NegativesConfig.
            - features: JSON of a FeatureSpec, the names of the raw columns.
            - code_fingerprint: not read; only there for the cache.

        Raises:
          ValueError: a row lacks a column, an item is not in the catalogue, a query that knows every item
            has none left to draw, raw and transformed examples are not of the same rows, or the blessed
            model lacks a signature.
        """
        config = NegativesConfig.model_validate_json(exec_properties["config"])
        [source] = input_dict["examples"]
        train = examples_utils.get_split_file_patterns([source], "train")[0]
        catalogue = examples_utils.get_split_file_patterns([source], "items")[0]

        [target] = output_dict["sampled_examples"]
        target.split_names = artifact_utils.encode_split_names(["train", "items"])
        examples_utils.set_payload_format(target, example_gen_pb2.FORMAT_TF_EXAMPLE)  # type: ignore[attr-defined]
        train_folder = artifact_utils.get_split_uri([target], "train")
        items_file = f"{artifact_utils.get_split_uri([target], 'items')}/data_tfrecord-00000-of-00001.gz"
        counts_file = f"{artifact_utils.get_single_uri(output_dict['item_counts'])}/counts.tfrecord.gz"

        miner, raw_patterns = None, {}
        if config.hard_per_positive and not input_dict.get("blessed_model"):
            progress.info("no hard negatives in this run: there is no blessed model yet")
        elif config.hard_per_positive:
            model = path_utils.serving_model_path(artifact_utils.get_single_uri(input_dict["blessed_model"]))
            spec = FeatureSpec.model_validate_json(exec_properties["features"])
            if unmet := unmet_inputs(model, spec):
                progress.info("no hard negatives in this run: the last blessed model reads %s", unmet)
            else:
                miner = MineHardNegatives(model, spec, config.hard_from)
                raw_patterns = {
                    split: examples_utils.get_split_file_patterns(input_dict["raw_examples"], split)[0]
                    for split in ("train", "items")
                }

        size = sum(tf.io.gfile.stat(file).length for file in tf.io.gfile.glob(train))
        with self._make_beam_pipeline() as pipeline:
            rows = pipeline | "ReadTrain" >> beam.io.ReadFromTFRecord(train) | "ParseTrain" >> beam.Map(parse_train_row)
            items = (
                pipeline | "ReadItems" >> beam.io.ReadFromTFRecord(catalogue) | "ParseItems" >> beam.Map(parse_item_row)
            )
            positives = (
                rows
                | "Positive" >> beam.Map(lambda row: row[1]).with_output_types(int)
                | "CountPositives" >> beam.combiners.Count.PerElement()
            )
            counts = (
                pipeline
                | "OneCatalogue" >> beam.Create([None])
                | "Counts"
                >> beam.Map(
                    lambda _, items, positives: counts_by_index(items, positives),
                    AsIter(items | "ItemIndex" >> beam.Map(lambda item: item[:2])),
                    AsDict(positives),
                )
            )
            distribution = AsSingleton(counts | "Distribution" >> beam.Map(Distribution.from_counts, config))
            if config.hard_per_positive or (config.exclude_known and config.per_positive):
                groups = {
                    "rows": rows
                    | "KeyByQuery" >> beam.Map(lambda row: (row[0], row)).with_output_types(tuple[bytes, TrainRow])
                }
                if miner:
                    raw = {
                        f"raw_{split}": pipeline | f"ReadRaw {split}" >> beam.io.ReadFromTFRecord(pattern)
                        for split, pattern in raw_patterns.items()
                    }
                    groups["ranked"] = {"rows": rows, "items": items, **raw} | "MineHardNegatives" >> miner
                sampled = (
                    groups
                    | "GroupByQuery" >> beam.CoGroupByKey()
                    | "SampleQueries" >> beam.ParDo(SampleQueries(config), distribution)
                )
            else:
                sampled = rows | "SampleRows" >> beam.ParDo(SampleRows(config), distribution)
            sampled | "WriteTrain" >> WriteFiles(train_folder, files=max(1, -(-size // BYTES_PER_FILE)))
            (
                pipeline
                | "OneCatalogueFile" >> beam.Create([None])
                | "WriteCatalogue"
                >> beam.Map(write_catalogue, AsIter(items), AsSingleton(counts), items_file, counts_file)
            )
