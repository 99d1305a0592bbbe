from pathlib import Path

import numpy as np
import pytest
import tensorflow as tf
from tensorflow_serving.apis import prediction_log_pb2

from serving.release import ReleaseError
from serving.retriever import Retriever, load_release
from tests.unit.serving import tiny


@pytest.fixture
def retriever(tmp_path: Path, model: Path) -> Retriever:
    version = tiny.publish(tmp_path / "r", model, tmp_path / "index")
    return load_release(tmp_path / "r" / str(version))


def ids(answer: object) -> list[str]:
    return [hit.item_id.decode() for hit in answer.hits]  # type: ignore[attr-defined]


def test_known_query(retriever: Retriever) -> None:
    # alice is [100 - 99, 0 tags, 1 of history, now]: the score is an item's first number.
    answer = retriever.recommend(query_id="alice", features={"time": []}, k=3)
    assert [(hit.item_id, hit.score) for hit in answer.hits] == [(b"i5", 5.0), (b"i4", 4.0), (b"i3", 3.0)]
    assert (answer.known_query, answer.truncated) == (True, False)


def test_seen_and_excluded_items_are_left_out(retriever: Retriever) -> None:
    answer = retriever.recommend(query_id="alice", features={}, k=2, exclude_seen=True)
    assert ids(answer) == ["i3", "i2"]
    answer = retriever.recommend(query_id="alice", features={}, k=2, exclude=["i3", "none"], exclude_seen=True)
    assert ids(answer) == ["i2", "i1"]
    assert not answer.truncated


def test_too_few_items_are_said(retriever: Retriever) -> None:
    answer = retriever.recommend(query_id="alice", features={}, k=4, exclude_seen=True)
    assert ids(answer) == ["i3", "i2", "i1"]
    assert answer.truncated
    answer = retriever.recommend(query_id="alice", features={}, k=1000)
    assert len(answer.hits) == 5
    assert answer.truncated


def test_unknown_query_is_answered(retriever: Retriever) -> None:
    answer = retriever.recommend(query_id="nobody", features={"tags": ["x"]}, k=1, exclude_seen=True)
    assert ids(answer) == ["i1"]  # [0, 1, 0, now] scores by the second number
    assert not answer.known_query


def test_features_override_stored_ones(retriever: Retriever) -> None:
    assert ids(retriever.recommend(query_id="bob", features={}, k=1)) == ["i1"]  # two tags
    assert ids(retriever.recommend(query_id="bob", features={"tags": [], "w": [1.0]}, k=1)) == ["i5"]


def test_scores_agree_with_the_tower(retriever: Retriever) -> None:
    embedding = retriever.tower.embed("bob", None, {"w": [0.3], "time": [1]})
    answer = retriever.recommend(query_id="bob", features={"w": [0.3], "time": [1], "tags": []}, k=5)
    for hit in answer.hits:
        np.testing.assert_allclose(hit.score, embedding @ np.float32(tiny.ITEMS[hit.item_id.decode()]), rtol=1e-6)


@pytest.mark.parametrize("value", [float("inf"), -float("inf")])
def test_embedding_that_is_not_finite(retriever: Retriever, value: float) -> None:
    with pytest.raises(ValueError, match="NaN or infinity"):
        retriever.recommend(query_id="", features={"w": [value]}, k=1)


def test_nothing_asked(retriever: Retriever) -> None:
    with pytest.raises(ValueError, match="needs a query_id, features or both"):
        retriever.recommend(query_id="", features={}, k=1)


@pytest.fixture(scope="module")
def two_vectors(tmp_path_factory: pytest.TempPathFactory) -> Retriever:
    folder = tmp_path_factory.mktemp("two")
    model = tiny.save_model(folder / "m", tiny.TwoVectors())
    warm_up(model, (1, 2))
    version = tiny.publish(folder / "r", model, folder / "index")
    return load_release(folder / "r" / str(version))


def test_an_item_has_the_score_of_the_vector_that_suits_it_best(two_vectors: Retriever) -> None:
    # [1, 0, 0, 0] gives the items 1 to 5, [0, 2, 0, .] twice 5 to 1: 10, 8, 6, 4, 2.
    asked = {"w": [1.0], "tags": ["x", "y"]}
    assert two_vectors.tower.embed("", None, {**asked, "time": [7]}).tolist() == [[1, 0, 0, 0], [0, 2, 0, 7]]
    answer = two_vectors.recommend(query_id="", features=asked, k=5)
    assert [(hit.item_id.decode(), hit.score) for hit in answer.hits] == [
        ("i1", 10.0), ("i2", 8.0), ("i3", 6.0), ("i5", 5.0), ("i4", 4.0),
    ]  # fmt: skip
    assert not answer.truncated


def test_several_vectors_with_exclusions(two_vectors: Retriever) -> None:
    asked = {"w": [1.0], "tags": ["x", "y"]}
    answer = two_vectors.recommend(query_id="", features=asked, k=2, exclude=["i1", "i3", "none"])
    assert [(hit.item_id.decode(), hit.score) for hit in answer.hits] == [("i2", 8.0), ("i5", 5.0)]
    assert not answer.truncated
    # alice has seen i4 and i5. [1, 0, 0, 0] and [0, 2, 1, .]: i1, i2, i3 are left.
    answer = two_vectors.recommend(query_id="alice", features=asked, k=4, exclude_seen=True)
    assert ids(answer) == ["i3", "i2", "i1"]
    assert answer.hits[0].score == 303.0  # her id counts 100: [101, 0, 0, 0]
    assert answer.truncated


def warm_up(model: Path, tags_shape: tuple[int, int]) -> None:
    log = prediction_log_pb2.PredictionLog()
    inputs = log.predict_log.request.inputs
    inputs["user_id"].CopyFrom(tf.make_tensor_proto(["u"]))
    inputs["w"].CopyFrom(tf.make_tensor_proto([1.0]))
    inputs["tags"].CopyFrom(tf.make_tensor_proto(np.full(tags_shape, "", dtype=object)))
    inputs["history"].CopyFrom(tf.make_tensor_proto([[""]]))
    inputs["time"].CopyFrom(tf.make_tensor_proto([1], dtype=tf.int64))
    (model / "assets.extra").mkdir()
    with tf.io.TFRecordWriter(str(model / "assets.extra" / "tf_serving_warmup_requests")) as writer:
        writer.write(log.SerializeToString())


def test_warm_up_requests_are_run(tmp_path: Path) -> None:
    model = tiny.save_model(tmp_path / "m")
    warm_up(model, (1, 2))
    version = tiny.publish(tmp_path / "r", model, tmp_path / "index")
    assert load_release(tmp_path / "r" / str(version)).manifest.version == version


def test_failing_warm_up_request_fails_the_load(tmp_path: Path) -> None:
    model = tiny.save_model(tmp_path / "m")
    warm_up(model, (2, 2))  # two rows of tags for one query
    version = tiny.publish(tmp_path / "r", model, tmp_path / "index")
    with pytest.raises(ReleaseError, match="cannot load the release") as raised:
        load_release(tmp_path / "r" / str(version))
    assert "\n" not in str(raised.value)


def test_index_of_another_dimension_is_refused(tmp_path: Path, model: Path) -> None:
    version = tiny.publish(tmp_path / "r", model, tmp_path / "index", items={"a": [1, 2]})
    with pytest.raises(ReleaseError, match=r"the tower's embedding has shape \[4\], the index \[2\]"):
        load_release(tmp_path / "r" / str(version))


def test_several_vectors_of_another_dimension_are_refused(tmp_path: Path) -> None:
    model = tiny.save_model(tmp_path / "m", tiny.TwoVectors())
    version = tiny.publish(tmp_path / "r", model, tmp_path / "index", items={"a": [1, 2]})
    with pytest.raises(ReleaseError, match=r"the tower's embedding has shape \[2, 4\], the index \[2\]"):
        load_release(tmp_path / "r" / str(version))


@pytest.fixture(scope="module")
def filtered(tmp_path_factory: pytest.TempPathFactory, model: Path) -> Retriever:
    folder = tmp_path_factory.mktemp("filtered")
    version = tiny.publish(folder / "r", model, folder / "index", attributes=tiny.ATTRIBUTES)
    return load_release(folder / "r" / str(version))


def asked(retriever: Retriever, **more: object) -> tuple[list[str], list[str]]:
    """Ids, and why they are few, for alice: the scores of i1 to i5 are 1 to 5, and she has seen i4 and i5."""
    answer = retriever.recommend(**{"query_id": "alice", "features": {}, "k": 2, **more})  # type: ignore[arg-type]
    assert answer.truncated == bool(answer.truncated_by)
    return ids(answer), [cause.value for cause in answer.truncated_by]


@pytest.mark.parametrize(
    ("more", "expected"),
    [
        ({"allow": [("genre", ["a"])]}, (["i2", "i1"], [])),
        ({"allow": [("genre", ["a", "b"])], "deny": [("tags", ["y"])]}, (["i5", "i1"], [])),
        ({"deny": [("genre", ["b"])]}, (["i4", "i2"], [])),
        ({"deny": [("genre", ["b"])], "exclude_seen": True}, (["i2", "i1"], [])),
        ({"min_score": 4.0}, (["i5", "i4"], [])),
        # Each step that leaves fewer than k is named, and no other.
        ({"k": 6}, (["i5", "i4", "i3", "i2", "i1"], ["catalogue"])),
        ({"k": 5}, (["i5", "i4", "i3", "i2", "i1"], [])),
        ({"allow": [("tags", ["y"])], "k": 3}, (["i3", "i2"], ["filters"])),
        ({"allow": [("tags", ["y"])], "exclude": ["i3"]}, (["i2"], ["exclusions"])),
        ({"allow": [("tags", ["y"])], "exclude": ["i3"], "k": 3}, (["i2"], ["filters", "exclusions"])),
        ({"allow": [("tags", ["y"])], "exclude": ["i4", "i1", "?"], "k": 2}, (["i3", "i2"], [])),
        ({"min_score": 4.5}, (["i5"], ["min_score"])),
        ({"min_score": 5.5}, ([], ["min_score"])),
        ({"exclude_seen": True, "min_score": 3.0}, (["i3"], ["min_score"])),
        (
            {"allow": [("genre", ["b"])], "exclude_seen": True, "min_score": 4.0, "k": 9},
            ([], ["catalogue", "filters", "exclusions", "min_score"]),
        ),
        # Nothing is left.
        ({"allow": [("genre", ["none"])]}, ([], ["filters"])),
        ({"allow": [("genre", ["a"])], "deny": [("genre", ["a"])]}, ([], ["filters"])),
        ({"exclude": list(tiny.ITEMS) * 2, "k": 1}, ([], ["exclusions"])),
    ],
)
def test_filters_and_why_an_answer_is_short(
    filtered: Retriever, more: dict[str, object], expected: tuple[list[str], list[str]]
) -> None:
    assert asked(filtered, **more) == expected


def test_filters_with_several_vectors(tmp_path: Path) -> None:
    model = tiny.save_model(tmp_path / "m", tiny.TwoVectors())
    version = tiny.publish(tmp_path / "r", model, tmp_path / "index", attributes=tiny.ATTRIBUTES)
    retriever = load_release(tmp_path / "r" / str(version))
    # The items' scores are 10, 8, 6, 4 (of the second vector) and 5 (of the first).
    query = {"query_id": "", "features": {"w": [1.0], "tags": ["x", "y"]}, "k": 2}
    answer = retriever.recommend(**query, allow=[("genre", ["b"])])  # type: ignore[arg-type]
    assert [(hit.item_id, hit.score) for hit in answer.hits] == [(b"i3", 6.0), (b"i5", 5.0)]
    answer = retriever.recommend(**query, deny=[("genre", ["a"])], min_score=5.5)  # type: ignore[arg-type]
    assert [(hit.item_id, hit.score) for hit in answer.hits] == [(b"i3", 6.0)]


def test_all_seen_items_are_left_out_however_short_the_history(
    tmp_path: Path, model: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    history = [f"i{n}".encode() for n in (1, 2, 3, 4)]  # twice what the feature takes
    stored = tiny.example(user_id=[b"carol"], w=[1.0], history=history, seen_items=history)
    monkeypatch.setattr(tiny, "QUERIES", [(b"carol", stored)])
    version = tiny.publish(tmp_path / "r", model, tmp_path / "index")
    answer = load_release(tmp_path / "r" / str(version)).recommend(
        query_id="carol", features={"history": ["i5"]}, k=5, exclude_seen=True
    )
    assert ids(answer) == ["i5"]


@pytest.mark.parametrize(
    ("query_id", "features", "fallbacks", "missing"),
    [
        # bob has tags stored, of an empty w and history nothing.
        ("bob", {"w": [1.0], "history": ["i1"], "time": [1]}, [], []),
        ("bob", {"w": [1.0], "history": ["i1"]}, ["current_time"], []),
        ("bob", {"time": [1]}, ["missing_feature"], ["w", "history"]),
        ("bob", {"w": [], "history": [], "time": []}, [], []),  # said to be missing: nothing was put in their place
        ("nobody", {"w": [1.0], "tags": ["x"], "history": ["i1"], "time": [1]}, ["unknown_query_id"], []),
        ("", {"w": [1.0]}, ["no_query_id", "missing_feature", "current_time"], ["tags", "history"]),
        ("bob", {"w": [1.0], "history": ["i1", "", ""], "tags": [""], "time": [1]}, ["empty_string"], []),
    ],
)
def test_fallbacks(
    retriever: Retriever, query_id: str, features: dict, fallbacks: list[str], missing: list[str]
) -> None:
    answer = retriever.recommend(query_id=query_id, features=features, k=1)
    assert [fallback.value for fallback in answer.fallbacks] == fallbacks
    assert list(answer.missing_features) == missing


def test_empty_strings_take_no_place(retriever: Retriever) -> None:
    # Tags take the first three values. [1, 5, 0, 0] . [0, 1, 0, -1]; with the empty strings in the way it would be 0.
    answer = retriever.recommend(query_id="nobody", features={"tags": ["", "", "", "x"], "time": []}, k=1)
    assert [(hit.item_id, hit.score) for hit in answer.hits] == [(b"i1", 5.0)]


def test_empty_string_for_a_number_is_refused(retriever: Retriever) -> None:
    with pytest.raises(ValueError, match="feature 'w' must be given as floats, got str ''"):
        retriever.recommend(query_id="bob", features={"w": [""]}, k=1)


def test_times_are_counted(retriever: Retriever) -> None:
    answer = retriever.recommend(query_id="bob", features={}, k=1)
    assert answer.tower_us > 0
    assert answer.search_us > 0
