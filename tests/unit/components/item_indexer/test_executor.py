import json
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
import tensorflow as tf
from tfx.types import artifact_utils, channel_utils, standard_artifacts

from components.artifacts import ItemIndex as ItemIndexArtifact
from components.item_indexer.component import ItemIndexer
from components.item_indexer.config import IndexConfig
from components.item_indexer.executor import Executor
from components.item_indexer.measure import IndexRefusedError
from serving.index import ItemIndex, ItemIndexError
from serving.release import folder_fingerprint
from tests.unit.serving import tiny


def write_split(examples: standard_artifacts.Examples, split: str, rows: Sequence[tf.train.Example]) -> None:
    """Two files, so that the order of the rows is not that of one file."""
    folder = Path(examples.uri) / f"Split-{split}"
    folder.mkdir(parents=True)
    options = tf.io.TFRecordOptions(compression_type="GZIP")
    for shard in range(2):
        with tf.io.TFRecordWriter(str(folder / f"data_tfrecord-0000{shard}-of-00002.gz"), options) as writer:
            for row in rows[shard::2]:
                writer.write(row.SerializeToString())


def item(item_id: str, embedding: Sequence[float], **more: list[bytes] | list[float]) -> tf.train.Example:
    values = {name: [float(value)] for name, value in zip("abcd", embedding, strict=True)}
    return tiny.example(item_id=[item_id.encode()], **values, **more)


ITEMS = [
    item('z,"1"\n', [1, 0, 0, 0], genre=[b"Drama"], title=[b"One"]),
    item("007", [0, 1, 0, 0], genre=[], title=[b"a", "\u00e9".encode()]),
    item("7", [0, 0, 1, 0], genre=[b"Comedy"], title=[]),
]
QUERIES = [tiny.example(user_id=[f"u{n}".encode()], w=[float(n)], tags=[b"x"] * (n % 3)) for n in range(9)]


class Run:
    """One execution with artifacts made by hand."""

    def __init__(self, folder: Path, model_source: Path) -> None:
        self.model = standard_artifacts.Model()
        self.model.uri = str(folder / "model")
        tf.io.gfile.makedirs(self.model.uri)
        (folder / "model" / "Format-Serving").symlink_to(model_source)
        self.examples = standard_artifacts.Examples()
        self.examples.uri = str(folder / "examples")
        self.index = ItemIndexArtifact()
        self.index.uri = str(folder / "index")
        Path(self.index.uri).mkdir()

    def splits(self, **splits: Sequence[tf.train.Example]) -> None:
        for name, rows in splits.items():
            write_split(self.examples, name, rows)
        self.examples.split_names = artifact_utils.encode_split_names(list(splits))

    def do(self, config: IndexConfig | None = None, show: Sequence[str] = ("title",)) -> ItemIndex:
        Executor().Do(
            {"model": [self.model], "examples": [self.examples]},
            {"index": [self.index]},
            {
                "config": (config or IndexConfig()).model_dump_json(),
                "features": tiny.SPEC.model_dump_json(),
                "show": json.dumps(list(show)),
                "code_fingerprint": "f",
            },
        )
        return ItemIndex(Path(self.index.uri))


@pytest.fixture
def run(tmp_path: Path, model: Path) -> Run:
    return Run(tmp_path, model)


def test_index_of_a_catalogue(run: Run, model: Path) -> None:
    run.splits(items=ITEMS, eval=QUERIES)
    index = run.do(IndexConfig(recall_at=2, sample_queries=4))
    # Sorted by bytes: "0" before "7" before "z".
    assert [index.item_id(row).decode() for row in range(3)] == ["007", "7", 'z,"1"\n']
    assert [index.attributes(row) for row in range(3)] == [
        {"title": "a|\u00e9"},
        {"genre": "Comedy"},
        {"genre": "Drama", "title": "One"},
    ]
    assert [hit.item_id for hit in index.search(np.array([3, 2, 1, 0], dtype=np.float32), 3)] == [
        b'z,"1"\n',
        b"007",
        b"7",
    ]
    content = json.loads((Path(run.index.uri) / "index.json").read_text())
    assert content["model_fingerprint"] == folder_fingerprint(model)
    assert (content["items"], content["dimension"], content["recall_at"], content["recall"]) == (3, 4, 2, 1.0)
    assert (content["queries"], content["min_recall"]) == (4, 0.95)
    assert set(content["latency"]) == {"index_p50_us", "exact_p50_us", "ratio"}
    assert (run.index.recall, run.index.items) == (1.0, 3)
    assert sorted(path.name for path in Path(run.index.uri).iterdir()) == [
        "attributes",
        "embeddings.npy",
        "filters",
        "ids",
        "index.json",
        "scann",
    ]
    assert content["searcher"]["kind"] == "brute_force"


@pytest.mark.parametrize(
    ("splits", "used"),
    [(("train", "test"), 2), (("train",), 1), (("train", "test", "eval"), 3)],
)
def test_first_split_of_eval_test_train_measures(run: Run, splits: tuple[str, ...], used: int) -> None:
    rows = {"train": 1, "test": 2, "eval": 3}
    run.splits(items=ITEMS, **{split: QUERIES[: rows[split]] for split in splits})
    assert run.do().manifest.measurement.queries == used


def test_a_shown_column_that_no_item_has_today_may_be_asked_for(run: Run) -> None:
    run.splits(items=ITEMS, eval=QUERIES)
    index = run.do(show=("title", "promo"))
    assert index.manifest.attributes == ("genre", "promo", "title")
    assert all("promo" not in index.attributes(row) for row in range(3))


def test_twice_the_same_item_is_an_error(run: Run) -> None:
    run.splits(items=[*ITEMS, item("007", [1, 1, 1, 1])], eval=QUERIES)
    with pytest.raises(ItemIndexError, match="item id '007' appears twice"):
        run.do()


def test_item_without_id_is_an_error(run: Run) -> None:
    run.splits(items=[*ITEMS, tiny.example(item_id=[], a=[1.0], b=[1.0], c=[1.0], d=[1.0])], eval=QUERIES)
    with pytest.raises(ValueError, match="a row has no 'item_id'"):
        run.do()


def test_embedding_with_nan_names_the_item(run: Run) -> None:
    run.splits(items=[*ITEMS, item("bad", [1, float("nan"), 1, 1])], eval=QUERIES)
    with pytest.raises(ItemIndexError, match="item 'bad' has an embedding with NaN"):
        run.do()


def test_no_query_is_an_error(run: Run) -> None:
    run.splits(items=ITEMS, eval=[])
    with pytest.raises(ValueError, match="there is no query to measure the index with"):
        run.do()


def test_low_recall_is_refused(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    run.splits(items=ITEMS, eval=QUERIES)
    monkeypatch.setattr(ItemIndex, "search", lambda self, query, k: ItemIndex.search_exact(self, query, 1))
    with pytest.raises(IndexRefusedError, match=r"recall@100 of the index is 0\.3333"):
        run.do()
    assert "recall" not in json.loads((Path(run.index.uri) / "index.json").read_text())


def test_filters_by_the_category_and_what_is_configured(run: Run) -> None:
    run.splits(
        items=[
            item("x", [1, 0, 0, 0], genre=[b"Drama"], title=[b"a|b"], tags=[b"old", "\u00e9".encode()], size=[2.5]),
            item("y", [0, 1, 0, 0], genre=[b"Drama"], title=[b"c"], tags=[b"old"], size=[12999.95]),
            item("y2", [0, 1, 0, 0], genre=[], title=[], tags=[], size=[1000000.0]),
            item("z", [0, 0, 1, 0], genre=[], title=[], tags=[], size=[3.0]),
        ],
        eval=QUERIES,
    )
    index = run.do(IndexConfig(filter=("tags", "size")))
    assert index.manifest.filters == ("genre", "tags", "size")
    assert index.attributes(0) == {"genre": "Drama", "size": "2.5", "tags": "old|\u00e9", "title": "a|b"}
    for attribute, value, expected in [
        ("genre", "Drama", [0, 1]),
        ("tags", "old", [0, 1]),
        ("tags", "\u00e9", [0]),
        ("tags", "old|\u00e9", []),
        ("size", "2.5", [0]),
        ("size", "12999.95", [1]),
        ("size", "1000000", [2]),
        ("size", "3", [3]),
    ]:
        selection = index.select([(attribute, [value])], [])
        assert selection is not None
        assert np.flatnonzero(selection.mask).tolist() == expected
    with pytest.raises(ValueError, match="attribute 'title' is not one to filter by, which are: genre, tags, size"):
        index.select([("title", ["c"])], [])


def test_component() -> None:
    component = ItemIndexer(
        model=channel_utils.as_channel([standard_artifacts.Model()]),
        examples=channel_utils.as_channel([standard_artifacts.Examples()]),
        config="{}",
        features="{1}",
        show="[]",
        code_fingerprint="abc",
    )
    assert component.outputs["index"].type is ItemIndexArtifact
    assert component.exec_properties == {"config": "{}", "features": "{1}", "show": "[]", "code_fingerprint": "abc"}


def test_queries_of_several_vectors_measure_the_index(tmp_path: Path) -> None:
    run = Run(tmp_path, tiny.save_model(tmp_path / "two", tiny.TwoVectors()))
    run.splits(items=ITEMS, eval=QUERIES)
    index = run.do(IndexConfig(recall_at=2, sample_queries=4))
    measured = index.manifest.measurement
    assert measured is not None
    assert (measured.recall, measured.queries) == (1.0, 4)
