"""What is learned: features, layers, losses, models, training and export.

TensorFlow Recommenders, TensorFlow Transform and TFX work with Keras 2 only, and TensorFlow reads
the switch when it is first imported. Every package of this project imports this one first (through
`components` and `pipeline`), so the switch is set here and nowhere else.
"""

import os

os.environ["TF_USE_LEGACY_KERAS"] = "1"
