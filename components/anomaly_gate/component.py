"""AnomalyGate: stops the run when the data is not what the schema promises."""

from __future__ import annotations

from tfx import types
from tfx.dsl.components.base import base_component, executor_spec
from tfx.types import standard_artifacts
from tfx.types.component_spec import ChannelParameter, ExecutionParameter

from components.anomaly_gate.executor import Executor


class AnomalyGateSpec(types.ComponentSpec):
    """Inputs, outputs and parameters of AnomalyGate."""

    PARAMETERS = {"code_fingerprint": ExecutionParameter(type=str)}
    INPUTS = {
        "interactions": ChannelParameter(type=standard_artifacts.ExampleAnomalies),
        "items": ChannelParameter(type=standard_artifacts.ExampleAnomalies),
    }
    OUTPUTS = {}


class AnomalyGate(base_component.BaseComponent):
    """Fails if ExampleValidator found anomalies. Downstream nodes need `add_upstream_node(gate)`."""

    SPEC_CLASS = AnomalyGateSpec
    EXECUTOR_SPEC = executor_spec.ExecutorClassSpec(Executor)

    def __init__(self, *, interactions: types.BaseChannel, items: types.BaseChannel, code_fingerprint: str) -> None:
        """Makes the node.

        Args:
          interactions: ExampleAnomalies of the splits train, eval and test.
          items: ExampleAnomalies of the split items.
          code_fingerprint: of the code that runs, so that TFX's cache notices a change of it.
        """
        super().__init__(
            spec=AnomalyGateSpec(interactions=interactions, items=items, code_fingerprint=code_fingerprint)
        )
