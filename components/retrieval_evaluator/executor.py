"""Executor of the RetrievalEvaluator."""

from __future__ import annotations

import json
from typing import Any

import tensorflow as tf
from absl import logging
from tfx import types
from tfx.components.evaluator import constants
from tfx.components.util import examples_utils
from tfx.dsl.components.base import base_beam_executor
from tfx.types import artifact_utils
from tfx.utils import path_utils

from components.embedding.inputs import unmet_inputs
from components.resolvers import SPAN
from components.retrieval_evaluator.blessing import check_thresholds
from components.retrieval_evaluator.config import EvaluationConfig
from components.retrieval_evaluator.evaluation import Evaluate
from models.config import FeatureSpec

METRICS_FILE = "metrics.json"


class Executor(base_beam_executor.BaseBeamExecutor):
    """Ranks the catalogue for every held-out interaction and blesses the model or not."""

    def Do(
        self,
        input_dict: dict[str, list[types.Artifact]],
        output_dict: dict[str, list[types.Artifact]],
        exec_properties: dict[str, Any],
    ) -> None:
        """Runs the evaluation.

        Args:
          input_dict:
            - model: the candidate, a SavedModel with signatures `item_examples` and
              `serialized_examples`.
            - examples: raw Examples with splits `train`, `items`, and `eval` or `test` or both.
            - item_counts: ItemCounts.
            - baseline_model: optional, the last blessed model. It embeds the items itself. One that reads features
              which the examples no longer have in that kind is left out, and metrics.json says so.
          output_dict:
            - evaluation: `metrics.json`; the candidate's overall metrics as JSON in the custom property `overall`.
            - blessing: empty file `BLESSED` or `NOT_BLESSED`, and the custom properties that Pusher,
              LatestBlessedModelStrategy and LatestBlessedBefore read.
          exec_properties:
            - config: JSON of an EvaluationConfig.
            - features: JSON of a FeatureSpec.
            - code_fingerprint: not read; only there for the cache.

        Raises:
          ValueError: there is no held-out split or no row to evaluate, a held-out item is not in the
            catalogue, a threshold names a metric that is not computed, or a model lacks a signature.
        """
        config = EvaluationConfig.model_validate_json(exec_properties["config"])
        check_thresholds(config)
        examples = artifact_utils.get_single_instance(input_dict["examples"])
        present = artifact_utils.decode_split_names(examples.split_names)
        if not {"eval", "test"} & set(present):
            raise ValueError(f"examples have splits {present}, expected eval or test among them")
        spec = FeatureSpec.model_validate_json(exec_properties["features"])
        models = {"candidate": artifact_utils.get_single_instance(input_dict["model"])}
        left_out = None
        for baseline in input_dict.get("baseline_model", []):
            if unmet := unmet_inputs(path_utils.serving_model_path(baseline.uri), spec):
                left_out = f"the last blessed model is not compared with, for it reads {unmet}"
            else:
                models["blessed"] = baseline
        metrics_file = f"{artifact_utils.get_single_uri(output_dict['evaluation'])}/{METRICS_FILE}"
        tf.io.gfile.makedirs(artifact_utils.get_single_uri(output_dict["evaluation"]))

        with self._make_beam_pipeline() as pipeline:
            _ = pipeline | "Evaluate" >> Evaluate(
                patterns={
                    split: examples_utils.get_split_file_patterns([examples], split)[0]
                    for split in ("train", "items", "eval", "test")
                    if split in present
                },
                counts_file=f"{artifact_utils.get_single_uri(input_dict['item_counts'])}/counts.tfrecord.gz",
                models={name: path_utils.serving_model_path(model.uri) for name, model in models.items()},
                spec=spec,
                config=config,
                left_out=left_out,
                output=metrics_file,
            )

        with tf.io.gfile.GFile(metrics_file) as file:
            verdict = json.load(file)
        for reason in verdict["reasons"]:
            logging.info("%s", reason)
        blessing = artifact_utils.get_single_instance(output_dict["blessing"])
        bless(blessing, verdict["blessed"], models)
        blessing.set_int_custom_property(SPAN, examples.span)
        # History reads these when the folders have long been removed.
        blessing.set_string_custom_property("refused", " ".join(verdict["refused"]))
        split = "eval" if "eval" in verdict["splits"] else "test"
        overall = verdict["splits"][split]["models"]["candidate"]["overall"]
        evaluation = artifact_utils.get_single_instance(output_dict["evaluation"])
        evaluation.set_string_custom_property("overall", json.dumps(overall))


def bless(blessing: types.Artifact, blessed: bool, models: dict[str, types.Artifact]) -> None:
    """Marks the blessing as TFX's own Evaluator does, so that TFX's Pusher and resolver understand it.

    Args:
      blessing: the ModelBlessing artifact to fill.
      blessed: the verdict.
      models: "candidate" and perhaps "blessed".
    """
    candidate = models["candidate"]
    blessing.set_string_custom_property(constants.ARTIFACT_PROPERTY_CURRENT_MODEL_URI_KEY, candidate.uri)
    blessing.set_int_custom_property(constants.ARTIFACT_PROPERTY_CURRENT_MODEL_ID_KEY, candidate.id)
    if baseline := models.get("blessed"):
        blessing.set_string_custom_property(constants.ARTIFACT_PROPERTY_BASELINE_MODEL_URI_KEY, baseline.uri)
        blessing.set_int_custom_property(constants.ARTIFACT_PROPERTY_BASELINE_MODEL_ID_KEY, baseline.id)
    name = constants.BLESSED_FILE_NAME if blessed else constants.NOT_BLESSED_FILE_NAME
    tf.io.gfile.makedirs(blessing.uri)
    with tf.io.gfile.GFile(f"{blessing.uri}/{name}", "w") as file:
        file.write("")
    value = constants.BLESSED_VALUE if blessed else constants.NOT_BLESSED_VALUE
    blessing.set_int_custom_property(constants.ARTIFACT_PROPERTY_BLESSED_KEY, value)
