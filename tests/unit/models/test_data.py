from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from models import data
from tests.unit.models import helpers

UNIFORM = {"sampling": "uniform", "alpha": 0.75}


def item(candidate: int, **further: Any) -> dict[str, Any]:
    return {"candidate_index": [candidate], "item": [candidate + 1], "genres": [1] * candidate, **further}


def train_row(query: int, **further: Any) -> dict[str, Any]:
    return {
        "query_index": [query], "user": [query], "history": [1] * query, "candidate_index": [0],
        "negative_indices": [1, 2], "negative_log_q": [-1.0, -2.0], **further,
    }  # fmt: skip


def test_catalogue_is_ordered_by_candidate(tmp_path: Path) -> None:
    files = [tmp_path / "a.gz", tmp_path / "b.gz"]
    helpers.write_records(files[0], [item(2, item_count=[5]), item(0, item_count=[1], category_index=[3])])
    helpers.write_records(files[1], [item(3), item(1, category_index=[-1])])
    catalogue = data.load_catalogue([str(f) for f in files], helpers.small_encodings(), UNIFORM)
    assert catalogue.columns["item"].tolist() == [1, 2, 3, 4]
    assert catalogue.columns["genres"].tolist() == [[0, 0, 0], [1, 0, 0], [1, 1, 0], [1, 1, 1]]
    assert catalogue.categories.tolist() == [3, -1, -1, -1]
    assert catalogue.counts.tolist() == [1, 0, 5, 0]
    np.testing.assert_allclose(catalogue.log_q, np.log([0.25] * 4), rtol=1e-6)


@pytest.mark.parametrize("candidates", [[0, 1, 2], [0, 1, 2, 2], [0, 1, 2, -1]])
def test_incomplete_catalogue_is_refused(candidates: list[int], tmp_path: Path) -> None:
    helpers.write_records(tmp_path / "a.gz", [item(c) if c >= 0 else {"candidate_index": [c]} for c in candidates])
    with pytest.raises(ValueError, match="3 distinct candidates; expected one row for each of the 4 items"):
        data.load_catalogue([str(tmp_path / "a.gz")], helpers.small_encodings(), UNIFORM)


def test_sampling_probabilities() -> None:
    counts = np.array([0, 3, 8])
    np.testing.assert_allclose(np.exp(data.sampling_log_q(counts, "uniform", 0.5)), [1 / 3] * 3, rtol=1e-6)
    # Square roots of 1, 4, 9.
    np.testing.assert_allclose(np.exp(data.sampling_log_q(counts, "popularity", 0.5)), [1 / 6, 2 / 6, 3 / 6], rtol=1e-6)
    # A million and one to the 60th is no float64.
    steep = data.sampling_log_q(np.array([0, 10**6]), "popularity", 60.0)
    np.testing.assert_allclose(steep, [-60 * np.log(10**6 + 1), 0.0], rtol=1e-6)
    with pytest.raises(ValueError, match="sampling is 'hard'; expected uniform or popularity"):
        data.sampling_log_q(counts, "hard", 0.5)


def batches(tmp_path: Path, rows: int, batch_size: int, per_positive: int = 2, seed: int = 1) -> list[dict]:
    helpers.write_records(tmp_path / "a.gz", [train_row(i % 3 + 1) for i in range(rows)])
    made = data.training_batches([str(tmp_path / "a.gz")], helpers.small_encodings(), per_positive, batch_size, seed)
    return list(made.as_numpy_iterator())


def test_batches_are_dense(tmp_path: Path) -> None:
    (batch,) = batches(tmp_path, rows=2, batch_size=2)
    order = np.argsort(batch["user"])
    assert {key: column[order].tolist() for key, column in batch.items()} == {
        "query_index": [1, 2],
        "user": [1, 2],
        "history": [[1, 0], [1, 1]],
        "candidate_index": [0, 0],
        "negative_indices": [[1, 2], [1, 2]],
        "negative_log_q": [[-1.0, -2.0], [-1.0, -2.0]],
        "hard_negative_indices": [[], []],
    }


@pytest.mark.parametrize(("rows", "sizes"), [(7, [3, 3]), (6, [3, 3]), (2, [2])])
def test_only_whole_batches_unless_there_is_none(rows: int, sizes: list[int], tmp_path: Path) -> None:
    assert [len(b["user"]) for b in batches(tmp_path, rows, batch_size=3)] == sizes


def test_no_negatives(tmp_path: Path) -> None:
    (batch,) = batches(tmp_path, rows=2, batch_size=2, per_positive=0)
    assert batch["negative_indices"].shape == batch["negative_log_q"].shape == (2, 0)


def test_hard_negatives(tmp_path: Path) -> None:
    helpers.write_records(tmp_path / "a.gz", [train_row(1, hard_negative_indices=[3, -1])])
    (batch,) = data.training_batches([str(tmp_path / "a.gz")], helpers.small_encodings(), 2, 8, 1, 2)
    assert batch["hard_negative_indices"].numpy().tolist() == [[3, -1]]
    assert batch["hard_negative_indices"].dtype == "int64"


def test_the_seed_decides_the_order(tmp_path: Path) -> None:
    def order(seed: int) -> list[int]:
        return np.concatenate([b["user"] for b in batches(tmp_path, 30, 10, seed=seed)]).tolist()

    assert order(1) == order(1)
    assert order(1) != order(2)


def test_another_number_of_negatives_is_refused(tmp_path: Path) -> None:
    with pytest.raises(Exception, match=r"Key: negative_(indices|log_q)"):
        batches(tmp_path, rows=2, batch_size=2, per_positive=3)


def test_no_rows_and_no_files(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="split train has no rows"):
        batches(tmp_path, rows=0, batch_size=2)
    helpers.write_records(tmp_path / "items.gz", [])
    with pytest.raises(ValueError, match="split items has no rows"):
        data.load_catalogue([str(tmp_path / "items.gz")], helpers.small_encodings(), UNIFORM)
    with pytest.raises(ValueError, match="split items: no file matches"):
        data.matching_files([str(tmp_path / "none-*")], "items")


def test_pairs_are_all_rows(tmp_path: Path) -> None:
    helpers.write_records(tmp_path / "a.gz", [train_row(2), train_row(1, candidate_index=[3])])
    helpers.write_records(tmp_path / "b.gz", [train_row(2)])
    query, candidate = data.training_pairs([str(tmp_path / name) for name in ("a.gz", "b.gz")])
    assert sorted(zip(query.tolist(), candidate.tolist(), strict=True)) == [(1, 3), (2, 0), (2, 0)]
    helpers.write_records(tmp_path / "c.gz", [])
    with pytest.raises(ValueError, match=r"split train has no rows in .*c\.gz and 0 more files"):
        data.training_pairs([str(tmp_path / "c.gz")])
