"""TFX's Trainer, which also records how training began."""

from __future__ import annotations

from tfx.components import Trainer as TfxTrainer
from tfx.dsl.components.base import executor_spec

from components.trainer.executor import Executor


class Trainer(TfxTrainer):
    """TFX's Trainer for models.trainer.run_fn.

    Its input `base_model` is what a run is offered to go on from; the Model's custom property `cold_start` says whether
    it did. Constructed as TFX's.
    """

    EXECUTOR_SPEC = executor_spec.ExecutorClassSpec(Executor)
