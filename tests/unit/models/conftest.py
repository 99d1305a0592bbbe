from __future__ import annotations

import pytest

from tests.unit.models import toy as toy_data


@pytest.fixture(scope="session")
def toy(tmp_path_factory: pytest.TempPathFactory) -> toy_data.Toy:
    return toy_data.make(tmp_path_factory.mktemp("toy"))
