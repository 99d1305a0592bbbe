"""Training that goes on from an earlier model, whose vocabularies were others.

What is needed of a model lies beside its SavedModel, in `warm_start/` of the Model artifact, so that releases do not
carry it: all trained variables and the optimizer's state as a TensorFlow checkpoint, each vocabulary as a file, and
`state.json` with the features, the model's config and each variable's vocabulary.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import PurePath
from typing import Any

import numpy as np
import tensorflow as tf
import tensorflow_transform as tft
from pydantic import ValidationError

from models.config import FeatureSpec, Frozen, Kind, ModelConfig
from models.features import ITEM_VOCABULARY, QUERY_VOCABULARY, vocabulary_name
from models.layers import FeatureEncoder
from models.optimizer import LazyAdam
from models.retrieval_model import RetrievalModel

FOLDER = "warm_start"
STATE = "state.json"
CHECKPOINT = "checkpoint"
START = "start.json"

progress = logging.getLogger("retrieval.progress")


def state_folder(serving_model: str) -> str:
    """Where the state lies of the model whose SavedModel is in the given folder."""
    return str(PurePath(serving_model).parent / FOLDER)


def start_file(model: str) -> str:
    """Where it is written how the training of a Model artifact began, whose folder is given."""
    return str(PurePath(model) / START)


def align_rows(old: np.ndarray, old_ids: Sequence[bytes], new_ids: Sequence[bytes], new: np.ndarray) -> np.ndarray:
    """A table for new ids that keeps the rows of the old ones, wherever they stand now.

    Args:
      old: [V + 2, D]: padding, the rows of `old_ids`, out of vocabulary.
      old_ids: V ids.
      new_ids: W ids.
      new: [W, D], rows for ids that are not among the old ones.

    Returns:
      [W + 2, D]. The first row and the last are the old table's.
    """
    places = {identity: place for place, identity in enumerate(old_ids, start=1)}
    found = np.array([places.get(identity, 0) for identity in new_ids], np.int64)
    rows = np.where((found > 0)[:, np.newaxis], old[found], new)
    return np.concatenate([old[:1], rows, old[-1:]])


def table_vocabularies(model: RetrievalModel, spec: FeatureSpec) -> list[str]:
    """For each trainable variable the vocabulary its rows stand for, "" for one whose shape never changes.

    Raises:
      ValueError: an embedding table of the model is not declared as one.
    """
    by_table: dict[str, str] = {}
    for feature in spec.features:
        fixed = feature.kind in (Kind.NUMBER, Kind.TIMESTAMP) or feature.hash_buckets is not None
        by_table[feature.name] = "" if fixed else vocabulary_name(feature, spec)
    found = [(layer, name) for name, layers in model.own_tables().items() for layer in layers]
    for encoder in model.submodules:
        if isinstance(encoder, FeatureEncoder):
            # A timestamp's two tables are not called like a feature: hours and weekdays stay the same.
            found += [(layer, by_table.get(table, "")) for table, layer in encoder.tables.items()]
    names = {layer.embeddings.ref(): name for layer, name in found}
    for layer in model.submodules:
        if isinstance(layer, tf.keras.layers.Embedding) and layer.embeddings.ref() not in names:
            raise ValueError(f"the table {layer.name!r} is in no FeatureEncoder and not among own_tables()")
    return [names.get(variable.ref(), "") for variable in model.trainable_variables]


def _slots(model: RetrievalModel, optimizer: LazyAdam) -> tuple[list[tf.Variable], list[tf.Variable]]:
    pairs = [optimizer.slots(variable) for variable in model.trainable_variables]
    return [momentum for momentum, _ in pairs], [velocity for _, velocity in pairs]


def save_state(
    model: RetrievalModel,
    optimizer: LazyAdam,
    transform_output: tft.TFTransformOutput,
    spec: FeatureSpec,
    config: ModelConfig,
    folder: str,
) -> None:
    """Writes what a later run needs to go on from this model."""
    vocabularies = table_vocabularies(model, spec)
    momentums, velocities = _slots(model, optimizer)
    tf.train.Checkpoint(
        variables=list(model.trainable_variables),
        momentums=momentums,
        velocities=velocities,
        iterations=optimizer.iterations,
    ).write(f"{folder}/{CHECKPOINT}")
    for name in sorted({name for name in vocabularies if name}):
        with tf.io.gfile.GFile(f"{folder}/{name}", "wb") as file:
            file.write(b"\n".join(transform_output.vocabulary_by_name(name)))
    state = {
        "features": spec.model_dump(mode="json"),
        "model": config.model_dump(mode="json"),
        "vocabularies": vocabularies,
    }
    with tf.io.gfile.GFile(f"{folder}/{STATE}", "w") as file:
        file.write(json.dumps(state, indent=2) + "\n")


@dataclass(frozen=True)
class Base:
    """A model to go on from.

    Attributes:
      folder: of its state.
      vocabularies: of each trainable variable, as `table_vocabularies` gives them.
    """

    folder: str
    vocabularies: tuple[str, ...]

    def apply(
        self,
        model: RetrievalModel,
        optimizer: LazyAdam,
        transform_output: tft.TFTransformOutput,
        *,
        keep_optimizer: bool,
    ) -> None:
        """Gives a newly built model the base's weights, and its optimizer the base's state.

        Rows of a table go to the row of the same id. A new id of an item or a query starts as the base's row for
        unknown ids where that is trained (`unknown_rate`), other new values as initialised, for the row of their
        unknown ones is not; momentum and velocity are 0. (In a history's table of its own nothing trains the row of
        unknown ids, and new items start as it all the same.) Buckets of numbers stay in their place: the k-th of n
        quantiles is the k-th, though its bounds have moved.

        Args:
          model: built.
          optimizer: built.
          transform_output: the new Transform graph, which has the new vocabularies.
          keep_optimizer: else the optimizer starts anew.
        """
        reader = tf.train.load_checkpoint(f"{self.folder}/{CHECKPOINT}")
        ids = {
            name: (self._ids(name), transform_output.vocabulary_by_name(name)) for name in {*self.vocabularies} - {""}
        }
        for name, (old, new) in sorted(ids.items()):
            kept = len({*old} & {*new})
            progress.info("warm start, %s: %d kept, %d new, %d gone", name, kept, len(new) - kept, len(old) - kept)
        unknown_trained = {ITEM_VOCABULARY, QUERY_VOCABULARY} if model.config.unknown_rate > 0 else set()

        def assign(variables: Iterable[tf.Variable], key: str, fresh: bool) -> None:
            for place, (variable, name) in enumerate(zip(variables, self.vocabularies, strict=True)):
                value = reader.get_tensor(f"{key}/{place}/.ATTRIBUTES/VARIABLE_VALUE")
                if name:
                    initial = variable.numpy()[1:-1]
                    value = align_rows(value, *ids[name], value[-1:] if fresh and name in unknown_trained else initial)
                variable.assign(value)

        assign(model.trainable_variables, "variables", fresh=True)
        if keep_optimizer:
            momentums, velocities = _slots(model, optimizer)
            assign(momentums, "momentums", fresh=False)
            assign(velocities, "velocities", fresh=False)
            optimizer.iterations.assign(reader.get_tensor("iterations/.ATTRIBUTES/VARIABLE_VALUE"))

    def knows_items(self, transform_output: tft.TFTransformOutput) -> np.ndarray:
        """bool [N], by candidate index: whether the base has learned rows of the item's own.

        It has not where the item is none of its vocabulary, nor where nobody had chosen it yet: then it was embedded
        as an unknown one, and all its rows are the base's rows for unknown ids.
        """
        known: set[bytes] = set()
        if ITEM_VOCABULARY in self.vocabularies:
            reader, ids = tf.train.load_checkpoint(f"{self.folder}/{CHECKPOINT}"), self._ids(ITEM_VOCABULARY)
            learned = np.zeros(len(ids), bool)
            for place, name in enumerate(self.vocabularies):
                if name == ITEM_VOCABULARY:
                    table = reader.get_tensor(f"variables/{place}/.ATTRIBUTES/VARIABLE_VALUE")
                    learned |= (table[1:-1] != table[-1]).any(axis=1)
            known = {identity for identity, is_learned in zip(ids, learned, strict=True) if is_learned}
        return np.array([identity in known for identity in transform_output.vocabulary_by_name(ITEM_VOCABULARY)], bool)

    def _ids(self, name: str) -> list[bytes]:
        with tf.io.gfile.GFile(f"{self.folder}/{name}", "rb") as file:
            text = file.read()
        return text.split(b"\n") if text else []


@dataclass(frozen=True)
class Start:
    """How a training run begins: with a model to go on from, or cold.

    Attributes:
      base: the model to go on from; None for a cold start.
      cold: why training starts cold; "" if it does not.
    """

    base: Base | None
    cold: str = ""

    def write(self, serving_model: str) -> None:
        """Writes start.json {"base_model", "cold"} beside a SavedModel; base_model is the state's folder or null."""
        with tf.io.gfile.GFile(start_file(str(PurePath(serving_model).parent)), "w") as file:
            json.dump({"base_model": self.base and self.base.folder, "cold": self.cold}, file)


def find_start(base_model: str | None, spec: FeatureSpec, config: ModelConfig) -> Start:
    """Whether an earlier model can be gone on from; a cold start and its reason are a line in the log.

    Args:
      base_model: folder of its SavedModel; None if there is none.
      spec: the features as they are now.
      config: the model section as it is now.
    """
    start = _find_start(base_model, spec, config)
    if start.cold:
        progress.info("cold start: %s", start.cold)
    return start


def _find_start(base_model: str | None, spec: FeatureSpec, config: ModelConfig) -> Start:
    if base_model is None:
        return Start(None, "there is no earlier model to go on from, or it is not wanted for this span")
    if not tf.io.gfile.exists(base_model):
        return Start(None, f"the earlier model's folder {base_model} is gone")
    folder = state_folder(base_model)
    if not tf.io.gfile.exists(f"{folder}/{STATE}"):
        return Start(None, f"the earlier model has no {folder}/{STATE}: it was trained without train.warm_start")
    with tf.io.gfile.GFile(f"{folder}/{STATE}") as file:
        state: dict[str, Any] = json.load(file)
    for section, now in (("features", spec), ("model", config)):
        changed = _changed(_as_written_now(state[section], type(now)), now.model_dump(mode="json"))
        if changed:
            return Start(None, f"{section} changed since the earlier model: {', '.join(changed)}")
    return Start(Base(folder, tuple(state["vocabularies"])))


def _as_written_now(section: Mapping[str, Any], kind: type[Frozen]) -> Mapping[str, Any]:
    """With the keys that came since then, at their defaults: the defaults of new keys leave a model as it was."""
    try:
        return kind.model_validate_json(json.dumps(section)).model_dump(mode="json")
    except ValidationError:  # it has what there no longer is, which will be named as changed
        return section


def _changed(before: Mapping[str, Any], now: Mapping[str, Any]) -> list[str]:
    return [key for key in sorted({*before, *now}) if before.get(key) != now.get(key)]
