"""Tests of the RetrievalEvaluator and its executor, with tiny SavedModels made here."""

import json
from math import log2
from pathlib import Path
from typing import Any

import pytest
import tensorflow as tf
from tfx.types import artifact_utils, channel_utils, standard_artifacts

from components.artifacts import ItemCounts
from components.retrieval_evaluator.component import RetrievalEvaluator
from components.retrieval_evaluator.config import EvaluationConfig, Threshold
from components.retrieval_evaluator.executor import Executor
from models.config import Feature, FeatureSpec, Kind, Side
from tests.unit.components.beam_context import TWO_THREADS, beam_context

pytestmark = pytest.mark.slow

SPEC = FeatureSpec(
    query_id="user",
    item_id="film",
    timestamp="time",
    category="genre",
    features=(
        Feature(name="user", kind=Kind.ID, side=Side.QUERY),
        Feature(name="film", kind=Kind.ID, side=Side.ITEM),
    ),
)

# Five films; a 1-dimensional embedding, and queries of +1 (likes large) or -1 (likes small).
FILMS = {"a": 1.0, "b": 2.0, "c": 3.0, "d": 4.0, "e": 4.0}
USERS = {"u1": 1.0, "u2": -1.0, "u3": 1.0}
GENRES = {"a": "Drama", "b": "Drama", "c": "Crime", "d": "Crime"}  # e has none
COUNTS = {"a": 5, "b": 1, "c": 0, "d": 2, "e": 0}  # head (one of five): a
SPLITS = {
    # u1 has three train rows, u2 one, u3 none.
    "train": [("u1", "e"), ("u1", "a"), ("u1", "a"), ("u2", "b")],
    "eval": [("u1", "d"), ("u1", "c"), ("u1", "a"), ("u2", "a"), ("u3", "d")],
    "test": [("u1", "b"), ("u1", "d")],
}
# Candidate on eval, seen items out:
#   u1-d: e, a out; b c d left: rank 1.   u1-c: rank 2 of 3.   u1-a: a was seen, left out.
#   u2-a: b out; a is the smallest of a c d e: rank 1.         u3-d: d and e equal: rank 2.
EVAL_RANKS = {("u1", "d"): 1, ("u1", "c"): 2, ("u2", "a"): 1, ("u3", "d"): 2}
# Most popular on eval: u1-d: b 1, c 0, d 2: rank 1. u1-c: rank 3. u2-a: 5, the largest: rank 1. u3-d: a is above: 2.
POPULAR_RANKS = {("u1", "d"): 1, ("u1", "c"): 3, ("u2", "a"): 1, ("u3", "d"): 2}


class Lookup(tf.Module):
    """Embeds rows by the id they hold."""

    def __init__(self, queries: dict[str, list[float]], items: dict[str, list[float]]) -> None:
        super().__init__()
        self.tables = {"user": self._table(queries), "film": self._table(items)}
        self.vectors = {"user": tf.Variable(list(queries.values())), "film": tf.Variable(list(items.values()))}

    def _table(self, vectors: dict[str, list[float]]) -> tf.lookup.StaticHashTable:
        keys = tf.constant(list(vectors))
        return tf.lookup.StaticHashTable(
            tf.lookup.KeyValueTensorInitializer(keys, tf.range(len(vectors), dtype=tf.int64)), -1
        )

    def embed(self, examples: tf.Tensor, name: str) -> dict[str, tf.Tensor]:
        parsed = tf.io.parse_example(examples, {name: tf.io.FixedLenFeature([], tf.string)})
        return {"embedding": tf.gather(self.vectors[name], self.tables[name].lookup(parsed[name]))}

    def save(self, folder: Path, spec: FeatureSpec = SPEC) -> None:
        signatures = {
            signature: tf.function(lambda examples, n=name: self.embed(examples, n)).get_concrete_function(
                tf.TensorSpec([None], tf.string, "examples")
            )
            for signature, name in (("serialized_examples", "user"), ("item_examples", "film"))
        }
        tf.saved_model.save(self, str(folder), signatures)
        (folder / "assets.extra").mkdir()
        (folder / "assets.extra/model.json").write_text(json.dumps({"features": spec.model_dump(mode="json")}))


def row(**features: str | None) -> bytes:
    example = tf.train.Example()
    for name, value in features.items():
        values = example.features.feature[name].bytes_list.value
        if value is not None:
            values.append(value.encode())
    return example.SerializeToString()


def write(path: Path, records: list[bytes]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    with tf.io.TFRecordWriter(str(path), options="GZIP") as writer:
        for record in records:
            writer.write(record)


def model_at(
    folder: Path, number: int, films: dict[str, float] = FILMS, users: dict[str, float] = USERS
) -> standard_artifacts.Model:
    model = standard_artifacts.Model()
    model.uri, model.id = str(folder / f"model-{number}"), number
    Lookup({k: [v] for k, v in users.items()}, {k: [v] for k, v in films.items()}).save(
        Path(model.uri, "Format-Serving")
    )
    return model


def run(
    folder: Path,
    config: EvaluationConfig | None = None,
    splits: dict[str, list[tuple[str, str]]] = SPLITS,
    counts: dict[str, int] = COUNTS,
    model: standard_artifacts.Model | None = None,
    baseline: standard_artifacts.Model | None = None,
    beam_args: tuple[str, ...] = (),
) -> tuple[dict[str, Any], standard_artifacts.ModelBlessing]:
    examples, item_counts = standard_artifacts.Examples(), ItemCounts()
    examples.uri, item_counts.uri = str(folder / "examples"), str(folder / "counts")
    examples.split_names = artifact_utils.encode_split_names([*splits, "items"])
    for split, pairs in splits.items():
        write(folder / f"examples/Split-{split}/data_tfrecord-0.gz", [row(user=u, film=f) for u, f in pairs])
    write(folder / "examples/Split-items/data_tfrecord-0.gz", [row(film=f, genre=GENRES.get(f)) for f in FILMS])
    records = []
    for film, count in counts.items():
        example = tf.train.Example()
        example.features.feature["item_key"].bytes_list.value.append(film.encode())
        example.features.feature["item_count"].int64_list.value.append(count)
        records.append(example.SerializeToString())
    write(folder / "counts/counts.tfrecord.gz", records)
    evaluation, blessing = standard_artifacts.ModelEvaluation(), standard_artifacts.ModelBlessing()
    evaluation.uri, blessing.uri = str(folder / "evaluation"), str(folder / "blessing")
    context = beam_context(beam_args, tmp_dir=str(folder / "tmp"), unique_id="1")
    inputs = {"model": [model or model_at(folder, 7)], "examples": [examples], "item_counts": [item_counts]}
    if baseline:
        inputs["baseline_model"] = [baseline]
    Executor(context).Do(
        inputs,
        {"evaluation": [evaluation], "blessing": [blessing]},
        {
            "config": (config or EvaluationConfig(ks=(1, 2, 100))).model_dump_json(),
            "features": SPEC.model_dump_json(),
            "code_fingerprint": "x",
        },
    )
    assert [f.name for f in Path(evaluation.uri).iterdir()] == ["metrics.json"]
    return json.loads(Path(evaluation.uri, "metrics.json").read_text()), blessing


def expected(ranks: list[int]) -> dict[str, float]:
    n = len(ranks)
    means: dict[str, float] = {"rows": n, "MRR": sum(1 / r for r in ranks) / n}
    for k in (1, 2, 100):
        means[f"HR@{k}"] = sum(r <= k for r in ranks) / n
        means[f"NDCG@{k}"] = sum(1 / log2(r + 1) for r in ranks if r <= k) / n
    return means


def test_every_number_of_the_eval_split(tmp_path: Path) -> None:
    metrics, _ = run(tmp_path)

    results = metrics["splits"]["eval"]
    assert results["rows"] == 4
    assert results["repeats_left_out"] == 1
    assert set(results["models"]) == {"candidate", "popular"}
    for model, ranks in (("candidate", EVAL_RANKS), ("popular", POPULAR_RANKS)):
        slices = results["models"][model]

        def of(*pairs: tuple[str, str], ranks: dict[tuple[str, str], int] = ranks) -> Any:
            return pytest.approx(expected([ranks[pair] for pair in pairs]))

        u1_d, u1_c, u2_a, u3_d = EVAL_RANKS
        assert slices["overall"] == of(u1_d, u1_c, u2_a, u3_d)
        assert slices["category"] == {"Crime": of(u1_d, u1_c, u3_d), "Drama": of(u2_a)}
        assert slices["popularity"] == {"head": of(u2_a), "tail": of(u1_d, u1_c, u3_d)}
        assert slices["activity"] == {"3-5": of(u1_d, u1_c), "1-2": of(u2_a), "0": of(u3_d)}
        assert slices["unscorable_rows"] == 0


def test_for_the_test_split_the_eval_items_are_seen_too(tmp_path: Path) -> None:
    metrics, _ = run(tmp_path)

    # u1 has seen e, a (train) and d, c, a (eval): only b is left for u1-b, and u1-d is a repeat.
    results = metrics["splits"]["test"]
    assert results["repeats_left_out"] == 1
    assert results["models"]["candidate"]["overall"] == pytest.approx(expected([1]))
    # Activity counts train rows only.
    assert list(results["models"]["candidate"]["activity"]) == ["3-5"]


def test_with_seen_items_ranked(tmp_path: Path) -> None:
    metrics, _ = run(tmp_path, EvaluationConfig(ks=(1, 2, 100), exclude_seen=False))

    # Larger is better for u1: d equal to e: 2; c: 3; a: 5. u2: a is the best: 1. u3: d: 2.
    results = metrics["splits"]["eval"]
    assert results["repeats_left_out"] == 0
    assert results["models"]["candidate"]["overall"] == pytest.approx(expected([2, 3, 5, 1, 2]))


def test_an_item_without_category_has_a_slice(tmp_path: Path) -> None:
    metrics, _ = run(tmp_path, splits={"train": SPLITS["train"], "eval": [("u3", "e")]})

    assert list(metrics["splits"]["eval"]["models"]["candidate"]["category"]) == ["(none)"]


def test_a_collapsed_model_gets_the_last_place(tmp_path: Path) -> None:
    model = model_at(tmp_path, 8, films=dict.fromkeys(FILMS, 0.3), users=dict.fromkeys(USERS, 0.7))

    metrics, _ = run(tmp_path, EvaluationConfig(ks=(1, 2, 100), exclude_seen=False), model=model)

    assert metrics["splits"]["eval"]["models"]["candidate"]["overall"] == pytest.approx(expected([5] * 5))


def test_a_model_that_gives_nan_is_refused(tmp_path: Path) -> None:
    model = model_at(tmp_path, 8, users={**USERS, "u3": float("nan")})

    metrics, blessing = run(tmp_path, model=model)

    candidate = metrics["splits"]["eval"]["models"]["candidate"]
    assert candidate["unscorable_rows"] == 1
    assert candidate["activity"]["0"] == pytest.approx(expected([5]))
    assert metrics["blessed"] is False
    assert blessing.get_int_custom_property("blessed") == 0


def test_thresholds_met(tmp_path: Path) -> None:
    # HR@2 is 1, most-popular's .75.
    config = EvaluationConfig(
        ks=(2,), thresholds=(Threshold(metric="HR@2", min_value=0.9, min_ratio_to_popular=1.3, min_ratio_to_blessed=1),)
    )

    metrics, blessing = run(tmp_path, config)

    assert metrics["blessed"] is True
    assert metrics["reasons"] == [
        "HR@2 of eval 1.0000 reaches 0.9.",
        "HR@2 of eval 1.0000 reaches 1.3 times most-popular's 0.7500 = 0.9750.",
        "HR@2: there is no blessed model to compare with.",
    ]
    assert [f.name for f in Path(blessing.uri).iterdir()] == ["BLESSED"]
    assert blessing.get_int_custom_property("blessed") == 1
    assert blessing.get_string_custom_property("current_model") == str(tmp_path / "model-7")
    assert blessing.get_int_custom_property("current_model_id") == 7
    assert not blessing.has_custom_property("baseline_model")
    assert metrics["blessed_left_out"] is None


def test_thresholds_not_met(tmp_path: Path) -> None:
    config = EvaluationConfig(ks=(1,), thresholds=(Threshold(metric="HR@1", min_value=0.6),))

    metrics, blessing = run(tmp_path, config)

    assert metrics["blessed"] is False
    (reason,) = metrics["reasons"]
    assert reason.startswith("HR@1 of eval 0.5000 is below 0.6: look at")
    assert [f.name for f in Path(blessing.uri).iterdir()] == ["NOT_BLESSED"]
    assert blessing.get_int_custom_property("blessed") == 0
    assert blessing.get_int_custom_property("current_model_id") == 7


def test_against_the_last_blessed_model(tmp_path: Path) -> None:
    # The blessed model has the films the other way round and the same users:
    # u1-d: rank 2 of b c d with b, c above (3); u1-c: 2; u2-a: a is worst of a c d e: 4; u3-d: d, e equal and last: 5.
    baseline = model_at(tmp_path, 5, films={f: -v for f, v in FILMS.items()})
    config = EvaluationConfig(ks=(1, 2, 100), thresholds=(Threshold(metric="MRR", min_ratio_to_blessed=1.0),))

    metrics, blessing = run(tmp_path, config, baseline=baseline)

    blessed = metrics["splits"]["eval"]["models"]["blessed"]
    assert blessed["overall"] == pytest.approx(expected([3, 2, 4, 5]))
    # MRR .75 against (1/3 + 1/2 + 1/4 + 1/5) / 4 = .3208. The best draw has only u2: 1 / (1/4) = 4. In
    # e^-3 = 5 % of the draws all three queries weigh 0; nothing against nothing counts as 1.
    interval = metrics["splits"]["eval"]["ratio_to_blessed"]["overall"][""]["MRR"]
    assert interval == pytest.approx({"value": 3 / 1.2833, "low": 1.0, "high": 4.0}, rel=1e-4)
    assert metrics["blessed"] is True
    assert blessing.get_string_custom_property("baseline_model") == baseline.uri
    assert blessing.get_int_custom_property("baseline_model_id") == 5


def test_a_blessed_model_that_reads_what_is_no_longer_there_is_left_out(tmp_path: Path) -> None:
    price = Feature(name="price", kind=Kind.NUMBER, side=Side.ITEM)
    baseline = standard_artifacts.Model()
    baseline.uri = str(tmp_path / "priced")
    Lookup({"u1": [1.0]}, {"a": [1.0]}).save(
        tmp_path / "priced/Format-Serving", SPEC.model_copy(update={"features": (*SPEC.features, price)})
    )
    threshold = Threshold(metric="HR@2", min_value=0.9, min_ratio_to_blessed=100.0)

    metrics, blessing = run(tmp_path, EvaluationConfig(ks=(2,), thresholds=(threshold,)), baseline=baseline)

    left_out = "the last blessed model is not compared with, for it reads 'price' (item number, not declared now)"
    assert metrics["blessed_left_out"] == left_out
    assert set(metrics["splits"]["eval"]["models"]) == {"candidate", "popular"}
    assert metrics["reasons"] == ["HR@2 of eval 1.0000 reaches 0.9.", f"HR@2: {left_out}."]
    assert metrics["blessed"] is True
    assert not blessing.has_custom_property("baseline_model")


def test_a_blessed_model_of_another_dimension(tmp_path: Path) -> None:
    baseline = standard_artifacts.Model()
    baseline.uri = str(tmp_path / "wide")
    Lookup({u: [v, 0.0] for u, v in USERS.items()}, {f: [v, 9.0] for f, v in FILMS.items()}).save(
        tmp_path / "wide/Format-Serving"
    )

    metrics, _ = run(tmp_path, baseline=baseline)

    models = metrics["splits"]["eval"]["models"]
    assert models["blessed"] == models["candidate"]


def test_a_model_with_several_vectors_a_query(tmp_path: Path) -> None:
    # All films are above 0, so that the largest score is the one that a single vector of USERS gives.
    users = {"u1": [[-1.0], [1.0]], "u2": [[-2.0], [-1.0]], "u3": [[1.0], [-5.0]]}
    model = standard_artifacts.Model()
    model.uri, model.id = str(tmp_path / "two"), 7
    Lookup(users, {film: [value] for film, value in FILMS.items()}).save(tmp_path / "two/Format-Serving")

    several, _ = run(tmp_path / "several", model=model)
    one, _ = run(tmp_path / "one")

    assert several == one


def test_the_same_numbers_on_two_threads(tmp_path: Path) -> None:
    one, _ = run(tmp_path / "one")
    two, _ = run(tmp_path / "two", beam_args=TWO_THREADS)

    assert one == two


@pytest.mark.parametrize(
    ("splits", "counts", "message"),
    [
        ({"train": [("u1", "a")]}, COUNTS, "expected eval or test among them"),
        ({"train": [("u1", "a")], "eval": []}, COUNTS, "split eval has no row to evaluate .0 left out"),
        ({"train": [("u1", "a")], "eval": [("u1", "a")]}, COUNTS, "split eval has no row to evaluate .1 left out"),
        ({"train": [("u1", "a")], "eval": [("u1", "x")]}, COUNTS, "held-out item 'x' is not in split items"),
        (SPLITS, {"a": 1, "b": 1, "c": 1, "d": 1}, "item_counts has no item 'e' of split items"),
    ],
)
def test_bad_input_is_refused(
    tmp_path: Path, splits: dict[str, list[tuple[str, str]]], counts: dict[str, int], message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        run(tmp_path, splits=splits, counts=counts)
    assert not Path(tmp_path, "evaluation/metrics.json").exists()


def test_a_model_without_the_signature_is_named(tmp_path: Path) -> None:
    model = standard_artifacts.Model()
    model.uri = str(tmp_path / "bare")
    tf.saved_model.save(tf.Module(), str(tmp_path / "bare/Format-Serving"))

    with pytest.raises(ValueError, match="bare/Format-Serving has no signature 'item_examples'"):
        run(tmp_path, model=model)


@pytest.mark.parametrize("with_baseline", [False, True])
def test_the_component(with_baseline: bool) -> None:
    channel = channel_utils.as_channel([standard_artifacts.Model()])
    component = RetrievalEvaluator(
        model=channel,
        examples=channel_utils.as_channel([standard_artifacts.Examples()]),
        item_counts=channel_utils.as_channel([ItemCounts()]),
        config=EvaluationConfig().model_dump_json(),
        features=SPEC.model_dump_json(),
        code_fingerprint="abc",
        baseline_model=channel if with_baseline else None,
    )

    assert ("baseline_model" in component.inputs) is with_baseline
    assert component.outputs["evaluation"].type_name == "ModelEvaluation"
    assert component.outputs["blessing"].type_name == "ModelBlessing"
    assert FeatureSpec.model_validate_json(component.exec_properties["features"]) == SPEC
