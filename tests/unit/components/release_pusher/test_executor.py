import json
import shutil
from collections.abc import Sequence
from pathlib import Path

import pytest
import tensorflow as tf
from tfx.types import channel_utils, standard_artifacts

from components.artifacts import ItemIndex, RetrievalRelease
from components.release_pusher.component import ReleasePusher
from components.release_pusher.driver import Driver
from components.release_pusher.executor import Executor
from serving.queries import QueryStore
from serving.release import ReleaseError, folder_fingerprint, list_versions, verify_release
from tests.unit.serving import tiny


class Run:
    """One execution with artifacts made by hand."""

    def __init__(self, folder: Path, model_source: Path) -> None:
        self.model = standard_artifacts.Model()
        self.blessing = standard_artifacts.ModelBlessing()
        self.index = ItemIndex()
        self.queries = standard_artifacts.Examples()
        self.infra_blessing = standard_artifacts.InfraBlessing()
        self.infra_blessing.set_int_custom_property("blessed", 1)
        self.latest: list[RetrievalRelease] = []
        for name in ("model", "blessing", "index", "queries"):
            getattr(self, name).uri = str(folder / name)
        shutil.copytree(model_source, folder / "model" / "Format-Serving")
        tiny.save_index(folder / "index", folder_fingerprint(model_source), tiny.ITEMS)
        self.blessing.set_int_custom_property("blessed", 1)
        self.queries.split_names = '["queries"]'
        (folder / "queries" / "Split-queries").mkdir(parents=True)
        self.write_queries([stored for _, stored in reversed(tiny.QUERIES)])
        self.root = folder / "releases"
        self.folder = folder
        self.runs = 0

    def write_queries(self, rows: Sequence[tf.train.Example]) -> None:
        path = Path(self.queries.uri) / "Split-queries" / "data_tfrecord-00000-of-00001.gz"
        with tf.io.TFRecordWriter(str(path), tf.io.TFRecordOptions(compression_type="GZIP")) as writer:
            for row in rows:
                writer.write(row.SerializeToString())

    def do(self) -> RetrievalRelease:
        self.runs += 1
        release = RetrievalRelease()
        release.uri = str(self.folder / f"release{self.runs}")
        Path(release.uri).mkdir()
        Executor().Do(
            {
                "model": [self.model],
                "model_blessing": [self.blessing],
                "infra_blessing": [self.infra_blessing],
                "latest_release": self.latest,
                "index": [self.index],
                "queries": [self.queries],
            },
            {"release": [release]},
            {
                "releases": str(self.root),
                "model_name": "tiny",
                "features": tiny.SPEC.model_dump_json(),
                "code_fingerprint": "f",
            },
        )
        return release


@pytest.fixture
def run(tmp_path: Path, model: Path) -> Run:
    return Run(tmp_path, model)


def test_publishes_a_blessed_model(run: Run) -> None:
    release = run.do()
    (version,) = list_versions(run.root)
    assert release.get_int_custom_property("pushed") == 1
    assert release.version == version
    assert json.loads((Path(release.uri) / "release.json").read_text()) == {
        "version": version,
        "path": str(run.root / str(version)),
    }
    manifest = verify_release(run.root / str(version))
    assert (manifest.model_name, manifest.features) == ("tiny", tiny.SPEC)
    store = QueryStore(run.root / str(version) / "queries")
    assert len(store) == 2
    for query_id, stored in tiny.QUERIES:
        assert tf.train.Example.FromString(store.find(query_id)) == stored


def test_publishes_nothing_without_a_blessing(run: Run) -> None:
    run.blessing.set_int_custom_property("blessed", 0)
    release = run.do()
    assert release.get_int_custom_property("pushed") == 0
    assert list(Path(release.uri).iterdir()) == []
    assert not run.root.exists()


def test_publishes_nothing_that_did_not_pass_the_canary(run: Run) -> None:
    run.infra_blessing.set_int_custom_property("blessed", 0)
    assert run.do().get_int_custom_property("pushed") == 0
    assert not run.root.exists()


@pytest.mark.parametrize(("later", "pushed"), [(4, 1), (5, 1), (6, 0)])
def test_a_span_of_the_past_does_not_replace_a_later_release(run: Run, later: int, pushed: int) -> None:
    run.queries.span = 5
    latest = RetrievalRelease()
    latest.version = 1234
    latest.set_int_custom_property("span", later)
    run.latest = [latest]
    release = run.do()
    assert release.get_int_custom_property("pushed") == pushed
    assert release.get_int_custom_property("span") == 5
    note = Path(release.uri) / "note.txt"
    assert note.exists() == (not pushed)
    if not pushed:
        assert note.read_text() == (
            "nothing is published: release 1234 of span 6 is later than span 5; "
            f"to publish span 5 in its place, remove {run.root}/1234 and run again"
        )


def test_again_is_the_same_version_and_after_removal_a_new_release(run: Run) -> None:
    first = run.do().version
    assert run.do().version == first
    shutil.rmtree(run.root)
    again = run.do().version
    assert list_versions(run.root) == [again]


def test_index_of_another_model_is_refused(run: Run) -> None:
    shutil.rmtree(run.index.uri)
    tiny.save_index(Path(run.index.uri), "0" * 64, tiny.ITEMS)
    with pytest.raises(ReleaseError, match="build the index again from this model"):
        run.do()
    assert list_versions(run.root) == []


def test_query_without_id_is_refused(run: Run) -> None:
    run.write_queries([tiny.QUERIES[0][1], tiny.example(user_id=[])])
    with pytest.raises(ValueError, match="row 1 has no 'user_id'"):
        run.do()


def test_query_that_stands_twice_is_refused(run: Run) -> None:
    run.write_queries([tiny.QUERIES[0][1], tiny.QUERIES[0][1]])
    with pytest.raises(ValueError, match="query 'alice' comes after 'alice'"):
        run.do()
    assert list_versions(run.root) == []


def test_component() -> None:
    component = ReleasePusher(
        model=channel_utils.as_channel([standard_artifacts.Model()]),
        model_blessing=channel_utils.as_channel([standard_artifacts.ModelBlessing()]),
        infra_blessing=channel_utils.as_channel([standard_artifacts.InfraBlessing()]),
        index=channel_utils.as_channel([ItemIndex()]),
        queries=channel_utils.as_channel([standard_artifacts.Examples()]),
        releases="releases",
        model_name="tiny",
        features="{}",
        code_fingerprint="abc",
    )
    assert component.outputs["release"].type is RetrievalRelease
    assert component.exec_properties["releases"] == "releases"
    assert component.driver_class is Driver
