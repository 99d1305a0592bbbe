"""Before any test imports TensorFlow: the project's choice of Keras."""

import models  # noqa: F401  (sets TF_USE_LEGACY_KERAS)
