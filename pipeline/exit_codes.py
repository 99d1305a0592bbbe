"""Exit codes of the command line that a scheduler tells apart."""

from __future__ import annotations

OK = 0
FAILED = 1
REFUSED = 3  # by a gate, or the model was not blessed: the same again would end the same
NOT_YET = 4  # the span's data is not there
