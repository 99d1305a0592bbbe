"""Whether the raw examples of a run are what an earlier model reads."""

from __future__ import annotations

import json
from typing import Any

import tensorflow as tf

from models.config import FeatureSpec


def unmet_inputs(folder: str, spec: FeatureSpec) -> str:
    """What a model reads that raw examples do not have, or have as another kind.

    Args:
      folder: of the SavedModel, as models.export writes it.
      spec: the features by which the examples were made.

    Returns:
      "'price' (item number, now item categorical), 'age' (query number, not declared now)"; "" if nothing is missing.
    """
    with tf.io.gfile.GFile(f"{folder}/assets.extra/model.json") as file:
        # As it was written, not as a FeatureSpec: that may have got other keys since.
        read = _inputs(json.load(file)["features"])
    there = _inputs(spec.model_dump(mode="json"))
    return ", ".join(
        f"{name!r} ({described}, {f'now {there[name]}' if name in there else 'not declared now'})"
        for name, described in read.items()
        if there.get(name) != described
    )


def _inputs(spec: dict[str, Any]) -> dict[str, str]:
    # Both ids stand in every row and are read, whether they are declared as features or not.
    ids = {spec["query_id"]: "query id", spec["item_id"]: "item id"}
    return ids | {feature["name"]: f"{feature['side']} {feature['kind']}" for feature in spec["features"]}
