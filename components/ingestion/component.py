"""RetrievalExampleGen: interactions and catalogues to tf.Examples."""

from __future__ import annotations

from tfx import types
from tfx.dsl.components.base import base_beam_component, executor_spec
from tfx.types import standard_artifacts
from tfx.types.component_spec import ChannelParameter, ExecutionParameter

from components.artifacts import Quarantine
from components.ingestion.executor import Executor


class RetrievalExampleGenSpec(types.ComponentSpec):
    """Inputs, outputs and parameters of RetrievalExampleGen."""

    PARAMETERS = {
        "config": ExecutionParameter(type=str),
        "code_fingerprint": ExecutionParameter(type=str),
        "input_fingerprint": ExecutionParameter(type=str),
    }
    INPUTS = {}
    OUTPUTS = {
        "examples": ChannelParameter(type=standard_artifacts.Examples),
        "queries": ChannelParameter(type=standard_artifacts.Examples),
        "quarantine": ChannelParameter(type=Quarantine),
    }


class RetrievalExampleGen(base_beam_component.BaseBeamComponent):
    """Reads interactions, items and queries, and writes raw tf.Examples with point-in-time histories.

    A file is read by one worker, so a big log is best given as several files.

    Outputs:
      examples: Examples, splits "train", "eval" and "test" as far as the config asks for them, "items".
      queries: Examples, split "queries": one row per known query, as of the end of the data.
      quarantine: Quarantine, the rows that could not be used.
    """

    SPEC_CLASS = RetrievalExampleGenSpec
    EXECUTOR_SPEC = executor_spec.BeamExecutorSpec(Executor)

    def __init__(self, *, config: str, code_fingerprint: str, input_fingerprint: str) -> None:
        """Makes the node.

        Args:
          config: IngestionConfig as JSON.
          code_fingerprint: of the code that runs, so that TFX's cache notices a change of it.
          input_fingerprint: `fingerprint.input_fingerprint(config)`, so that it notices changed files.
        """
        super().__init__(
            spec=RetrievalExampleGenSpec(
                config=config,
                code_fingerprint=code_fingerprint,
                input_fingerprint=input_fingerprint,
                examples=types.Channel(type=standard_artifacts.Examples),
                queries=types.Channel(type=standard_artifacts.Examples),
                quarantine=types.Channel(type=Quarantine),
            )
        )
