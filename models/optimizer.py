"""Adam that leaves alone the table rows a batch did not read."""

from __future__ import annotations

import tensorflow as tf


@tf.keras.utils.register_keras_serializable(package="models")
class LazyAdam(tf.keras.optimizers.Adam):
    """Adam whose moments and weights change only in the rows that have a gradient.

    Keras's Adam decays the moments of the whole table and moves all of its rows at every step, so a
    step costs as much as the catalogue is large. Here it costs as much as the batch. Dense weights
    are updated as ever.

    Kingma and Ba, "Adam: A Method for Stochastic Optimization", ICLR 2015; bias correction counts
    all steps, not those of a row.
    """

    def slots(self, variable: tf.Variable) -> tuple[tf.Variable, tf.Variable]:
        """Momentum and velocity of a variable."""
        slot = self._index_dict[self._var_key(variable)]
        return self._momentums[slot], self._velocities[slot]

    def update_step(self, gradient: tf.Tensor | tf.IndexedSlices, variable: tf.Variable) -> None:
        if not isinstance(gradient, tf.IndexedSlices):
            super().update_step(gradient, variable)
            return
        momentum, velocity = self.slots(variable)
        rows, values = gradient.indices, gradient.values
        step = tf.cast(self.iterations + 1, variable.dtype)
        correction = tf.sqrt(1 - tf.pow(self.beta_2, step)) / (1 - tf.pow(self.beta_1, step))
        rate = tf.cast(self.learning_rate, variable.dtype) * correction
        m = self.beta_1 * tf.gather(momentum, rows) + (1 - self.beta_1) * values
        v = self.beta_2 * tf.gather(velocity, rows) + (1 - self.beta_2) * tf.square(values)
        momentum.scatter_update(tf.IndexedSlices(m, rows))
        velocity.scatter_update(tf.IndexedSlices(v, rows))
        variable.scatter_sub(tf.IndexedSlices(rate * m / (tf.sqrt(v) + self.epsilon), rows))
