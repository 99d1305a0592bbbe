from pathlib import Path

import pytest

from serving.config import VersionPolicy
from tests.unit.serving import tiny
from tests.unit.serving.roots import Root


@pytest.fixture(scope="session")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny.save_model(tmp_path_factory.mktemp("model") / "saved")


@pytest.fixture
def root(tmp_path: Path, model: Path) -> Root:
    return Root(tmp_path, model, VersionPolicy())
