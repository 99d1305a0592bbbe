"""Executor of the Trainer."""

from __future__ import annotations

import json
from typing import Any

from tfx import types
from tfx.components.trainer.executor import GenericExecutor
from tfx.dsl.io import fileio
from tfx.types import artifact_utils

from models.warm_start import start_file

COLD_START = "cold_start"  # custom property of a Model: why it was trained cold, "" if it went on from base_model


class Executor(GenericExecutor):
    """TFX's executor; afterwards history and lineage can read in the metadata what run_fn did with the base model."""

    def Do(
        self,
        input_dict: dict[str, list[types.Artifact]],
        output_dict: dict[str, list[types.Artifact]],
        exec_properties: dict[str, Any],
    ) -> None:
        """Trains, and sets the Model's custom property `cold_start`; the arguments are TFX's."""
        super().Do(input_dict, output_dict, exec_properties)
        model = artifact_utils.get_single_instance(output_dict["model"])
        with fileio.open(start_file(model.uri)) as file:
            model.set_string_custom_property(COLD_START, json.load(file)["cold"])
