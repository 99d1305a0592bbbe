"""The stages of a run, each of which a scheduler starts, retries and watches by itself. Imports no TensorFlow."""

from __future__ import annotations

from enum import Enum


class Stage(str, Enum):
    """In the order they run in. A run goes on to a stage's end, and what ran before comes from the cache."""

    INGEST = "ingest"  # files to tf.Examples
    VALIDATE = "validate"  # statistics, anomalies, drift, volume
    TRAIN = "train"  # transform, sample, train
    EVALUATE = "evaluate"  # index, rank, bless
    RELEASE = "release"  # try in a server, publish

    @property
    def last_component(self) -> str:
        """The id of the component that the stage ends with."""
        return _LAST[self]


_LAST = {
    Stage.INGEST: "RetrievalExampleGen",
    Stage.VALIDATE: "AnomalyGate",
    Stage.TRAIN: "Trainer",
    Stage.EVALUATE: "RetrievalEvaluator",
    Stage.RELEASE: "ReleasePusher",
}
