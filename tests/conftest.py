"""Before any test imports TensorFlow or runs Beam: the project's choice of Keras and of Beam's runner."""

import models  # noqa: F401  (sets TF_USE_LEGACY_KERAS)
from components.beam_runner import run_in_this_process

run_in_this_process()
