"""Ranks summed by slice, and slices compared, by hand and without a pipeline."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pytest

from components.embedding import scores
from components.retrieval_evaluator.bootstrap import poisson_weights
from components.retrieval_evaluator.catalogue import Catalogue
from components.retrieval_evaluator.evaluation import assemble
from components.retrieval_evaluator.metrics import UNIT
from components.retrieval_evaluator.ranking import HeldOut, RankByModel, sums_by_slice

CATALOGUE = Catalogue.build([(b"b", "Crime"), (b"a", "Drama")], {b"a": 1, b"b": 2})  # a comes first


def held_out(query: bytes, target: bytes) -> HeldOut:
    return HeldOut(query, target, serialised=b"1", seen=(), train_rows=0)


def embed(signature: str, examples: Sequence[bytes]) -> np.ndarray:
    """In place of an Embedder: a row's vector is the number it says."""
    return np.array([[float(example)] for example in examples], np.float32)


def test_an_embedding_goes_to_its_items_place_whatever_the_order_of_the_batches() -> None:
    batches = [([b"b"], np.array([[2.0]])), ([b"a"], np.array([[1.0]]))]

    assert CATALOGUE.arrange(batches).tolist() == [[1.0], [2.0]]


@pytest.mark.parametrize("at_once", [scores.SCORES_AT_ONCE, 1])
def test_rows_are_weighted_by_their_query_and_ranked_with_their_own_target_in_any_block(
    at_once: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(scores, "SCORES_AT_ONCE", at_once)
    step = RankByModel("m", embed, ks=(1,), draw=True)  # type: ignore[arg-type]

    # u's query scores a 5 and b 3: its row of a is a hit, its row of b is none.
    sums = step.process([held_out(b"u", b"a"), held_out(b"u", b"b")], CATALOGUE, np.array([[5.0], [3.0]]))
    overall = [of_slice for (_, dimension, _), of_slice in sums if dimension == "overall"]

    assert len(overall) == (2 if at_once == 1 else 1)
    assert sum(rows for rows, _ in overall) == 2
    hits = sum(totals[:, 0] for _, totals in overall) * UNIT
    assert hits[0] == 1
    assert (hits[1:] == poisson_weights([b"u"])[0]).all()


def test_a_slices_rows_keep_their_weights() -> None:
    rows, first_hits, second_hits = [held_out(b"u", b"a"), held_out(b"v", b"b")], [1, 0], [0, 1]
    weights = np.array([[1, 0], [0, 3]])

    sums = dict(sums_by_slice("m", rows, np.array([first_hits, second_hits]), CATALOGUE, (1,), weights))

    # Both rows are hits. The first draw takes the Drama once, the other one the Crime three times.
    assert (sums["m", "overall", ""][1][:, 0] * UNIT).tolist() == [2, 1, 3]
    assert (sums["m", "category", "Drama"][1][:, 0] * UNIT).tolist() == [1, 1, 0]
    assert (sums["m", "category", "Crime"][1][:, 0] * UNIT).tolist() == [1, 0, 3]


def test_one_score_that_is_no_number_makes_a_row_unscorable() -> None:
    rows = [held_out(b"u", b"a"), held_out(b"v", b"a")]

    sums = dict(sums_by_slice("m", rows, np.array([[1.0, np.nan], [1.0, 0.0]]), CATALOGUE, (1,)))

    assert sums["m", "unscorable", ""][0] == 1


def test_a_slice_is_compared_with_its_own_slice_of_the_blessed_model() -> None:
    # Sums of HR@1, NDCG@1 and MRR over all rows and in two draws: 4 each over all, of Crime 1 against 2.
    sums = {
        ("eval", "candidate", "overall", ""): (8, np.full((3, 3), 4)),
        ("eval", "blessed", "overall", ""): (8, np.full((3, 3), 4)),
        ("eval", "candidate", "category", "Crime"): (3, np.full((3, 3), 1)),
        ("eval", "blessed", "category", "Crime"): (3, np.full((3, 3), 2)),
    }

    compared = assemble(sums, {"eval": 0}, (1,))["eval"]["ratio_to_blessed"]

    assert compared["overall"][""]["HR@1"] == {"value": 1.0, "low": 1.0, "high": 1.0}
    assert compared["category"]["Crime"]["HR@1"] == {"value": 0.5, "low": 0.5, "high": 0.5}
