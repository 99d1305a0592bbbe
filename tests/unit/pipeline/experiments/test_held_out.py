from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from components.embedding import scores
from pipeline.experiments.preparation.held_out import HeldOut

# Candidates in the order of the vocabulary. Query a has p and q in train, b has p, c has nothing.
CATALOGUE = ["p", "q", "r", "s", "t"]
TRAIN = {"a": ["q", "p"], "b": ["p"]}
CATEGORY = {"p": "x", "q": "x", "r": "y", "s": "y"}


@pytest.fixture
def held_out() -> HeldOut:
    return HeldOut.build(TRAIN, [("c", "p"), ("a", "s"), ("a", "r"), ("b", "t")], CATALOGUE, CATEGORY)


def test_rows_are_joined_with_what_their_queries_had(held_out: HeldOut) -> None:
    assert held_out.query_id.tolist() == ["a", "a", "b", "c"]
    assert held_out.item_id.tolist() == ["r", "s", "t", "p"]
    assert held_out.target.tolist() == [2, 3, 4, 0]
    assert held_out.query_rows.tolist() == [2, 2, 1, 0]
    # a's other held-out item is not ranked either.
    parts = np.split(held_out.excluded, held_out.excluded_ends[:-1])
    assert [part.tolist() for part in parts] == [[0, 1, 3], [0, 1, 2], [0], []]
    assert held_out.count.tolist() == [2, 1, 0, 0, 0]
    assert held_out.category.tolist() == ["x", "x", "y", "y", ""]


def test_it_survives_the_disk(held_out: HeldOut, tmp_path: Path) -> None:
    held_out.save(tmp_path)
    loaded = HeldOut.load(tmp_path)
    assert all(np.array_equal(getattr(loaded, name), getattr(held_out, name)) for name in vars(held_out))


ITEMS = np.array([[5.0, 0.0], [4.0, 0.0], [1.0, 3.0], [2.0, 2.0], [2.0, 2.0]])


def test_ranks_by_one_vector(held_out: HeldOut) -> None:
    # Scores: 5 4 1 2 2 for all. a/r: left are r 1 and t 2 -> 2. a/s: s 2 and t 2 -> 2, the tie counts.
    # b/t: q 4, r 1, s 2, t 2 -> 3. c/p: the best of all -> 1.
    queries = np.tile(np.array([1.0, 0.0]), (4, 1))
    assert held_out.rank(queries, ITEMS).tolist() == [2, 2, 3, 1]


def test_ranks_of_a_part(held_out: HeldOut) -> None:
    queries = np.tile(np.array([1.0, 0.0]), (4, 1))
    assert held_out.rank(queries, ITEMS, np.array([1, 2])).tolist() == [2, 3]
    assert held_out.part(2).tolist() == [0, 3]
    assert held_out.part(9).tolist() == [0, 1, 2, 3]


@pytest.mark.parametrize("at_once", [scores.SCORES_AT_ONCE, 10, 5])
def test_each_row_is_ranked_by_its_own_query_in_any_block(
    held_out: HeldOut, at_once: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(scores, "SCORES_AT_ONCE", at_once)  # all rows, two or one of them
    # Scores of a's rows: 0 0 3 2 2; of the others: 5 4 1 2 2. a/r: r 3, t 2 -> 1. a/s: a tie with t -> 2.
    # b/t -> 3 and c/p -> 1, as above; by a's query c/p would be the last.
    queries = np.array([[0.0, 1.0], [0.0, 1.0], [1.0, 0.0], [1.0, 0.0]])
    assert held_out.rank(queries, ITEMS).tolist() == [1, 2, 3, 1]
    assert held_out.rank(queries, ITEMS, np.array([1, 3])).tolist() == [2, 1]


def test_ranks_by_the_best_of_several_vectors(held_out: HeldOut) -> None:
    # Scores by (1,0): 5 4 1 2 2; by (0,2): 0 0 6 4 4; the larger: 5 4 6 4 4.
    # a/r: 6 against t 4 -> 1. a/s: tie with t -> 2. b/t: q 4, r 6, s 4 -> 4. c/p: r is ahead -> 2.
    queries = np.tile(np.array([[1.0, 0.0], [0.0, 2.0]]), (4, 1, 1))
    assert held_out.rank(queries, ITEMS).tolist() == [1, 2, 4, 2]


def test_a_collapsed_model_gets_the_last_places(held_out: HeldOut) -> None:
    # So many items are ranked: 5 less 3, 3, 1, 0 excluded.
    assert held_out.rank(np.ones((4, 2)), np.ones((5, 2))).tolist() == [2, 2, 4, 5]
    assert held_out.rank(np.full((4, 2), np.nan), np.ones((5, 2))).tolist() == [2, 2, 4, 5]


def test_ranks_by_popularity(held_out: HeldOut) -> None:
    # Counts 2 1 0 0 0. a/r: tied with t -> 2. a/s the same. b/t: q, r, s -> 4. c/p -> 1.
    assert held_out.rank_by_popularity().tolist() == [2, 2, 4, 1]


def test_deciles(held_out: HeldOut) -> None:
    # Five items, places 0..4 by count: floor(10 * place / 5) + 1.
    assert held_out.deciles.tolist() == [1, 3, 5, 7, 9]


def test_deciles_go_by_train_rows_and_not_by_the_catalogues_order() -> None:
    # Train rows 0 1 2 0 0: r first, then q, then the others as they stand.
    held_out = HeldOut.build({"a": ["r", "q"], "b": ["r"]}, [("c", "p")], CATALOGUE, CATEGORY)
    assert held_out.deciles.tolist() == [5, 3, 1, 7, 9]


def test_what_cannot_be_built() -> None:
    with pytest.raises(ValueError, match="no interaction is held out"):
        HeldOut.build(TRAIN, [], CATALOGUE, CATEGORY)
    with pytest.raises(ValueError, match="item 'z' has interactions, but is not in the catalogue"):
        HeldOut.build(TRAIN, [("a", "z")], CATALOGUE, CATEGORY)
