from pathlib import Path

import numpy as np
import pytest

from serving import index_builder
from serving.hits import Hits
from serving.index import ItemIndex, _largest
from serving.index_builder import build_index
from serving.index_manifest import ItemIndexError
from serving.searcher import SearcherConfig, choose_searcher
from tests.unit.serving.indexes import build, clustered, ids_of


class ScannOnly(ItemIndex):
    """Fails where a search comes to NumPy instead of ScaNN."""

    def _exact(self, *arguments: object) -> Hits:
        raise AssertionError("ScaNN should have answered")


@pytest.fixture(scope="module")
def large(tmp_path_factory: pytest.TempPathFactory) -> tuple[ItemIndex, np.ndarray, np.ndarray]:
    embeddings, queries = clustered(25_000)
    return build(tmp_path_factory.mktemp("large") / "index", embeddings), embeddings, queries


@pytest.mark.parametrize(
    ("items", "expected"),
    [
        (19_999, SearcherConfig(kind="brute_force")),
        (20_000, SearcherConfig(kind="hashing", reorder=300)),
        (199_999, SearcherConfig(kind="hashing", reorder=300)),
        # sqrt(200,000) = 447.2; three tenths of 447 are 134.1
        (200_000, SearcherConfig(kind="hashing", reorder=300, leaves=447, leaves_to_search=135)),
        (1_000_000, SearcherConfig(kind="hashing", reorder=300, leaves=1000, leaves_to_search=100, soar=True)),
    ],
)
def test_searcher_follows_from_size(items: int, expected: SearcherConfig) -> None:
    assert choose_searcher(items) == expected


def test_brute_force_by_hand(tmp_path: Path) -> None:
    # Scores of the query [2, 1]: 2, 1, 3, -2, 3.
    index = build(tmp_path / "i", np.array([[1, 0], [0, 1], [1, 1], [-1, 0], [1, 1]]))
    hits = index.search(np.array([2, 1], dtype=np.float32), 4)
    assert [(hit.item_id, hit.score) for hit in hits] == [
        (b"000002", 3.0),
        (b"000004", 3.0),
        (b"000000", 2.0),
        (b"000001", 1.0),
    ]
    assert index.attributes(hits[0].row) == {"title": "title 2"}
    assert index.find(b"000004") == 4
    assert index.manifest.searcher == SearcherConfig(kind="brute_force")
    assert [file.name for file in (tmp_path / "i" / "scann").iterdir()] == ["scann_config.pb"]


@pytest.mark.parametrize(("items", "dimension"), [(1, 5), (2, 5), (7, 1), (500, 64), (19_999, 16)])
def test_brute_force_equals_exact_search(tmp_path: Path, items: int, dimension: int) -> None:
    rng = np.random.default_rng(items)
    embeddings = rng.normal(size=(items, dimension))
    embeddings /= np.linalg.norm(embeddings, axis=1, keepdims=True)
    reference, index = build(tmp_path / "i", embeddings), ScannOnly(tmp_path / "i")
    for k in sorted({1, 2, 100, max(1, items - 1), items, items + 1}):
        query = rng.normal(size=dimension).astype(np.float32)
        query /= np.linalg.norm(query)
        excluded = ids_of(items)[::3]
        for exclude in ((), excluded, [*excluded, b"unknown"]):
            found, exact = index.search(query, k, exclude), reference.search_exact(query, k, exclude)
            assert len(found) == min(k, items - len(set(exclude) - {b"unknown"}))
            np.testing.assert_allclose([hit.score for hit in found], [hit.score for hit in exact], atol=1e-6)
            assert not {hit.item_id for hit in found} & set(exclude)
            # Two items whose scores differ by float32's rounding only may change places.
            true = embeddings[[hit.row for hit in found]] @ query.astype(np.float64)
            np.testing.assert_allclose(true, [hit.score for hit in exact], atol=1e-6)
            assert len({hit.row for hit in found}) == len(found)


@pytest.mark.parametrize("embedding", [np.zeros(33), np.linspace(-1, 1, 33) / 3])
@pytest.mark.parametrize("items", [1, 2, 1003])
def test_brute_force_over_equal_embeddings(tmp_path: Path, items: int, embedding: np.ndarray) -> None:
    build(tmp_path / "i", np.tile(embedding, (items, 1)))
    index = ScannOnly(tmp_path / "i")
    query = np.linspace(1, 2, 33, dtype=np.float32)
    for k in (1, items):
        hits = index.search(query, k)
        assert len({hit.row for hit in hits}) == k
        np.testing.assert_allclose([hit.score for hit in hits], float(embedding @ query), atol=1e-6)
    assert {hit.row for hit in index.search(query, 1003, ids_of(items)[1:])} == {0}


def test_scores_beyond_float32_come_from_exact_search(tmp_path: Path) -> None:
    # 1e20 * 1e20 is infinite in float32, and ScaNN leaves out what is infinity less infinity.
    index = build(tmp_path / "i", np.array([[1e20, 1e20], [1, 1], [1e20, -1e20]]))
    with np.errstate(all="ignore"):
        hits = index.search(np.array([1e20, 1e20], dtype=np.float32), 3)
    assert [hit.row for hit in hits] == [0, 1, 2]


def test_exclusion_by_hand(tmp_path: Path) -> None:
    index = build(tmp_path / "i", np.array([[1], [2], [3], [4]]))
    query = np.array([1], dtype=np.float32)
    found = index.search(query, 2, [b"000003", b"000001", b"unknown"])
    assert [hit.item_id for hit in found] == [b"000002", b"000000"]
    assert list(index.search(query, 4, ids_of(4))) == []
    assert len(index.search(query, 100, [b"000003"])) == 3


def test_equal_scores_come_in_the_order_of_ids(tmp_path: Path) -> None:
    index = build(tmp_path / "i", np.ones((50, 2)))
    found = index.search(np.array([0, 0], dtype=np.float32), 3)
    assert [hit.row for hit in found] == [0, 1, 2]


def test_scann_files_hold_no_pickle_and_no_path(
    large: tuple[ItemIndex, np.ndarray, np.ndarray], tmp_path: Path
) -> None:
    embeddings = large[1]
    build(tmp_path / "here", embeddings)
    files = sorted(p.relative_to(tmp_path / "here").as_posix() for p in (tmp_path / "here").rglob("*") if p.is_file())
    assert files == [
        "attributes/data.bin",
        "attributes/offsets.npy",
        "embeddings.npy",
        "ids/data.bin",
        "ids/offsets.npy",
        "index.json",
        "scann/ah_codebook.pb",
        "scann/hashed_dataset.npy",
        "scann/scann_config.pb",
    ]
    assert not any(str(tmp_path).encode() in (tmp_path / "here" / file).read_bytes() for file in files)
    (tmp_path / "here").rename(tmp_path / "moved")
    moved = ItemIndex(tmp_path / "moved")
    query = embeddings[17]
    assert moved.search(query, 10)[0].item_id == b"000017"


def test_scann_recall_and_scores(large: tuple[ItemIndex, np.ndarray, np.ndarray]) -> None:
    index, embeddings, queries = large
    assert index.manifest.searcher == SearcherConfig(kind="hashing", reorder=300)
    found = 0
    for query in queries:
        hits = index.search(query, 100)
        assert len({hit.row for hit in hits}) == 100
        expected = embeddings[[hit.row for hit in hits]] @ query
        np.testing.assert_allclose([hit.score for hit in hits], expected, rtol=1e-6)
        assert [hit.score for hit in hits] == sorted((hit.score for hit in hits), reverse=True)
        exact = {hit.row for hit in index.search_exact(query, 100)}
        assert exact == set(np.argsort(-(embeddings @ query), kind="stable")[:100].tolist())
        found += len(exact & {hit.row for hit in hits})
    assert found / (100 * len(queries)) > 0.99


def test_exclusion_of_1000_loses_nothing(large: tuple[ItemIndex, np.ndarray, np.ndarray]) -> None:
    index, _, queries = large
    found = 0
    for query in queries[:20]:
        best = index.search_exact(query, 1100)
        excluded = {hit.item_id for hit in best[:1000]}
        hits = index.search(query, 100, excluded)
        assert len(hits) == 100
        assert not excluded & {hit.item_id for hit in hits}
        found += len({hit.row for hit in hits} & {hit.row for hit in best[1000:]})
    assert found / 2000 > 0.99


def test_excluding_all_but_a_few_gives_exactly_those(large: tuple[ItemIndex, np.ndarray, np.ndarray]) -> None:
    index, embeddings, queries = large
    kept = [5, 77, 24_999]
    excluded = set(ids_of(len(index))) - {f"{row:06d}".encode() for row in kept}
    hits = index.search(queries[0], 10, excluded)
    expected = sorted(kept, key=lambda row: -float(embeddings[row] @ queries[0]))
    assert [hit.row for hit in hits] == expected


def test_all_of_a_scann_catalogue(large: tuple[ItemIndex, np.ndarray, np.ndarray]) -> None:
    index, _, queries = large
    assert sorted(hit.row for hit in index.search(queries[0], 30_000)) == list(range(25_000))


def test_tree_that_finds_too_few_is_made_up_exactly(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    # One leaf of 150 holds about 167 items: 500 can only come from the exact search.
    few = SearcherConfig(kind="hashing", leaves=150, leaves_to_search=1, reorder=300)
    monkeypatch.setattr(index_builder, "choose_searcher", lambda items: few)
    embeddings, queries = clustered(25_000)
    index = build(tmp_path / "i", embeddings)
    assert len(index._scann.search(queries[0], 500)) < 500
    hits = index.search(queries[0], 500)
    assert [hit.row for hit in hits] == np.argsort(-(embeddings @ queries[0]), kind="stable")[:500].tolist()


def test_exclusion_looks_at_more_leaves(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    tree = SearcherConfig(kind="hashing", leaves=150, leaves_to_search=30, reorder=300)
    monkeypatch.setattr(index_builder, "choose_searcher", lambda items: tree)
    embeddings, queries = clustered(25_000)
    index = build(tmp_path / "i", embeddings)
    found = 0
    for query in queries[:20]:
        best = index.search_exact(query, 1100)
        hits = index.search(query, 100, {hit.item_id for hit in best[:1000]})
        found += len({hit.row for hit in hits} & {hit.row for hit in best[1000:]})
    assert found / 2000 > 0.98


def test_more_effort_finds_more(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    tree = SearcherConfig(kind="hashing", leaves=150, leaves_to_search=15, reorder=100)
    monkeypatch.setattr(index_builder, "choose_searcher", lambda items: tree)
    embeddings, queries = clustered(25_000)
    search = build(tmp_path / "i", embeddings)._scann.search
    best = [set(np.argsort(-(embeddings @ query))[:100].tolist()) for query in queries[:20]]

    def recall(effort: float) -> float:
        return sum(
            len(rows & set(search(query, 100, effort).tolist())) for rows, query in zip(best, queries, strict=False)
        ) / (100 * len(best))

    assert recall(0.2) < recall(1.0) < recall(4.0)
    assert recall(100.0) > 0.98  # all leaves; what is missed is left to the codes


def test_soar_index_loads_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    soar = SearcherConfig(kind="hashing", leaves=150, leaves_to_search=50, reorder=300, soar=True)
    monkeypatch.setattr(index_builder, "choose_searcher", lambda items: soar)
    embeddings, queries = clustered(25_000)
    index = build(tmp_path / "i", embeddings)
    exact = set(np.argsort(-(embeddings @ queries[0]))[:100].tolist())
    assert len(exact & {hit.row for hit in index.search(queries[0], 100)}) >= 95


@pytest.mark.parametrize(
    ("query", "k", "message"),
    [
        ([1.0, 2.0], 1, r"shape \[2\], the index \[1\]"),
        ([np.nan], 1, "NaN or infinity"),
        ([np.inf], 1, "NaN or infinity"),
        ([1.0], 0, "k is 0"),
    ],
)
def test_bad_queries(tmp_path: Path, query: list[float], k: int, message: str) -> None:
    index = build(tmp_path / "i", np.array([[1], [2]]))
    with pytest.raises(ValueError, match=message):
        index.search(np.array(query, dtype=np.float32), k)


def test_embedding_with_nan_names_its_item(tmp_path: Path) -> None:
    with pytest.raises(ItemIndexError, match=r"item '000001' has an embedding with NaN or infinity \(2 in all\)"):
        build(tmp_path / "i", np.array([[1.0], [np.nan], [np.inf]]))
    assert not (tmp_path / "i").exists()


@pytest.mark.parametrize(
    ("ids", "message"),
    [
        ([b"a", b"a"], "'a' appears twice"),
        ([b"b", b"a"], "'a' is out of order"),
        ([b"a", b"\xff"], "not UTF-8"),
        ([b"a"], "2, 1|1 ids"),
        ([], "0 ids"),
    ],
)
def test_bad_ids(tmp_path: Path, ids: list[bytes], message: str) -> None:
    with pytest.raises(ItemIndexError, match=message):
        build_index(
            tmp_path / "i",
            embeddings=np.ones((2, 1), dtype=np.float32),
            ids=ids,
            attributes=[{}, {}],
            model_fingerprint="f",
        )


def test_empty_catalogue(tmp_path: Path) -> None:
    with pytest.raises(ItemIndexError, match="no items"):
        build(tmp_path / "i", np.ones((0, 3)))


def test_awkward_ids_and_attributes(tmp_path: Path) -> None:
    ids = sorted(text.encode() for text in ("007", "7", 'a,"b"\nc', "日本", " x ", "\x00", "e\u0301"))
    build_index(
        tmp_path / "i",
        embeddings=np.eye(len(ids), dtype=np.float32),
        ids=ids,
        attributes=[{"title": item_id.decode(), 'na"me': "\n"} for item_id in ids],
        model_fingerprint="f",
    )
    index = ItemIndex(tmp_path / "i")
    for row, item_id in enumerate(ids):
        hit = index.search(np.eye(len(ids), dtype=np.float32)[row], 1)[0]
        assert (hit.item_id, index.find(item_id)) == (item_id, row)
        assert index.attributes(row) == {"title": item_id.decode(), 'na"me': "\n"}
    assert index.manifest.attributes == ('na"me', "title")


def test_several_vectors_by_hand(tmp_path: Path) -> None:
    index = build(tmp_path / "i", np.array([[1, 0], [0, 1], [2, 2], [-3, 0], [0, -1]]))
    query = np.array([[1, 0], [-2, 1]], dtype=np.float32)
    # By the first vector 1, 0, 2, -3, 0; by the second -2, 1, -2, 6, -1.
    expected = [(b"000003", 6.0), (b"000002", 2.0), (b"000000", 1.0), (b"000001", 1.0), (b"000004", 0.0)]
    for search in (index.search, index.search_exact):
        for k in range(1, 7):
            assert [(hit.item_id, hit.score) for hit in search(query, k)] == expected[:k]
        hits = search(query, 2, {b"000003", b"000000"})
        assert [(hit.item_id, hit.score) for hit in hits] == [(b"000002", 2.0), (b"000001", 1.0)]


@pytest.mark.parametrize("vectors", [1, 4])
def test_several_vectors_by_brute_force_equal_exact_search(tmp_path: Path, vectors: int) -> None:
    rng = np.random.default_rng(vectors)
    reference, index = build(tmp_path / "i", rng.normal(size=(900, 8))), ScannOnly(tmp_path / "i")
    for k in (1, 7, 300, 900):
        query = rng.normal(size=(vectors, 8)).astype(np.float32)
        best = reference.search_exact(query, 20)
        for exclude in ((), [hit.item_id for hit in best[::2]]):
            found, exact = index.search(query, k, exclude), reference.search_exact(query, k, exclude)
            assert [hit.row for hit in found] == [hit.row for hit in exact]
            np.testing.assert_allclose([hit.score for hit in found], [hit.score for hit in exact], atol=1e-5)


def test_several_vectors_by_hashing(large: tuple[ItemIndex, np.ndarray, np.ndarray]) -> None:
    index, embeddings, queries = large
    shares = []
    for query in queries.reshape(50, 4, -1):
        found = index.search(query, 100)
        scores = (embeddings @ query.T).max(axis=1)
        np.testing.assert_allclose([hit.score for hit in found], scores[[hit.row for hit in found]], atol=1e-6)
        shares.append(len({hit.row for hit in found} & set(np.argsort(-scores)[:100].tolist())) / 100)
    assert np.mean(shares) > 0.95


def test_items_of_any_length_by_hashing(tmp_path: Path) -> None:
    """Factors have no unit length: here from 1/100 to 3, some zero, with a bias that the query meets with 1."""
    items, queries = clustered(21_000, 31)
    rng = np.random.default_rng(9)
    lengths = np.exp(rng.uniform(np.log(0.01), np.log(3), size=(len(items), 1)))
    lengths[::50] = 0
    embeddings = np.hstack([items * lengths, rng.normal(size=(len(items), 1)) * 0.3]).astype(np.float32)
    embeddings[::50] = 0
    index = build(tmp_path / "i", embeddings)
    assert index.manifest.searcher.kind == "hashing"
    shares = []
    for query in np.hstack([queries * 2, np.ones((len(queries), 1))]).astype(np.float32):
        exact = {hit.row for hit in index.search_exact(query, 100)}
        shares.append(len(exact & {hit.row for hit in index.search(query, 100)}) / 100)
    assert np.mean(shares) > 0.95


def test_effort_looks_at_more_leaves(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    # Of 150 leaves 15 are searched: 2 with an effort of 0.1, all with one of 10.
    tree = SearcherConfig(kind="hashing", leaves=150, leaves_to_search=15, reorder=300)
    monkeypatch.setattr(index_builder, "choose_searcher", lambda items: tree)
    embeddings, queries = clustered(25_000)
    index = build(tmp_path / "i", embeddings)

    def found(effort: float) -> int:
        exact = [{hit.row for hit in index.search_exact(query, 100)} for query in queries[:20]]
        return sum(
            len(best & {hit.row for hit in index.search(query, 100, effort=effort)})
            for best, query in zip(exact, queries, strict=False)
        )

    assert found(0.1) < found(1.0) < found(10.0)
    assert found(10.0) / 2000 > 0.99


@pytest.mark.parametrize(
    ("scores", "count", "expected"),
    [
        ([1, 2, 2, 2, 0], 2, [1, 2]),  # of equal ones the first
        ([1, 2, 2, 2, 0], 4, [0, 1, 2, 3]),
        ([1, 2, 3], 5, [0, 1, 2]),
        ([np.nan, 1, 3, np.nan, 2], 2, [2, 4]),
        ([np.nan, 1, 3, np.nan, 2], 4, [0, 1, 2, 4]),
        ([np.inf, 1, -np.inf], 2, [0, 1]),
    ],
)
def test_largest(scores: list[float], count: int, expected: list[int]) -> None:
    assert _largest(np.array(scores, dtype=np.float32), count).tolist() == expected
