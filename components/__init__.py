"""The pipeline's own TFX components, one folder each."""

import models  # noqa: F401  (sets TF_USE_LEGACY_KERAS before tfx loads TensorFlow)
