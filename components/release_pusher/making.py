"""From a component's inputs to a release."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from tfx import types
from tfx.types import artifact_utils
from tfx.utils import path_utils

from components.release_pusher.queries import read_queries
from models.config import FeatureSpec
from serving.release import write_release

QUERIES_SPLIT = "queries"


def make_release(
    root: Path, input_dict: dict[str, list[types.Artifact]], exec_properties: dict[str, Any]
) -> tuple[int, list[bytes]]:
    """Writes a model, its index and the known queries as a release.

    Args:
      root: folder of the releases.
      input_dict: `model`, `index` and `queries`, as ReleasePusher has them.
      exec_properties: `model_name` and `features`, as ReleasePusher has them.

    Returns:
      The release's version, and the ids of the known queries, sorted.

    Raises:
      ReleaseError: the index was built from another model, or an input holds what a release must not.
    """
    features = FeatureSpec.model_validate_json(exec_properties["features"])
    model = artifact_utils.get_single_instance(input_dict["model"])
    folder = Path(artifact_utils.get_split_uri(input_dict["queries"], QUERIES_SPLIT))
    queries = read_queries(folder, features.query_id)
    version = write_release(
        root,
        model_name=exec_properties["model_name"],
        features=features,
        model=Path(path_utils.serving_model_path(model.uri)),
        index=Path(artifact_utils.get_single_uri(input_dict["index"])),
        queries=queries,
    )
    return version, [query_id for query_id, _ in queries]
