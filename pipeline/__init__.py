"""What runs, and in which order."""

import components  # noqa: F401  (sets TF_USE_LEGACY_KERAS before tfx loads TensorFlow)
