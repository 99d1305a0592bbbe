from __future__ import annotations

import pytest
import tensorflow as tf

from tests.unit.models import toy as toy_data


@pytest.fixture(autouse=True)
def _same_weights_in_every_run() -> None:
    """With some weights all hidden units of a row are off and its output is zero: no test may hang on chance."""
    tf.keras.utils.set_random_seed(7)


@pytest.fixture(scope="session")
def toy(tmp_path_factory: pytest.TempPathFactory) -> toy_data.Toy:
    return toy_data.make(tmp_path_factory.mktemp("toy"))
