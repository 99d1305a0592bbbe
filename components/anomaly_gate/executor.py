"""Executor of AnomalyGate."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from apache_beam.io.filesystems import FileSystems
from tensorflow_metadata.proto.v0 import anomalies_pb2
from tfx import types
from tfx.dsl.components.base import base_executor
from tfx.dsl.io import fileio
from tfx.types import artifact_utils

from components.gates import GateRefusedError

ANOMALIES_FILE = "SchemaDiff.pb"  # ExampleValidator writes one in each split's folder
REMEDY = (
    "Mend the data (a span: deliver it again, or name it in data.split.skip; eval is the run's own span, train those "
    "before it), or change what the configuration declares of the features (required, min, max, values)"
)


class AnomaliesFoundError(GateRefusedError):
    """The data is not what the schema promises."""


def _lines(split: str, anomalies: anomalies_pb2.Anomalies) -> Iterator[str]:
    for name, info in sorted(anomalies.anomaly_info.items()):
        yield f"{split}: {name}: {info.short_description}: {info.description}"
    if anomalies.HasField("dataset_anomaly_info"):
        info = anomalies.dataset_anomaly_info
        yield f"{split}: whole split: {info.short_description}: {info.description}"


class Executor(base_executor.BaseExecutor):
    """Stops the run where ExampleValidator, which only marks anomalies, found some."""

    def Do(
        self,
        input_dict: dict[str, list[types.Artifact]],
        output_dict: dict[str, list[types.Artifact]],
        exec_properties: dict[str, Any],
    ) -> None:
        """Reads the anomalies.

        Args:
          input_dict:
            - interactions: ExampleAnomalies of the splits train, eval and test.
            - items: ExampleAnomalies of the split items.
          output_dict: empty. TFX then reuses a gate that passed as long as its inputs are the same
            artifacts; one that failed is never reused.
          exec_properties: code_fingerprint, not read.

        Raises:
          AnomaliesFoundError: one line for each anomaly, with split, feature, and what is wrong.
        """
        self._log_startup(input_dict, output_dict, exec_properties)
        lines: list[str] = []
        for key in ("interactions", "items"):
            artifact = artifact_utils.get_single_instance(input_dict[key])
            for split in artifact_utils.decode_split_names(artifact.split_names):
                path = FileSystems.join(artifact_utils.get_split_uri([artifact], split), ANOMALIES_FILE)
                with fileio.open(path, "rb") as file:
                    lines += _lines(split, anomalies_pb2.Anomalies.FromString(file.read()))
        if lines:
            raise AnomaliesFoundError(
                "\n".join([f"the data does not fit its schema ({len(lines)} anomalies):", *lines, REMEDY])
            )
