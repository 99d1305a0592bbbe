"""TFX Trainer's entry point."""

from __future__ import annotations

import hashlib
import json
import logging
import math
import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import tensorflow as tf
import tensorflow_transform as tft

from models import data, export, features, warm_start
from models.checkpoints import TrainingCheckpoints, remove_checkpoints
from models.config import FeatureSpec, ModelConfig, TrainConfig
from models.optimizer import LazyAdam
from models.registry import build_model
from models.retrieval_model import RetrievalModel

progress = logging.getLogger("retrieval.progress")


@dataclass(frozen=True)
class Settings:
    """custom_config, parsed.

    Attributes:
      spec: the declared features.
      model: architecture and loss.
      train: the training run.
      negatives: the NegativeSampler's config as a plain dict; per_positive, hard_per_positive, sampling,
        alpha are read.
      checkpoints: folder of all runs' checkpoints.
      fingerprint: of the source code.
    """

    spec: FeatureSpec
    model: ModelConfig
    train: TrainConfig
    negatives: dict[str, Any]
    checkpoints: str
    fingerprint: str

    @classmethod
    def parse(cls, config: dict[str, Any]) -> Settings:
        """Reads custom_config.

        Raises:
          ValueError: an objective that needs negatives without any.
        """
        settings = cls(
            spec=FeatureSpec.model_validate_json(config["features"]),
            model=ModelConfig.model_validate_json(config["model"]),
            train=TrainConfig.model_validate_json(config["train"]),
            negatives=json.loads(config["negatives"]),
            checkpoints=config["checkpoints"],
            fingerprint=config["fingerprint"],
        )
        if settings.model.needs_negatives and settings.negatives["per_positive"] == 0:
            objective = settings.model.objective.value
            raise ValueError(f"objective {objective} needs negatives, but negatives.per_positive is 0")
        return settings

    def run_folder(self, files: list[str], base: warm_start.Base | None = None) -> str:
        """The checkpoint folder of this code, this config, these input files and this model to go on from."""
        text = json.dumps([self.spec.model_dump_json(), self.model.model_dump_json(), self.train.model_dump_json()])
        start = base.folder if base else ""
        digest = hashlib.sha256(json.dumps([text, self.negatives, files, start], sort_keys=True).encode()).hexdigest()
        return f"{self.checkpoints}/{self.fingerprint}-{digest[:16]}"


class StopOnBadLoss(tf.keras.callbacks.Callback):
    """Stops with an error as soon as the loss is not finite."""

    def __init__(self) -> None:
        super().__init__()
        self._epoch = 0

    def on_epoch_begin(self, epoch: int, logs: dict[str, float] | None = None) -> None:
        self._epoch = epoch

    def on_train_batch_end(self, batch: int, logs: dict[str, float]) -> None:
        if not math.isfinite(logs["loss"]):
            raise FloatingPointError(
                f"loss is {logs['loss']} in epoch {self._epoch + 1}, step {batch + 1}: "
                "try a smaller train.learning_rate or a larger model.temperature"
            )


class Progress(tf.keras.callbacks.Callback):
    """Logs each epoch's mean loss and duration."""

    def on_epoch_begin(self, epoch: int, logs: dict[str, float] | None = None) -> None:
        self._start = time.monotonic()

    def on_epoch_end(self, epoch: int, logs: dict[str, float]) -> None:
        seconds = time.monotonic() - self._start
        epochs = self.params["epochs"]
        progress.info("epoch %d of %d, loss %.4f, %d s", epoch + 1, epochs, logs["mean_loss"], round(seconds))


class SaveEpoch(tf.keras.callbacks.Callback):
    """Writes a checkpoint after each epoch."""

    def __init__(self, checkpoints: TrainingCheckpoints) -> None:
        super().__init__()
        self._checkpoints = checkpoints

    def on_epoch_end(self, epoch: int, logs: dict[str, float] | None = None) -> None:
        self._checkpoints.save(epoch + 1)


def _build(model: RetrievalModel, optimizer: tf.keras.optimizers.Optimizer, batches: tf.data.Dataset) -> None:
    """Makes all variables exist, so that a checkpoint can be read into them."""
    model.compute_loss(next(iter(batches)))
    model.reset_metrics()
    optimizer.build(model.trainable_variables)
    model.compile(optimizer=optimizer, jit_compile=False)


def steps_of_an_epoch(train: TrainConfig, rows: int) -> int:
    """Full batches of `rows` train rows; 1 where there are fewer rows than a batch has."""
    return max(1, rows // train.batch_size)


def planned_epochs(train: TrainConfig, rows: int) -> int:
    """Epochs of a cold run: `epochs`, or those it takes to do `max_steps` steps where they are fewer.

    Steps say better than epochs how much was learned: a small set needs more epochs than a large one.

    Args:
      train: the training run.
      rows: of the train split.
    """
    if train.max_steps is None:
        return train.epochs
    return min(train.epochs, math.ceil(train.max_steps / steps_of_an_epoch(train, rows)))


def _embed_as_unknown(model: RetrievalModel, spec: FeatureSpec, items: np.ndarray) -> None:
    """Gives items the embeddings and augmented vectors that unknown items have.

    What nobody has chosen yet is met in training as a negative alone, and its own rows are pushed away from everybody.

    Args:
      model: trained, with an `unknown_rate` above 0.
      spec: the declared features.
      items: bool [N], which candidates.
    """
    for variable, name in zip(model.trainable_variables, warm_start.table_vocabularies(model, spec), strict=True):
        if name == features.ITEM_VOCABULARY:
            rows = np.flatnonzero(items) + 1
            variable.scatter_update(tf.IndexedSlices(tf.repeat(variable[-1:], len(rows), axis=0), rows))


def train(
    settings: Settings,
    train_files: Sequence[str],
    item_files: Sequence[str],
    transform_output: tft.TFTransformOutput,
    callbacks: Sequence[tf.keras.callbacks.Callback],
    base: warm_start.Base | None = None,
) -> RetrievalModel:
    """Trains a model.

    A run that was killed goes on after its last finished epoch, with another order of the rows. Equal
    seeds give equal results up to the order in which parallel sums are rounded. A model that does not
    learn by gradient is solved at once, without epochs, checkpoints or TensorBoard.

    With an `unknown_rate` items without a train row end as unknown ones, but for those of which the model that training
    goes on from had learned rows.

    Args:
      settings: what to train and how; its run_folder keeps the checkpoints, which stay.
      train_files: transformed train rows with negatives.
      item_files: the transformed items split with counts.
      transform_output: the Transform graph behind which the files were made.
      callbacks: further ones.
      base: the model to go on from, for `train.warm_start.epochs` epochs.

    Raises:
      ValueError: the config or the input does not fit.
      FloatingPointError: the loss is not finite.
    """
    seed, warm = settings.train.seed, settings.train.warm_start
    tf.keras.utils.set_random_seed(seed)
    encodings = features.make_encodings(settings.spec, settings.model, transform_output)
    catalogue = data.load_catalogue(item_files, encodings, settings.negatives)
    model = build_model(settings.model, encodings, catalogue)
    if not model.learns_by_gradient:
        model.solve(*data.training_pairs(train_files), seed)
        return model
    optimizer = LazyAdam(settings.train.learning_rate, jit_compile=False)

    def batches(seed: int) -> tf.data.Dataset:
        return data.training_batches(
            train_files,
            encodings,
            settings.negatives["per_positive"],
            settings.train.batch_size,
            seed,
            settings.negatives["hard_per_positive"],
        )

    _build(model, optimizer, batches(seed))
    if base is not None and warm is not None:
        base.apply(model, optimizer, transform_output, keep_optimizer=warm.optimizer == "keep")
        epochs = warm.epochs
    else:
        rows = data.count_rows(train_files)
        epochs = planned_epochs(settings.train, rows)
        model.plan_steps(epochs * steps_of_an_epoch(settings.train, rows))
    checkpoints = TrainingCheckpoints(settings.run_folder([*train_files, *item_files], base), model, optimizer)
    done = checkpoints.restore()
    if done:
        progress.info("going on after epoch %d of %d", done, epochs)
    # The shuffling starts anew: with the same seed it would repeat the first epochs' order.
    tf.keras.utils.set_random_seed(seed + done)
    model.fit(
        batches(seed + done),
        epochs=epochs,
        initial_epoch=done,
        verbose=0,
        callbacks=[StopOnBadLoss(), Progress(), SaveEpoch(checkpoints), *callbacks],
    )
    if settings.model.unknown_rate > 0:
        unchosen = catalogue.counts == 0
        if base is not None:
            unchosen &= ~base.knows_items(transform_output)
        if unchosen.any():
            _embed_as_unknown(model, settings.spec, unchosen)
            progress.info("%d items without an interaction are embedded as unknown ones", unchosen.sum())
    return model


def run_fn(fn_args: Any) -> None:
    """Trains a model and exports it.

    Args:
      fn_args: TFX's FnArgs. train_files: transformed train rows with negatives; eval_files: the
        transformed items split with counts; transform_output; serving_model_dir; model_run_dir: for
        TensorBoard; base_model: SavedModel of the model to go on from, or None; custom_config: {"features",
        "model", "train", "negatives"}, each JSON, and "checkpoints", a folder, and "fingerprint", of the code.

    Raises:
      ValueError: the config or the input does not fit.
      FloatingPointError: the loss is not finite.
    """
    settings = Settings.parse(fn_args.custom_config)
    train_files = data.matching_files(fn_args.train_files, "train")
    item_files = data.matching_files(fn_args.eval_files, "items")
    transform_output = tft.TFTransformOutput(fn_args.transform_output)
    board = tf.keras.callbacks.TensorBoard(fn_args.model_run_dir, write_graph=False)
    start = warm_start.Start(None, "train.warm_start is not set")
    if settings.train.warm_start is not None:
        start = warm_start.find_start(fn_args.base_model, settings.spec, settings.model)
    model = train(settings, train_files, item_files, transform_output, [board], start.base)
    export.export_model(
        model, transform_output, settings.spec, settings.model, settings.train, fn_args.serving_model_dir
    )
    if settings.train.warm_start is not None:
        state = warm_start.state_folder(fn_args.serving_model_dir)
        warm_start.save_state(model, model.optimizer, transform_output, settings.spec, settings.model, state)
    start.write(fn_args.serving_model_dir)
    remove_checkpoints(settings.run_folder([*train_files, *item_files], start.base))
