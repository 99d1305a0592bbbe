"""Executor of ItemIndexer."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import apache_beam as beam
from tfx import types
from tfx.dsl.components.base import base_beam_executor
from tfx.types import artifact_utils
from tfx.utils import path_utils

from components.item_indexer.config import IndexConfig
from components.item_indexer.embedding import EmbedItems, EmbedSampledQueries, read_embedded
from components.item_indexer.measure import check, measure
from models.config import FeatureSpec
from serving.index import ItemIndex
from serving.index_builder import build_index
from serving.index_manifest import write_manifest
from serving.release import folder_fingerprint

ITEMS_SPLIT = "items"
QUERY_SPLITS = ("eval", "test", "train")  # the first that there is measures the index
TEMPORARY = ".embedded"


class Executor(base_beam_executor.BaseBeamExecutor):
    """Embeds the catalogue, builds the index, measures it and refuses it where its recall is too low."""

    def Do(
        self,
        input_dict: dict[str, list[types.Artifact]],
        output_dict: dict[str, list[types.Artifact]],
        exec_properties: dict[str, Any],
    ) -> None:
        """Runs the component.

        The embeddings are computed by Beam; ids, attributes and embeddings of the whole catalogue are then held in
        memory to sort and index them.

        Args:
          input_dict:
            model: Model with the signatures `item_examples` and `serialized_examples`.
            examples: raw Examples with the split "items" and at least one of "eval", "test" and "train".
          output_dict:
            index: ItemIndex; its folder is that of serving.index. Its properties `recall` and `items` are set.
          exec_properties:
            config: JSON of IndexConfig.
            features: JSON of FeatureSpec.
            show: JSON list of the columns to keep as attributes beside the category and those of `config.filter`.

        Raises:
          IndexRefusedError: the recall is below its limit.
          ItemIndexError: an item id stands twice in the catalogue, or an embedding has NaN.
        """
        config = IndexConfig.model_validate_json(exec_properties["config"])
        features = FeatureSpec.model_validate_json(exec_properties["features"])
        filters = list(dict.fromkeys([features.category, *config.filter]))
        attribute_keys = list(dict.fromkeys([*filters, *json.loads(exec_properties["show"])]))
        model = path_utils.serving_model_path(artifact_utils.get_single_instance(input_dict["model"]).uri)
        examples = artifact_utils.get_single_instance(input_dict["examples"])
        index = artifact_utils.get_single_instance(output_dict["index"])
        splits = artifact_utils.decode_split_names(examples.split_names)
        query_split = next(split for split in QUERY_SPLITS if split in splits)

        folder = Path(index.uri)
        temporary = folder / TEMPORARY
        with self._make_beam_pipeline() as pipeline:
            _ = (
                pipeline
                | "ReadItems" >> _read(examples, ITEMS_SPLIT)
                | "EmbedItems" >> EmbedItems(model, features.item_id, attribute_keys, temporary / "items")
            )
            _ = (
                pipeline
                | "ReadQueries" >> _read(examples, query_split)
                | "EmbedQueries"
                >> EmbedSampledQueries(model, features.query_id, config.sample_queries, temporary / "queries")
            )
        items, queries = read_embedded(temporary / "items"), read_embedded(temporary / "queries")
        shutil.rmtree(temporary)

        build_index(
            folder,
            embeddings=items.embeddings,
            ids=items.ids,
            attributes=items.attributes,
            model_fingerprint=folder_fingerprint(Path(model)),
            filters=filters,
            names=attribute_keys,
        )
        built = ItemIndex(folder)
        measurement = measure(built, queries.embeddings, config)
        check(measurement)
        write_manifest(folder, built.manifest.model_copy(update={"measurement": measurement}))
        index.recall = measurement.recall
        index.items = len(built)


def _read(examples: types.Artifact, split: str) -> beam.PTransform:
    return beam.io.ReadFromTFRecord(f"{artifact_utils.get_split_uri([examples], split)}/data_tfrecord-*.gz")
