"""Artifact types that TFX does not have."""

from tfx.types import artifact


class ItemIndex(artifact.Artifact):
    """A ScaNN index over the item embeddings of one model, with the item ids beside it."""

    TYPE_NAME = "ItemIndex"
    PROPERTIES = {
        "recall": artifact.Property(type=artifact.PropertyType.FLOAT),
        "items": artifact.Property(type=artifact.PropertyType.INT),
    }


class ItemCounts(artifact.Artifact):
    """How often each candidate stands in the train split.

    One file `counts.tfrecord.gz` of tf.Examples {item_key bytes[1], candidate_index int64[1],
    item_count int64[1]}, sorted by candidate_index.
    """

    TYPE_NAME = "ItemCounts"


class Quarantine(artifact.Artifact):
    """Rows that could not be used, with their place and the reason: JSON lines, one a row."""

    TYPE_NAME = "Quarantine"


class RetrievalRelease(artifact.Artifact):
    """A query tower and an item index, published under one version."""

    TYPE_NAME = "RetrievalRelease"
    PROPERTIES = {"version": artifact.Property(type=artifact.PropertyType.INT)}
