"""Tests of mining hard negatives, by the pieces and through the executor, with a tiny SavedModel made here."""

import json
import logging
from math import log
from pathlib import Path

import numpy as np
import pytest
import tensorflow as tf
from tfx.types import artifact_utils, standard_artifacts

from components.artifacts import ItemCounts
from components.embedding import scores
from components.negative_sampler import mining
from components.negative_sampler.config import NegativesConfig
from components.negative_sampler.executor import Executor
from components.negative_sampler.mining import RankQueries, arrange, ranked
from models.config import Feature, FeatureSpec, Kind, Side
from tests.unit.components.beam_context import TWO_THREADS, beam_context
from tests.unit.components.negative_sampler.test_executor import digests, item_row, rows_of, train_row

pytestmark = pytest.mark.slow

SPEC = FeatureSpec(
    query_id="user",
    item_id="film",
    timestamp="time",
    category="genre",
    features=(
        Feature(name="mood", kind=Kind.NUMBER, side=Side.INTERACTION),
        Feature(name="film", kind=Kind.ID, side=Side.ITEM),
    ),
)

# Films f0 to f9, whose embedding is their number and whose candidate index is 9 less that: a film's place in the
# catalogue is not its place in the files. A query's embedding is its mood: +1 ranks large numbers first.
FILMS = {f"f{n}": 9 - n for n in range(10)}
# (user, film, time, mood). The mood that counts is that of u1's last row, and u2's only one.
TRAIN = [("u1", "f9", 30, 1.0), ("u1", "f5", 10, -1.0), ("u1", "f5", 20, -1.0), ("u2", "f0", 10, -1.0)]
# Without f9 and f5, u1's ranks 2 to 4 are f7, f6, f4; without f0, u2's are f2, f3, f4.
EXPECTED = {b"u1": {9 - 7, 9 - 6, 9 - 4}, b"u2": {9 - 2, 9 - 3, 9 - 4}}


class Moods(tf.Module):
    @tf.function(input_signature=[tf.TensorSpec([None], tf.string, "examples")])
    def queries(self, examples: tf.Tensor) -> dict[str, tf.Tensor]:
        return {"embedding": tf.io.parse_example(examples, {"mood": tf.io.FixedLenFeature([1], tf.float32)})["mood"]}

    @tf.function(input_signature=[tf.TensorSpec([None], tf.string, "examples")])
    def items(self, examples: tf.Tensor) -> dict[str, tf.Tensor]:
        names = tf.io.parse_example(examples, {"film": tf.io.FixedLenFeature([1], tf.string)})["film"]
        return {"embedding": tf.strings.to_number(tf.strings.substr(names, 1, 9))}


def raw_row(**features: str | int | float) -> bytes:
    row = tf.train.Example()
    for name, value in features.items():
        if isinstance(value, str):
            row.features.feature[name].bytes_list.value.append(value.encode())
        elif isinstance(value, int):
            row.features.feature[name].int64_list.value.append(value)
        else:
            row.features.feature[name].float_list.value.append(value)
    return row.SerializeToString(deterministic=True)


def write(path: Path, records: list[bytes]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    with tf.io.TFRecordWriter(str(path), options="GZIP") as writer:
        for record in records:
            writer.write(record)


@pytest.fixture(scope="module")
def blessed(tmp_path_factory: pytest.TempPathFactory) -> standard_artifacts.Model:
    model, module = standard_artifacts.Model(), Moods()
    model.uri = str(tmp_path_factory.mktemp("blessed"))
    signatures = {"serialized_examples": module.queries, "item_examples": module.items}
    tf.saved_model.save(module, f"{model.uri}/Format-Serving", signatures)
    extra = Path(model.uri, "Format-Serving/assets.extra")
    extra.mkdir()
    (extra / "model.json").write_text(json.dumps({"features": SPEC.model_dump(mode="json")}))
    return model


def run(
    folder: Path,
    model: standard_artifacts.Model | None,
    train: list[tuple[str, str, int, float]] = TRAIN,
    films: dict[str, int] = FILMS,
    raw_films: list[str] | None = None,
    raw_train: list[tuple[str, str, int, float]] | None = None,
    beam_args: tuple[str, ...] = (),
    files: int = 1,
    spec: FeatureSpec = SPEC,
    **settings: object,
) -> standard_artifacts.Examples:
    config = NegativesConfig(**{"per_positive": 1, "hard_per_positive": 3, "hard_from": (2, 4), **settings})
    source, raw, target = (standard_artifacts.Examples() for _ in range(3))
    counts = ItemCounts()
    for artifact, name in ((source, "source"), (raw, "raw"), (target, "target"), (counts, "counts")):
        artifact.uri = str(folder / name)
    records = {
        "source/Split-train": [train_row(user, film, films[film]) for user, film, _, _ in train],
        "source/Split-items": [item_row(film, index) for film, index in films.items()],
        "raw/Split-train": [raw_row(user=u, film=f, time=t, mood=m) for u, f, t, m in raw_train or train],
        "raw/Split-items": [raw_row(film=film) for film in (sorted(films) if raw_films is None else raw_films)],
    }
    for split, rows in records.items():
        for number in range(files):
            write(folder / split / f"data_tfrecord-{number}.gz", rows[number::files])
    source.split_names = raw.split_names = artifact_utils.encode_split_names(["train", "items"])
    context = beam_context(beam_args, tmp_dir=str(folder / "tmp"), unique_id="1")
    inputs = {"examples": [source], "raw_examples": [raw], "blessed_model": [model] if model else []}
    properties = {"config": config.model_dump_json(), "features": spec.model_dump_json(), "code_fingerprint": "x"}
    Executor(context).Do(inputs, {"sampled_examples": [target], "item_counts": [counts]}, properties)
    return target


def hard(target: standard_artifacts.Examples) -> list[tuple[bytes, list[int]]]:
    return [(row["query_key"][0], row["hard_negative_indices"]) for row in rows_of(target)]


@pytest.mark.parametrize(
    ("first", "last", "known", "expected"),
    [
        (1, 2, [], [1, 3]),
        (2, 4, [], [3, 0, 2]),  # 0 and 2 score alike: the lower first
        (1, 2, [1], [3, 0]),
        (1, 3, [1, 3], [0, 2, 4]),
        (3, 9, [1, 1], [2, 4]),  # four are left to rank
        (5, 9, [1], []),
    ],
)
def test_items_by_rank(first: int, last: int, known: list[int], expected: list[int]) -> None:
    scores = np.array([0.5, 0.9, 0.5, 0.7, 0.1], np.float32)

    assert ranked(scores, np.array(known, np.int64), first, last).tolist() == expected
    assert scores.max() == np.float32(0.9)


def test_a_collapsed_models_ranks_are_the_catalogues_order() -> None:
    assert ranked(np.ones(9, np.float32), np.array([0, 5]), 2, 5).tolist() == [2, 3, 4, 6]


def test_every_item_must_be_embedded_once() -> None:
    chunks = [([2], np.array([[3.0]])), ([0, 1], np.array([[1.0], [2.0]]))]

    assert arrange(chunks, 3).tolist() == [[1.0], [2.0], [3.0]]
    for faulty, items in ((chunks, 4), ([*chunks, chunks[0]], 3)):
        with pytest.raises(ValueError, match=f"not exactly one row of each of the {items} items"):
            arrange(faulty, items)


@pytest.mark.parametrize("at_once", [scores.SCORES_AT_ONCE, 1])
def test_a_query_is_ranked_without_its_own_items_in_any_block(at_once: int, monkeypatch: pytest.MonkeyPatch) -> None:
    def embed(signature: str, examples: list[bytes]) -> np.ndarray:
        return np.array([[float(example)] for example in examples], np.float32)

    monkeypatch.setattr(scores, "SCORES_AT_ONCE", at_once)
    step = RankQueries(embed, (1, 1))  # type: ignore[arg-type]
    embeddings = np.array([[0.0], [1.0], [2.0]])

    # The best of 0, 1 and 2 without the known 2 is 1; that of 0, -1 and -2 without the known 0 is -1. Both are item 1.
    found = step.process((0, [(b"u", b"1", (2,)), (b"v", b"-1", (0,))]), embeddings)

    assert [(query, items.tolist()) for query, items in found] == [(b"u", [1]), (b"v", [1])]


@pytest.mark.parametrize("chunk", [512, 3])
@pytest.mark.parametrize("exclude_known", [False, True])
def test_drawn_from_the_ranks_and_never_known(
    tmp_path: Path, blessed: standard_artifacts.Model, exclude_known: bool, chunk: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(mining, "CHUNK", chunk)

    target = run(tmp_path, blessed, exclude_known=exclude_known)

    assert len(rows_of(target)) == 4
    for query, indices in hard(target):
        assert len(indices) == 3
        assert set(indices) == EXPECTED[query]


def test_fewer_than_there_are_ranks_differ_by_row(tmp_path: Path, blessed: standard_artifacts.Model) -> None:
    train = [("u1", f"f{n}", n, 1.0) for n in range(4)] + [("u1", "f9", 30, 1.0)] * 6

    target = run(tmp_path, blessed, train, hard_per_positive=1)

    # Left are f8 to f4; ranks 2 to 4 are f7, f6, f5. Of ten rows not all draw the same, identical ones neither.
    drawn = [indices for _, indices in hard(target)]
    assert {index for indices in drawn for index in indices} <= {2, 3, 4}
    assert len({tuple(indices) for indices in drawn}) > 1


def test_where_the_catalogue_ends_there_are_none(tmp_path: Path, blessed: standard_artifacts.Model) -> None:
    target = run(tmp_path, blessed, hard_from=(7, 50), hard_per_positive=3)

    # u1 has eight films to rank: the last two are f1, f0. u2 has nine: f7, f8, f9.
    for query, indices in hard(target):
        assert sorted(indices) == {b"u1": [-1, 8, 9], b"u2": [0, 1, 2]}[query]


def test_without_a_blessed_model_all_are_none(
    tmp_path: Path, blessed: standard_artifacts.Model, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.INFO, logger="retrieval.progress"):
        target = run(tmp_path / "first", None)

    assert "no hard negatives in this run: there is no blessed model yet" in caplog.messages
    assert [indices for _, indices in hard(target)] == [[-1] * 3] * 4
    # The other negatives are those of a run with a model.
    for row, with_hard in zip(rows_of(target), rows_of(run(tmp_path / "next", blessed)), strict=True):
        assert row["negative_indices"] == with_hard["negative_indices"]
        assert with_hard["negative_log_q"] == pytest.approx([log(1 / 10)])


def test_a_blessed_model_that_reads_what_is_no_longer_there_mines_nothing(
    tmp_path: Path, blessed: standard_artifacts.Model, caplog: pytest.LogCaptureFixture
) -> None:
    mood = Feature(name="mood", kind=Kind.CATEGORICAL, side=Side.INTERACTION)
    with caplog.at_level(logging.INFO, logger="retrieval.progress"):
        target = run(tmp_path, blessed, spec=SPEC.model_copy(update={"features": (mood, SPEC.features[1])}))

    assert [indices for _, indices in hard(target)] == [[-1] * 3] * 4
    assert (
        "no hard negatives in this run: the last blessed model reads "
        "'mood' (interaction number, now interaction categorical)"
    ) in caplog.messages


def test_not_asked_for_no_model_is_loaded(tmp_path: Path) -> None:
    nowhere = standard_artifacts.Model()
    nowhere.uri = str(tmp_path / "nowhere")

    target = run(tmp_path, nowhere, hard_per_positive=0)

    assert all("hard_negative_indices" not in row for row in rows_of(target))


def test_another_seed_draws_others(tmp_path: Path, blessed: standard_artifacts.Model) -> None:
    train = [(f"u{n}", "f9", 1, 1.0) for n in range(8)]
    drawn = [
        sorted(hard(run(tmp_path / str(seed), blessed, train, hard_per_positive=1, hard_from=(1, 9), seed=seed)))
        for seed in (1, 2)
    ]

    assert drawn[0] != drawn[1]


def test_the_same_on_any_runner_and_from_any_number_of_files(
    tmp_path: Path, blessed: standard_artifacts.Model, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(mining, "CHUNK", 7)
    films = {f"f{n}": (n * 7) % 50 for n in range(50)}
    train = [(f"u{n % 37}", f"f{(n * n) % 50}", n, 1.0 - n % 3) for n in range(300)]
    settings = {"hard_from": (3, 20), "hard_per_positive": 4}

    one = run(tmp_path / "one", blessed, train, films, **settings)
    two = run(tmp_path / "two", blessed, train[::-1], films, files=3, beam_args=TWO_THREADS, **settings)

    assert len(rows_of(one)) == 300
    assert digests(one.uri) == digests(two.uri)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"raw_films": [*sorted(FILMS), "f99"]}, "item 'f99' is not in the transformed one"),
        ({"raw_films": sorted(FILMS)[1:]}, "not exactly one row of each of the 10 items"),
        ({"raw_train": TRAIN[:3]}, "query 'u2': it has rows in only one of the raw and the transformed examples"),
    ],
)
def test_examples_that_do_not_fit_together(
    tmp_path: Path, blessed: standard_artifacts.Model, change: dict[str, list], message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        run(tmp_path, blessed, **change)
