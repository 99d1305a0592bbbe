"""Executor of CuratedSchema."""

from __future__ import annotations

import json
from typing import Any

from apache_beam.io.filesystems import FileSystems
from tfx import types
from tfx.dsl.components.base import base_executor
from tfx.types import artifact_utils
from tfx.utils import io_utils

from components.schema.schemas import interaction_schema, item_schema, union_schema
from models.config import FeatureSpec

FILE_NAME = "schema.pbtxt"


class Executor(base_executor.BaseExecutor):
    """Writes the schemas of the declared features."""

    def Do(
        self,
        input_dict: dict[str, list[types.Artifact]],
        output_dict: dict[str, list[types.Artifact]],
        exec_properties: dict[str, Any],
    ) -> None:
        """Writes the three schemas.

        Args:
          input_dict: empty.
          output_dict:
            - interactions: Schema of the splits train, eval and test.
            - items: Schema of the split items.
            - union: Schema for Transform, of all splits.
          exec_properties:
            - features: FeatureSpec as JSON.
            - show: JSON list of the shown item columns.
            - distances: JSON {"drift", "skew"}, for each feature the largest distance that the gates allow.
            - code_fingerprint: not read.
        """
        self._log_startup(input_dict, output_dict, exec_properties)
        spec = FeatureSpec.model_validate_json(exec_properties["features"])
        schemas = {
            "interactions": interaction_schema(spec, **json.loads(exec_properties["distances"])),
            "items": item_schema(spec, json.loads(exec_properties["show"])),
            "union": union_schema(spec),
        }
        for key, schema in schemas.items():
            uri = artifact_utils.get_single_uri(output_dict[key])
            io_utils.write_pbtxt_file(FileSystems.join(uri, FILE_NAME), schema)
