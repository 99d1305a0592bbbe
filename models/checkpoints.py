"""Checkpoints of a training run, so that one that was killed goes on where it was."""

from __future__ import annotations

import logging

import tensorflow as tf

_log = logging.getLogger(__name__)


def _readable(path: str) -> bool:
    """Whether every tensor of a checkpoint can be read; TensorFlow checks their checksums."""
    try:
        reader = tf.train.load_checkpoint(path)
        for name in reader.get_variable_to_shape_map():
            reader.get_tensor(name)
    except (tf.errors.OpError, ValueError, RuntimeError, IndexError) as error:
        _log.warning("checkpoint %s cannot be read and is passed over: %s", path, str(error).splitlines()[0])
        return False
    return True


class TrainingCheckpoints:
    """The last two epochs of one training run, in a folder of its own.

    Args:
      folder: belongs to this run alone: its name says the code, the config and the input.
      model: built, so that all of its variables exist.
      optimizer: built too.
    """

    def __init__(self, folder: str, model: tf.keras.Model, optimizer: tf.keras.optimizers.Optimizer) -> None:
        self._folder = folder
        self._epochs = tf.Variable(0, dtype=tf.int64, trainable=False)
        self._checkpoint = tf.train.Checkpoint(model=model, optimizer=optimizer, epochs=self._epochs)
        try:
            tf.train.get_checkpoint_state(folder)
        except ValueError as error:
            _log.warning("the list of checkpoints in %s cannot be read; starting anew: %s", folder, error)
            tf.io.gfile.rmtree(folder)
        self._manager = tf.train.CheckpointManager(self._checkpoint, folder, max_to_keep=2)

    def restore(self) -> int:
        """Restores the newest checkpoint that can be read.

        Returns:
          Number of epochs done, 0 if there is none.
        """
        for path in reversed(self._manager.checkpoints):
            if _readable(path):
                self._checkpoint.restore(path).assert_existing_objects_matched()
                return int(self._epochs.numpy())
        return 0

    def save(self, epochs: int) -> None:
        """Writes the state after so many epochs; the folder points to it only when it is complete."""
        self._epochs.assign(epochs)
        self._manager.save(checkpoint_number=epochs)


def remove_checkpoints(folder: str) -> None:
    """Removes a run's folder, if it has one: the run is finished."""
    if tf.io.gfile.exists(folder):
        tf.io.gfile.rmtree(folder)
