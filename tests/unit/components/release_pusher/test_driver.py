import shutil
from pathlib import Path

import pytest
from tfx import v1 as tfx
from tfx.types import standard_artifacts

from components.artifacts import ItemIndex
from components.release_pusher.component import ReleasePusher
from components.release_pusher.driver import Driver
from serving.release import list_versions, verify_release
from tests.unit.components.release_pusher.test_executor import Run
from tests.unit.serving import tiny


def test_gives_each_execution_another_parameter() -> None:
    driver = Driver(None)
    first, second = (driver.run(None).exec_properties["nonce"].string_value for _ in range(2))
    assert len(first) == 32
    assert first != second


def run_pipeline(run: Run) -> None:
    def imported(name: str, kind: type, **more: dict) -> tfx.dsl.Importer:
        return tfx.dsl.Importer(source_uri=str(run.folder / name), artifact_type=kind, **more).with_id(name)

    model = imported("model", standard_artifacts.Model)
    blessing = imported("blessing", standard_artifacts.ModelBlessing, custom_properties={"blessed": 1})
    infra = imported("infra", standard_artifacts.InfraBlessing, custom_properties={"blessed": 1})
    index = imported("index", ItemIndex)
    queries = imported("queries", standard_artifacts.Examples, properties={"split_names": '["queries"]'})
    pusher = ReleasePusher(
        model=model.outputs["result"],
        model_blessing=blessing.outputs["result"],
        infra_blessing=infra.outputs["result"],
        index=index.outputs["result"],
        queries=queries.outputs["result"],
        releases=str(run.root),
        model_name="tiny",
        features=tiny.SPEC.model_dump_json(),
        code_fingerprint="f",
    )
    pipeline = tfx.dsl.Pipeline(
        pipeline_name="push",
        pipeline_root=str(run.folder / "root"),
        components=[model, blessing, infra, index, queries, pusher],
        enable_cache=True,
        metadata_connection_config=tfx.orchestration.metadata.sqlite_metadata_connection_config(
            str(run.folder / "metadata.db")
        ),
    )
    tfx.orchestration.LocalDagRunner().run(pipeline)


@pytest.mark.slow
def test_cached_pipeline_publishes_again_what_was_removed(tmp_path: Path, model: Path) -> None:
    run = Run(tmp_path, model)
    (tmp_path / "blessing").mkdir()
    (tmp_path / "infra").mkdir()
    run_pipeline(run)
    (first,) = list_versions(run.root)
    run_pipeline(run)
    assert list_versions(run.root) == [first]
    shutil.rmtree(run.root)
    run_pipeline(run)
    (again,) = list_versions(run.root)
    verify_release(run.root / str(again))
