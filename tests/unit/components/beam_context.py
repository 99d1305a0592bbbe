"""The context of an executor that runs Beam."""

from __future__ import annotations

from typing import Any

import apache_beam as beam
from tfx.dsl.components.base.base_beam_executor import BaseBeamExecutor

TWO_THREADS = ("--direct_running_mode=multi_threading", "--direct_num_workers=2")


def beam_context(beam_args: tuple[str, ...] = (), **context: Any) -> BaseBeamExecutor.Context:
    """Not by `beam_pipeline_args`: for any of them TFX makes a source distribution of itself."""
    return BaseBeamExecutor.Context(make_beam_pipeline_fn=lambda: beam.Pipeline(argv=list(beam_args)), **context)
