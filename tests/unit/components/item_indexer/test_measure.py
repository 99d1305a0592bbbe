from pathlib import Path

import numpy as np
import pytest

from components.item_indexer.config import IndexConfig
from components.item_indexer.measure import IndexRefusedError, check, measure
from serving.hits import Hits
from serving.index import ItemIndex
from tests.unit.serving.tiny import ITEMS, save_index

QUERIES = np.array([[1, 0, 0, 0], [0, 1, 0, 0]], dtype=np.float32)


class Lossy(ItemIndex):
    """Always misses item i5, the best of the first query and the worst of the second."""

    def search(self, query: np.ndarray, k: int, exclude: object = frozenset()) -> Hits:
        return super().search_exact(query, k, {b"i5"})


def test_recall_of_brute_force_is_one(tmp_path: Path) -> None:
    index = ItemIndex(save_index(tmp_path / "i", "f", ITEMS))
    measurement = measure(index, QUERIES, IndexConfig(recall_at=2))
    assert (measurement.recall, measurement.recall_at, measurement.queries) == (1.0, 2, 2)
    assert measurement.latency.ratio == measurement.latency.index_p50_us / measurement.latency.exact_p50_us
    check(measurement)


def test_recall_of_brute_force_over_many_items_is_one(tmp_path: Path) -> None:
    rng = np.random.default_rng(3)
    embeddings = rng.normal(size=(3000, 4)).round(1)  # many of the scores are equal
    items = {f"i{row:04d}": row_values for row, row_values in enumerate(embeddings.tolist())}
    index = ItemIndex(save_index(tmp_path / "i", "f", items))
    assert index.manifest.searcher.kind == "brute_force"
    queries = rng.normal(size=(50, 4)).round(1).astype(np.float32)
    assert measure(index, queries, IndexConfig(recall_at=100)).recall == 1.0


class Last(ItemIndex):
    """Names the last of the items in the order of the ids, whatever their scores."""

    def search(self, query: np.ndarray, k: int, exclude: object = frozenset()) -> Hits:
        return sorted(super().search_exact(query, len(self)), key=lambda hit: hit.row)[-k:]


@pytest.mark.parametrize("embedding", [[0.0] * 4, [0.3, -0.7, 0.2, 0.1]])
def test_ties_count_as_found(tmp_path: Path, embedding: list[float]) -> None:
    # Exact search names i00 to i09, Last i30 to i39: all tie.
    index = Last(save_index(tmp_path / "i", "f", {f"i{n:02d}": embedding for n in range(40)}))
    queries = np.random.default_rng(0).normal(size=(20, 4)).astype(np.float32)
    assert measure(index, queries, IndexConfig(recall_at=10)).recall == 1.0


def test_a_clearly_lower_score_is_no_tie(tmp_path: Path) -> None:
    # Scores of the first query: ten of 1, one of 0.999, so Last names nine of the top ten; the second gives all 0.
    items = {f"i{n:02d}": [1.0 if n < 10 else 0.999, 0, 0, 0] for n in range(11)}
    index = Last(save_index(tmp_path / "i", "f", items))
    assert measure(index, QUERIES, IndexConfig(recall_at=10)).recall == 0.95


def test_recall_by_hand(tmp_path: Path) -> None:
    index = Lossy(save_index(tmp_path / "i", "f", ITEMS))
    # Top 2 of the first query are i5, i4, found i4, i3: 1 of 2. Of the second i1, i2: 2 of 2. 3 / 4 in all.
    measurement = measure(index, QUERIES, IndexConfig(recall_at=2, min_recall=0.75))
    assert measurement.recall == 0.75
    check(measurement)
    # With K = 100 of 5 items each query finds 4 of 5.
    measurement = measure(index, QUERIES, IndexConfig(recall_at=100, min_recall=0.9))
    assert measurement.recall == 0.8
    with pytest.raises(IndexRefusedError) as raised:
        check(measurement)
    assert str(raised.value).startswith("recall@100 of the index is 0.8000, index.min_recall asks for 0.9: lower")
    assert "\n" not in str(raised.value)


def test_recall_of_several_vectors(tmp_path: Path) -> None:
    index = Lossy(save_index(tmp_path / "i", "f", ITEMS))
    # [1, 0, ..] gives 1 to 5, [0, 2, ..] 10 to 2. The best are i1 10, i2 8, i3 6, i5 5, i4 4, i5 is missed.
    query = np.array([[[1, 0, 0, 0], [0, 2, 0, 0]]], dtype=np.float32)
    assert measure(index, query, IndexConfig(recall_at=3)).recall == 1.0
    assert measure(index, query, IndexConfig(recall_at=4)).recall == 0.75


def test_no_query_is_an_error(tmp_path: Path) -> None:
    index = ItemIndex(save_index(tmp_path / "i", "f", ITEMS))
    with pytest.raises(ValueError, match="no query"):
        measure(index, np.zeros((0, 4), dtype=np.float32), IndexConfig())
