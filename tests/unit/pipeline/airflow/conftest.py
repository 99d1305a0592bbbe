import os
import tempfile
from pathlib import Path
from typing import Any

import pytest
import yaml

# Airflow writes its configuration where this points to as soon as it is imported.
_HOME = tempfile.TemporaryDirectory(prefix="airflow-")  # removed when Python ends
os.environ["AIRFLOW_HOME"] = _HOME.name

ROOT = Path(__file__).resolve().parents[4]


@pytest.fixture
def write_config(tmp_path: Path):
    """Writes c.yaml, configs/ta_feng.yaml with a schedule; returns its path."""

    def write(schedule: dict[str, Any] | None) -> Path:
        config = yaml.safe_load((ROOT / "configs" / "ta_feng.yaml").read_text())
        if schedule is not None:
            config["schedule"] = schedule
        (tmp_path / "c.yaml").write_text(yaml.safe_dump(config))
        return tmp_path / "c.yaml"

    return write
