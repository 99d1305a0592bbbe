"""Adam that leaves alone the table rows a batch did not read."""

from __future__ import annotations

import tensorflow as tf


@tf.keras.utils.register_keras_serializable(package="models")
class LazyAdam(tf.keras.optimizers.Adam):
    """Adam whose second moments and weights change only in the rows that have a gradient, and there without momentum.

    Keras's Adam decays the moments of the whole table and moves all of its rows at every step, so a
    step costs as much as the catalogue is large. Here it costs as much as the batch. Dense weights
    are updated as ever.

    In Keras's Adam the momentum of one gradient moves a row over the next steps by 1 / (1 - beta_1) times what it does
    at once. Kept for the row's next turn it would come too late, and rare rows would learn a tenth as fast; so
    a row moves at once, by rate g / sqrt(v).

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
        _, velocity = self.slots(variable)
        rows, values = gradient.indices, gradient.values
        step = tf.cast(self.iterations + 1, variable.dtype)
        rate = tf.cast(self.learning_rate, variable.dtype) * tf.sqrt(1 - tf.pow(self.beta_2, step))
        v = self.beta_2 * tf.gather(velocity, rows) + (1 - self.beta_2) * tf.square(values)
        velocity.scatter_update(tf.IndexedSlices(v, rows))
        variable.scatter_sub(tf.IndexedSlices(rate * values / (tf.sqrt(v) + self.epsilon), rows))
