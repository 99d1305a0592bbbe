"""Executor of ReleasePusher."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from absl import logging
from tfx import types
from tfx.components.util import model_utils
from tfx.dsl.components.base import base_executor
from tfx.types import artifact_utils

from components.release_pusher.making import make_release
from components.resolvers import SPAN

RECORD = "release.json"
NOTE = "note.txt"


class Executor(base_executor.BaseExecutor):
    """Publishes a blessed model with its index and the known queries as one release."""

    def Do(
        self,
        input_dict: dict[str, list[types.Artifact]],
        output_dict: dict[str, list[types.Artifact]],
        exec_properties: dict[str, Any],
    ) -> None:
        """Runs the component.

        Args:
          input_dict:
            model: Model to publish.
            model_blessing: ModelBlessing; without the blessing nothing is published.
            infra_blessing: InfraBlessing; the same.
            latest_release: optional, the RetrievalRelease that is in `releases`. One of a later span stays: a span of
              the past that is run again must not bring back the model it made then.
            index: ItemIndex, built from this very model.
            queries: raw Examples with the split "queries".
          output_dict:
            release: RetrievalRelease. Where it was published: custom property `pushed` 1, property `version`, and a
              file release.json {"version", "path"} that says where it lies. Else `pushed` 0 and no such file; a file
              note.txt says why, if the model is blessed.
          exec_properties:
            releases: root folder of the releases.
            model_name: under which the model is served.
            features: JSON of FeatureSpec.

        Raises:
          ReleaseError: the index was built from another model, or an input holds what a release must not.
        """
        release = artifact_utils.get_single_instance(output_dict["release"])
        span = artifact_utils.get_single_instance(input_dict["queries"]).span or 0
        release.set_int_custom_property(SPAN, span)
        release.set_int_custom_property("pushed", 0)
        blessed = model_utils.is_model_blessed(artifact_utils.get_single_instance(input_dict["model_blessing"]))
        if not blessed or not model_utils.is_infra_validated(
            artifact_utils.get_single_instance(input_dict["infra_blessing"])
        ):
            logging.info("The model is not blessed: nothing is published.")
            return
        root = Path(exec_properties["releases"])
        for latest in input_dict.get("latest_release", []):
            later = latest.get_int_custom_property(SPAN)
            if later > span:
                note = (
                    f"nothing is published: release {latest.version} of span {later} is later than span {span}; "
                    f"to publish span {span} in its place, remove {root / str(latest.version)} and run again"
                )
                (Path(release.uri) / NOTE).write_text(note, encoding="utf-8")
                return
        version, _ = make_release(root, input_dict, exec_properties)
        path = str(root / str(version))
        logging.info("Release %d of %s is at %s.", version, exec_properties["model_name"], path)
        (Path(release.uri) / RECORD).write_text(
            json.dumps({"version": version, "path": path}, indent=2) + "\n", encoding="utf-8"
        )
        release.set_int_custom_property("pushed", 1)
        release.version = version
