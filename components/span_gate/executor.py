"""Executor of SpanGate."""

from __future__ import annotations

import json
from typing import Any

import tensorflow_data_validation as tfdv
from absl import logging
from tensorflow_metadata.proto.v0 import schema_pb2, statistics_pb2
from tfx import types
from tfx.dsl.components.base import base_executor
from tfx.types import artifact_utils
from tfx.utils import io_utils

from components.gates import GateRefusedError
from components.schema.executor import FILE_NAME
from components.span_gate.checks import distance_problems, volume_problems
from components.span_gate.config import GatesConfig

STATISTICS_FILE = "FeatureStats.pb"


class SpanRefusedError(GateRefusedError):
    """A span is not like those before it."""


def _statistics(artifact: types.Artifact, split: str) -> statistics_pb2.DatasetFeatureStatisticsList:
    return tfdv.load_stats_binary(f"{artifact_utils.get_split_uri([artifact], split)}/{STATISTICS_FILE}")


class Executor(base_executor.BaseExecutor):
    """Stops the run where its span is not like those before it."""

    def Do(
        self,
        input_dict: dict[str, list[types.Artifact]],
        output_dict: dict[str, list[types.Artifact]],
        exec_properties: dict[str, Any],
    ) -> None:
        """Compares the span.

        Args:
          input_dict:
            - examples: Examples of ingestion; the custom property `span_rows` is read.
            - statistics: ExampleStatistics of the splits train and eval.
            - schema: Schema of the interactions, with drift and skew comparators.
            - previous_statistics: optional, ExampleStatistics of an earlier span's run, whose eval split is that span.
          output_dict: empty, as of AnomalyGate and for the same reason.
          exec_properties:
            - config: GatesConfig as JSON.
            - code_fingerprint: not read.

        Raises:
          SpanRefusedError: one line for each gate that refuses, with the measured value and the limit.
        """
        self._log_startup(input_dict, output_dict, exec_properties)
        config = GatesConfig.model_validate_json(exec_properties["config"])
        examples = artifact_utils.get_single_instance(input_dict["examples"])
        statistics = artifact_utils.get_single_instance(input_dict["statistics"])
        schema = io_utils.parse_pbtxt_file(
            f"{artifact_utils.get_single_uri(input_dict['schema'])}/{FILE_NAME}", schema_pb2.Schema()
        )
        span = examples.span
        problems: list[str] = []
        if config.volume is not None:
            rows = json.loads(examples.get_string_custom_property("span_rows"))
            problems += volume_problems({int(s): n for s, n in rows.items()}, span, config.volume)
        eval_statistics = _statistics(statistics, "eval")
        if config.skew is not None:
            anomalies = tfdv.validate_statistics(
                _statistics(statistics, "train"), schema, serving_statistics=eval_statistics
            )
            problems += distance_problems(anomalies, "skew", f"span {span} against the window before it")
        if config.drift is not None and input_dict.get("previous_statistics"):
            previous = artifact_utils.get_single_instance(input_dict["previous_statistics"])
            anomalies = tfdv.validate_statistics(
                eval_statistics, schema, previous_statistics=_statistics(previous, "eval")
            )
            problems += distance_problems(anomalies, "drift", f"span {span} against span {previous.span}")
        elif config.drift is not None:
            logging.info("gates.drift is not checked: no earlier span has statistics.")
        if problems:
            raise SpanRefusedError("\n".join(problems))
