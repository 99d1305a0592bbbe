"""Tests of the NegativeSampler and its executor, on artifacts made by hand."""

import hashlib
from collections import Counter
from collections.abc import Iterable
from math import log
from pathlib import Path

import pytest
import tensorflow as tf
from tfx.components.util import examples_utils
from tfx.proto import example_gen_pb2
from tfx.types import artifact_utils, channel_utils, standard_artifacts

from components.artifacts import ItemCounts
from components.negative_sampler import executor as executor_module
from components.negative_sampler.component import NegativeSampler
from components.negative_sampler.config import NegativesConfig
from components.negative_sampler.executor import Executor
from tests.unit.components.beam_context import TWO_THREADS, beam_context

# Query u1 knows a, b; u2 knows a, c; u3 knows a twice. Counts: a 4, b 1, c 1, d 0.
TRAIN = [("u1", "a", 0), ("u1", "b", 1), ("u2", "a", 0), ("u2", "c", 2), ("u3", "a", 0), ("u3", "a", 0)]
ITEMS = [("c", 2), ("a", 0), ("d", 3), ("b", 1)]


def example(**features: bytes | int) -> bytes:
    row = tf.train.Example()
    for name, value in features.items():
        feature = row.features.feature[name]
        (feature.bytes_list if isinstance(value, bytes) else feature.int64_list).value.append(value)
    return row.SerializeToString(deterministic=True)


def train_row(query: str, item: str, index: int) -> bytes:
    return example(query_key=query.encode(), item_key=item.encode(), candidate_index=index)


def item_row(item: str, index: int) -> bytes:
    return example(item_key=item.encode(), candidate_index=index)


def write_split(folder: Path, records: list[bytes], files: int) -> None:
    folder.mkdir(parents=True)
    for number in range(files):
        path = folder / f"transformed_examples-{number:05d}-of-{files:05d}.gz"
        with tf.io.TFRecordWriter(str(path), options="GZIP") as writer:
            for record in records[number::files]:
                writer.write(record)


def read(files: Iterable[Path]) -> list[dict[str, list]]:
    rows = []
    for record in tf.data.TFRecordDataset([str(f) for f in sorted(files)], compression_type="GZIP").as_numpy_iterator():
        features = tf.train.Example.FromString(record).features.feature
        rows.append({name: list(getattr(f, f.WhichOneof("kind")).value) for name, f in sorted(features.items())})
    return rows


def run(
    folder: Path,
    config: NegativesConfig,
    train: list[bytes] | None = None,
    items: list[bytes] | None = None,
    files: int = 1,
    beam_args: tuple[str, ...] = (),
) -> tuple[standard_artifacts.Examples, ItemCounts]:
    source, target, counts = standard_artifacts.Examples(), standard_artifacts.Examples(), ItemCounts()
    source.uri, target.uri, counts.uri = str(folder / "source"), str(folder / "target"), str(folder / "counts")
    source.split_names = artifact_utils.encode_split_names(["train", "items"])
    write_split(folder / "source/Split-train", [train_row(*r) for r in TRAIN] if train is None else train, files)
    write_split(folder / "source/Split-items", [item_row(*r) for r in ITEMS] if items is None else items, files)
    context = beam_context(beam_args, tmp_dir=str(folder / "tmp"), unique_id="1")
    Executor(context).Do(
        {"examples": [source]},
        {"sampled_examples": [target], "item_counts": [counts]},
        {"config": config.model_dump_json(), "features": "{}", "code_fingerprint": "x"},
    )
    return target, counts


def rows_of(target: standard_artifacts.Examples, split: str = "train") -> list[dict[str, list]]:
    return read(Path(target.uri, f"Split-{split}").iterdir())


def digests(folder: str) -> dict[str, str]:
    files = [f for f in Path(folder).rglob("*") if f.is_file()]
    return {f.relative_to(folder).as_posix(): hashlib.sha256(f.read_bytes()).hexdigest() for f in files}


def test_every_row_is_kept_and_gets_its_negatives(tmp_path: Path) -> None:
    target, _ = run(tmp_path, NegativesConfig(per_positive=3))

    rows = rows_of(target)
    kept = Counter((r["query_key"][0].decode(), r["item_key"][0].decode(), r["candidate_index"][0]) for r in rows)
    assert kept == Counter(TRAIN)
    for row in rows:
        assert len(row["negative_indices"]) == 3
        assert set(row["negative_indices"]) <= {0, 1, 2, 3}
        assert row["negative_log_q"] == pytest.approx([log(1 / 4)] * 3)


def test_counts_and_catalogue(tmp_path: Path) -> None:
    target, counts = run(tmp_path, NegativesConfig())

    expected = [(b"a", 0, 4), (b"b", 1, 1), (b"c", 2, 1), (b"d", 3, 0)]
    for rows in (read([Path(counts.uri, "counts.tfrecord.gz")]), rows_of(target, "items")):
        assert [(r["item_key"][0], r["candidate_index"][0], r["item_count"][0]) for r in rows] == expected


def test_the_artifact_says_what_it_holds(tmp_path: Path) -> None:
    target, _ = run(tmp_path, NegativesConfig())

    assert artifact_utils.decode_split_names(target.split_names) == ["train", "items"]
    assert examples_utils.get_payload_format(target) == example_gen_pb2.FORMAT_TF_EXAMPLE


def test_known_items_are_never_drawn_and_log_q_is_renormalised(tmp_path: Path) -> None:
    # alpha 1: weights a 5, b 2, c 2, d 1 of 10. u1 is left c 2, d 1 of 3; u2 b 2, d 1 of 3; u3 b, c, d of 5.
    left = {b"u1": {2: 2 / 3, 3: 1 / 3}, b"u2": {1: 2 / 3, 3: 1 / 3}, b"u3": {1: 2 / 5, 2: 2 / 5, 3: 1 / 5}}

    target, _ = run(tmp_path, NegativesConfig(per_positive=20, sampling="popularity", alpha=1.0, exclude_known=True))

    for row in rows_of(target):
        probabilities = left[row["query_key"][0]]
        assert set(row["negative_indices"]) == set(probabilities)
        assert row["negative_log_q"] == pytest.approx([log(probabilities[i]) for i in row["negative_indices"]])


def test_identical_rows_of_a_query_get_different_negatives_when_grouped(tmp_path: Path) -> None:
    target, _ = run(tmp_path, NegativesConfig(per_positive=20, exclude_known=True))

    twins = [r["negative_indices"] for r in rows_of(target) if r["query_key"] == [b"u3"]]
    assert len(twins) == 2
    assert twins[0] != twins[1]


@pytest.mark.slow
@pytest.mark.parametrize("exclude_known", [False, True])
def test_the_same_on_any_runner_and_from_any_number_of_files(tmp_path: Path, exclude_known: bool) -> None:
    train = [train_row(f"u{i % 37}", "i", (i * i) % 50) for i in range(400)]
    items = [item_row(f"i{i}", i) for i in range(50)]
    config = NegativesConfig(sampling="popularity", exclude_known=exclude_known)

    one, one_counts = run(tmp_path / "one", config, train, items)
    two, two_counts = run(tmp_path / "two", config, train[::-1], items, files=3, beam_args=TWO_THREADS)

    assert len(rows_of(one)) == 400
    assert digests(one.uri) == digests(two.uri)
    assert digests(one_counts.uri) == digests(two_counts.uri)


def test_many_files_hold_the_same_rows(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    train = [train_row(f"u{i}", "i", i % 50) for i in range(400)]
    items = [item_row(f"i{i}", i) for i in range(50)]
    one, _ = run(tmp_path / "one", NegativesConfig(), train, items)
    monkeypatch.setattr(executor_module, "BYTES_PER_FILE", 1000)
    many, _ = run(tmp_path / "many", NegativesConfig(), train, items)

    assert len(list(Path(many.uri, "Split-train").iterdir())) > 1
    assert sorted(map(str, rows_of(one))) == sorted(map(str, rows_of(many)))


def test_another_seed_draws_others(tmp_path: Path) -> None:
    one, _ = run(tmp_path / "one", NegativesConfig(per_positive=20, seed=1))
    two, _ = run(tmp_path / "two", NegativesConfig(per_positive=20, seed=2))

    def drawn(target: standard_artifacts.Examples) -> set[tuple[int, ...]]:
        return {tuple(r["negative_indices"]) for r in rows_of(target)}

    assert not drawn(one) & drawn(two)


def test_rows_are_mixed_and_not_in_the_order_of_the_queries(tmp_path: Path) -> None:
    train = [train_row(f"u{i // 100}", "i", i % 50) for i in range(400)]
    target, _ = run(tmp_path, NegativesConfig(exclude_known=False), train, [item_row(f"i{i}", i) for i in range(50)])

    # In the first quarter each of the four queries has about 25 rows of 100.
    first = Counter(r["query_key"][0] for r in rows_of(target)[:100])
    assert len(first) == 4
    assert min(first.values()) > 10


@pytest.mark.parametrize("exclude_known", [False, True])
def test_no_negatives_asked_for(tmp_path: Path, exclude_known: bool) -> None:
    config = NegativesConfig(per_positive=0, exclude_known=exclude_known)
    # With one item the query knows the whole catalogue, which is no error when none is drawn.
    target, _ = run(tmp_path, config, [train_row("u1", "a", 0)], [item_row("a", 0)])

    [row] = rows_of(target)
    assert row["negative_indices"] == row["negative_log_q"] == []


def test_a_query_that_knows_everything_is_named(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="query 'u1': every item of the catalogue is known"):
        run(tmp_path, NegativesConfig(exclude_known=True), [train_row("u1", "a", 0)], [item_row("a", 0)])


@pytest.mark.parametrize(
    ("train", "items", "message"),
    [
        ([], [item_row("a", 0)], "split train has no rows"),
        ([train_row("u1", "a", 0)], [], "split items has no rows"),
        ([train_row("u1", "x", -1)], [item_row("a", 0)], "query 'u1', item 'x': candidate_index is -1"),
        ([train_row("u1", "x", 1)], [item_row("a", 0)], "candidate_index 1 is not one of the 1 items"),
        ([train_row("u1", "a", 0)], [item_row("a", 0), item_row("b", 0)], "item 'b': candidate_index is 0, expected 1"),
    ],
)
def test_bad_input_is_refused(tmp_path: Path, train: list[bytes], items: list[bytes], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        run(tmp_path, NegativesConfig(), train, items)


@pytest.mark.parametrize("with_model", [False, True])
def test_the_component(with_model: bool) -> None:
    mined = {}
    if with_model:
        mined["raw_examples"] = channel_utils.as_channel([standard_artifacts.Examples()])
        mined["blessed_model"] = channel_utils.as_channel([standard_artifacts.Model()])
    component = NegativeSampler(
        examples=channel_utils.as_channel([standard_artifacts.Examples()]),
        config=NegativesConfig(per_positive=2).model_dump_json(),
        features="{}",
        code_fingerprint="abc",
        **mined,
    )

    assert component.outputs["sampled_examples"].type_name == "Examples"
    assert component.outputs["item_counts"].type_name == "ItemCounts"
    assert NegativesConfig.model_validate_json(component.exec_properties["config"]).per_positive == 2
    assert component.exec_properties["code_fingerprint"] == "abc"
    assert {"raw_examples", "blessed_model"} & set(component.inputs.keys()) == set(mined)
