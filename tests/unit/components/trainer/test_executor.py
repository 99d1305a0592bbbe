from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from tfx.types import artifact_utils, standard_artifacts

from components.trainer.executor import Executor
from models.warm_start import Base, Start

STARTS = {"cold": Start(None, "features changed"), "warm": Start(Base("base/warm_start", ()))}


def run_fn(fn_args: Any) -> None:
    Path(fn_args.serving_model_dir).mkdir(parents=True)
    STARTS[fn_args.custom_config["start"]].write(fn_args.serving_model_dir)


@pytest.mark.parametrize(("start", "cold"), [("cold", "features changed"), ("warm", "")])
def test_the_model_says_how_training_began(start: str, cold: str, tmp_path: Path) -> None:
    examples, model, model_run = (
        standard_artifacts.Examples(),
        standard_artifacts.Model(),
        standard_artifacts.ModelRun(),
    )
    for name, artifact in (("examples", examples), ("model", model), ("run", model_run)):
        artifact.uri = str(tmp_path / name)
    examples.split_names = artifact_utils.encode_split_names(["train", "eval"])
    Executor().Do(
        {"examples": [examples]},
        {"model": [model], "model_run": [model_run]},
        {
            "run_fn": f"{__name__}.run_fn", "custom_config": json.dumps({"start": start}),
            "train_args": '{"splits": ["train"]}', "eval_args": '{"splits": ["eval"]}',
        },
    )  # fmt: skip
    assert model.has_custom_property("cold_start")
    assert model.get_string_custom_property("cold_start") == cold
