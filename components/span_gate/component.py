"""SpanGate: stops the run when a span is not like those before it."""

from __future__ import annotations

from tfx import types
from tfx.dsl.components.base import base_component, executor_spec
from tfx.types import standard_artifacts
from tfx.types.component_spec import ChannelParameter, ExecutionParameter

from components.span_gate.executor import Executor


class SpanGateSpec(types.ComponentSpec):
    """Inputs, outputs and parameters of SpanGate."""

    PARAMETERS = {"config": ExecutionParameter(type=str), "code_fingerprint": ExecutionParameter(type=str)}
    INPUTS = {
        "examples": ChannelParameter(type=standard_artifacts.Examples),
        "statistics": ChannelParameter(type=standard_artifacts.ExampleStatistics),
        "schema": ChannelParameter(type=standard_artifacts.Schema),
        "previous_statistics": ChannelParameter(type=standard_artifacts.ExampleStatistics, optional=True),
    }
    OUTPUTS = {}


class SpanGate(base_component.BaseComponent):
    """Checks volume, drift and skew of a span. Downstream nodes need `add_upstream_node(gate)`."""

    SPEC_CLASS = SpanGateSpec
    EXECUTOR_SPEC = executor_spec.ExecutorClassSpec(Executor)

    def __init__(
        self,
        *,
        examples: types.BaseChannel,
        statistics: types.BaseChannel,
        schema: types.BaseChannel,
        previous_statistics: types.BaseChannel,
        config: str,
        code_fingerprint: str,
    ) -> None:
        """Makes the node.

        Args:
          examples: Examples of ingestion, in a split by span.
          statistics: ExampleStatistics of its splits train and eval.
          schema: Schema of the interactions, with comparators.
          previous_statistics: ExampleStatistics of the span before, if there are some.
          config: GatesConfig as JSON.
          code_fingerprint: of the code that runs, so that TFX's cache notices a change of it.
        """
        super().__init__(
            spec=SpanGateSpec(
                examples=examples,
                statistics=statistics,
                schema=schema,
                previous_statistics=previous_statistics,
                config=config,
                code_fingerprint=code_fingerprint,
            )
        )
