"""Executor of ReleaseValidator."""

from __future__ import annotations

import tempfile
from itertools import islice
from pathlib import Path
from typing import Any

from absl import logging
from tfx import types
from tfx.components.util import model_utils
from tfx.dsl.components.base import base_executor
from tfx.types import artifact_utils

from components.gates import GateRefusedError
from components.release_pusher.making import make_release
from components.release_validator.canary import problems, spread
from serving.canary import check_canary
from serving.release import ReleaseError
from serving.retriever import load_release

SHOWN = 3


class CanaryRefusedError(GateRefusedError):
    """The release does not load, or does not answer as it has to."""


class Executor(base_executor.BaseExecutor):
    """Makes the release in a scratch folder, loads and tries it as the server does, and asks it canary queries."""

    def Do(
        self,
        input_dict: dict[str, list[types.Artifact]],
        output_dict: dict[str, list[types.Artifact]],
        exec_properties: dict[str, Any],
    ) -> None:
        """Runs the component.

        Args:
          input_dict:
            model: Model that is to be published.
            model_blessing: ModelBlessing; without the blessing there is nothing to try.
            index: ItemIndex, built from this very model.
            queries: raw Examples with the split "queries".
          output_dict:
            blessing: InfraBlessing, custom property `blessed`: 1 if all queries were answered, 0 if the model is not
              blessed.
          exec_properties:
            canary_queries: how many of the known queries to ask.
            model_name: under which the model is served.
            features: JSON of FeatureSpec.
            code_fingerprint: not read.

        Raises:
          CanaryRefusedError: the release cannot be loaded, or a query is not answered well. An error and no refusing
            blessing, so that TFX's cache does not keep it: what was amiss may have been the machine.
        """
        blessing = artifact_utils.get_single_instance(output_dict["blessing"])
        if not model_utils.is_model_blessed(artifact_utils.get_single_instance(input_dict["model_blessing"])):
            logging.info("The model is not blessed: there is no release to try.")
            blessing.set_int_custom_property("blessed", 0)
            return
        with tempfile.TemporaryDirectory() as scratch:
            root = Path(scratch)
            try:
                version, known = make_release(root, input_dict, exec_properties)
                retriever = load_release(root / str(version))
            except ReleaseError as error:
                raise CanaryRefusedError(
                    f"canary: the release cannot be loaded: {error}. The earlier release stays; look at what changed "
                    "in code and configuration"
                ) from error
            asked = spread(known, exec_properties["canary_queries"])
            found = list(problems(retriever, asked))
            if found:
                raise CanaryRefusedError(
                    f"canary: {len(found)} of {len(asked) + 1} queries are not answered well, none may be: "
                    f"{'; '.join(islice(found, SHOWN))}. The earlier release stays; look at the model and its input"
                )
            try:
                check_canary(root / str(version), retriever)
            except ReleaseError as error:
                raise CanaryRefusedError(
                    f"canary: a server would refuse the release: {error}. The earlier release stays; look at the model "
                    "and its input"
                ) from error
        logging.info("The release answered %d canary queries.", len(asked) + 1)
        blessing.set_int_custom_property("blessed", 1)
