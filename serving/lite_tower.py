"""The query tower as TensorFlow Lite, which answers for one query several times faster than the SavedModel does.

`assets.extra/tower.tflite` and `assets.extra/tower.json` (models.columns) of a release. Both are data, parsed by
TensorFlow Lite and pydantic, and covered by the release's checksums like all its files.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import tensorflow as tf
from numpy.typing import NDArray

from models.columns import Columns, ColumnsConfig, Value

EXTRA = "assets.extra"
TOWER = "tower.tflite"
COLUMNS = "tower.json"
SIGNATURE = "serving_default"
OUTPUT = "embedding"


def has_lite(folder: Path) -> bool:
    """Whether a release's model has been exported as TensorFlow Lite too."""
    return (folder / EXTRA / TOWER).is_file()


class LiteTower:
    """Embeds one query at a time. Safe for any number of threads."""

    def __init__(self, folder: Path) -> None:
        """Loads the two files.

        Args:
          folder: of the release.

        Raises:
          OSError: a file is missing.
          ValueError, RuntimeError: a file is damaged, or the model's inputs are not the columns described.
        """
        config = ColumnsConfig.model_validate_json((folder / EXTRA / COLUMNS).read_bytes())
        self._columns = Columns(config, folder / "assets")
        # Interpreters read their weights from these bytes, of which there is one copy.
        self._model = (folder / EXTRA / TOWER).read_bytes()
        # An interpreter serves one caller at a time. There come to be as many as there are callers at once.
        self._idle = deque([_Interpreter(self._model)])

    def embed(self, values: Mapping[str, Sequence[Value]]) -> NDArray[np.float32]:
        """Raw values by feature, as models.columns takes them, to float32 [dimension] or [vectors, dimension]."""
        columns = self._columns(values)
        try:
            interpreter = self._idle.pop()
        except IndexError:
            interpreter = _Interpreter(self._model)
        embedding = interpreter(columns)
        self._idle.append(interpreter)
        return embedding


class _Interpreter:
    def __init__(self, model: bytes) -> None:
        self._interpreter = tf.lite.Interpreter(model_content=model, num_threads=1)
        self._interpreter.allocate_tensors()
        signature = self._interpreter.get_signature_runner(SIGNATURE)
        self._inputs = {name: detail["index"] for name, detail in signature.get_input_details().items()}
        self._output = signature.get_output_details()[OUTPUT]["index"]

    def __call__(self, columns: Mapping[str, NDArray]) -> NDArray[np.float32]:
        for name, index in self._inputs.items():
            self._interpreter.set_tensor(index, columns[name])
        self._interpreter.invoke()
        embedding: NDArray[np.float32] = self._interpreter.get_tensor(self._output)[0]
        return embedding
