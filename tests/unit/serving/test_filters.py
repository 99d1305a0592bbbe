from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from serving import index_builder
from serving.blobs import BlobError
from serving.filters import Filter, Postings, Selection, write_postings
from serving.hits import Hits
from serving.index import ItemIndex, ItemIndexError
from serving.index_builder import build_index
from serving.searcher import SearcherConfig
from tests.unit.serving import tiny


@pytest.fixture(scope="module")
def index(tmp_path_factory: pytest.TempPathFactory) -> ItemIndex:
    folder = tmp_path_factory.mktemp("filters") / "index"
    return ItemIndex(tiny.save_index(folder, "f", tiny.ITEMS, attributes=tiny.ATTRIBUTES))


def selected(index: ItemIndex, allow: Sequence[Filter], deny: Sequence[Filter] = ()) -> str:
    """The digits of the items left."""
    selection = index.select(allow, deny)
    assert selection is not None
    rows = np.flatnonzero(selection.mask)
    assert selection.count == len(rows)
    return "".join(index.item_id(int(row)).decode().removeprefix("i") for row in rows)


@pytest.mark.parametrize(
    ("allow", "deny", "left"),
    [
        ([("genre", ["a"])], [], "12"),
        ([("genre", ["a", "b"])], [], "1235"),  # values are ORed; i4 has no genre
        ([("genre", ["b"]), ("tags", ["x"])], [], "5"),  # filters are ANDed
        ([("tags", ["x"]), ("tags", ["y"])], [], "2"),  # of one attribute too
        ([("tags", ["x", "y"])], [], "1235"),
        ([("tags", ["\u00e9|\n日本"])], [], "5"),  # one value, whatever is in it
        ([("tags", ["x|y"])], [], ""),  # the text of two values is no value
        ([], [("genre", ["a"])], "345"),  # i4 has no genre to be denied for
        ([], [("genre", ["a"]), ("tags", ["y"])], "45"),
        ([("genre", ["b"])], [("tags", ["y"])], "5"),
        ([("genre", ["a"])], [("genre", ["a"])], ""),  # deny wins
        ([("genre", ["none", "a"])], [("tags", ["none"])], "12"),
        ([("genre", ["none"])], [], ""),
        ([("genre", [""])], [], ""),
        ([("genre", ["A"])], [], ""),
    ],
)
def test_filters_by_hand(index: ItemIndex, allow: list[Filter], deny: list[Filter], left: str) -> None:
    assert selected(index, allow, deny) == left


def test_no_filters_select_everything(index: ItemIndex) -> None:
    assert index.select([], []) is None


@pytest.mark.parametrize(
    ("allow", "deny", "message"),
    [
        ([("title", ["a"])], [], "attribute 'title' is not one to filter by, which are: genre, tags"),
        ([("genre", ["a"])], [("", ["a"])], "attribute '' is not one to filter by, which are: genre, tags"),
        ([("genre", [])], [], "the filter by attribute 'genre' names no value"),
        ([], [("genre", [])], "the filter by attribute 'genre' names no value"),
    ],
)
def test_refused_filters(index: ItemIndex, allow: list[Filter], deny: list[Filter], message: str) -> None:
    with pytest.raises(ValueError, match=f"^{message}$"):
        index.select(allow, deny)


def test_index_without_filters_says_so(tmp_path: Path) -> None:
    index = ItemIndex(tiny.save_index(tmp_path / "i", "f", tiny.ITEMS, titles={"i1": "One"}))
    assert not (tmp_path / "i" / "filters").exists()
    with pytest.raises(ValueError, match="attribute 'title' is not one to filter by, which are: none"):
        index.select([("title", ["One"])], [])


def test_values_that_run_into_each_other_stay_apart(tmp_path: Path) -> None:
    rows = [{"a": ['b", "c']}, {'a", "b': ["c"]}, {"a": ["b"], 'a", "b': ['", "c']}]
    write_postings(tmp_path / "p", ["a", 'a", "b'], rows)
    postings = Postings(tmp_path / "p", ["a", 'a", "b'], 3)
    for one, expected in [(("a", ['b", "c']), 0), (('a", "b', ["c"]), 1), (("a", ["b"]), 2)]:
        selection = postings.select([one], [])
        assert selection is not None
        assert np.flatnonzero(selection.mask).tolist() == [expected]


class Counting(ItemIndex):
    """Counts the searches that score all that may be in the answer."""

    exact = 0

    def _exact(self, *arguments: object) -> Hits:
        self.exact += 1
        return super()._exact(*arguments)  # type: ignore[arg-type]


ITEMS = 3000
CATEGORIES = [str(row % 10) for row in range(ITEMS)]
TAGS = [[tag for tag in range(5) if row // 10 >> tag & 1] for row in range(ITEMS)]  # each tag on half of the items
EMBEDDINGS = np.random.default_rng(0).normal(size=(ITEMS, 8)).astype(np.float32)
IDS = [f"{row:04d}".encode() for row in range(ITEMS)]

filters = st.lists(
    st.one_of(
        st.tuples(st.just("category"), st.lists(st.integers(0, 10).map(str), min_size=1, max_size=9)),
        st.tuples(st.just("tags"), st.lists(st.integers(0, 5).map(str), min_size=1, max_size=2)),
    ),
    max_size=2,
)


def matches(row: int, one: Filter) -> bool:
    has = {CATEGORIES[row]} if one[0] == "category" else {str(tag) for tag in TAGS[row]}
    return bool(has & set(one[1]))


@pytest.fixture(scope="module", params=["brute_force", "hashing"])
def large(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Counting:
    """With hashing all items are candidates, so that ScaNN's search is an exact one too."""
    config = SearcherConfig(kind="hashing", reorder=ITEMS) if request.param == "hashing" else None
    folder = tmp_path_factory.mktemp("large") / "index"
    with pytest.MonkeyPatch.context() as patch:
        if config is not None:
            patch.setattr(index_builder, "choose_searcher", lambda items: config)
        build_index(
            folder,
            embeddings=EMBEDDINGS,
            ids=IDS,
            attributes=[
                {"category": category, "tags": [str(tag) for tag in tags]}
                for category, tags in zip(CATEGORIES, TAGS, strict=True)
            ],
            model_fingerprint="f",
            filters=("category", "tags"),
        )
    return Counting(folder)


def test_search_equals_brute_force(large: Counting) -> None:
    ran = {"all": 0, "none": 0}

    @settings(max_examples=150, deadline=None, derandomize=True, database=None)
    @given(filters, filters, st.integers(1, 40), st.integers(1, 3), st.integers(0, 30), st.randoms())
    def check(allow: list[Filter], deny: list[Filter], k: int, vectors: int, best: int, random: object) -> None:
        query = np.random.default_rng(random.getrandbits(32)).normal(size=(vectors, 8)).astype(np.float32)  # type: ignore[attr-defined]
        left = [
            row
            for row in range(ITEMS)
            if all(matches(row, one) for one in allow) and not any(matches(row, one) for one in deny)
        ]
        scores = (EMBEDDINGS.astype(np.float64) @ query.T).max(axis=1)
        ranked = sorted(left, key=lambda row: -scores[row])
        excluded = ranked[:best]
        expected = ranked[best : best + k]
        ran["all"] += 1
        before = large.exact
        found = large.search(
            query if vectors > 1 else query[0], k, [IDS[row] for row in excluded], among=large.select(allow, deny)
        )
        ran["none"] += large.exact == before
        assert [hit.row for hit in found] == expected
        np.testing.assert_allclose([hit.score for hit in found], scores[expected], rtol=1e-4, atol=1e-5)

    check()
    assert 0 < ran["none"] < ran["all"]  # both ways were gone


def test_filter_against_the_query_is_made_up_exactly(large: Counting) -> None:
    """Of the items to be fetched none is allowed: those that are, are the last of all."""
    query = np.eye(8, dtype=np.float32)[0]
    order = np.argsort(-EMBEDDINGS[:, 0], kind="stable")
    mask = np.zeros(ITEMS, dtype=bool)
    mask[order[1500:]] = True
    found = large.search(query, 10, among=Selection(mask, 1500))
    assert [hit.row for hit in found] == order[1500:1510].tolist()


class TestDamaged:
    @pytest.fixture
    def folder(self, tmp_path: Path) -> Path:
        return tiny.save_index(tmp_path / "i", "f", tiny.ITEMS, attributes=tiny.ATTRIBUTES)

    def test_missing(self, folder: Path) -> None:
        (folder / "filters" / "rows.npy").unlink()
        with pytest.raises(BlobError, match="filters: cannot read them"):
            ItemIndex(folder)

    @pytest.mark.parametrize(
        ("rows", "message"),
        [
            (np.arange(10, dtype=np.int64), "must be int32 with one axis"),
            (np.zeros(3, dtype=np.int32), "does not fit the 3 rows"),
            (np.full(10, 5, dtype=np.int32), "names rows that an index of 5 items does not have"),
            (np.full(10, -1, dtype=np.int32), "names rows that an index of 5 items does not have"),
        ],
    )
    def test_rows(self, folder: Path, rows: np.ndarray, message: str) -> None:
        assert len(np.load(folder / "filters" / "rows.npy")) == 10  # genre: 4, tags: x 3, y 2, the awkward one 1
        np.save(folder / "filters" / "rows.npy", rows)
        with pytest.raises(BlobError, match=message):
            ItemIndex(folder)

    @pytest.mark.parametrize(
        ("offsets", "message"),
        [
            (np.array([0, 10]), r"must be int64 \[6\]"),
            (np.array([0, 4, 2, 5, 8, 10]), "does not fit the 10 rows"),
            (np.array([0, 2, 4, 5, 8, 9]), "does not fit the 10 rows"),
        ],
    )
    def test_offsets(self, folder: Path, offsets: np.ndarray, message: str) -> None:
        np.save(folder / "filters" / "offsets.npy", offsets)
        with pytest.raises(BlobError, match=message):
            ItemIndex(folder)

    def test_pickle(self, folder: Path) -> None:
        np.save(folder / "filters" / "rows.npy", np.array([0] * 10, dtype=object), allow_pickle=True)
        with pytest.raises(BlobError, match="cannot read them"):
            ItemIndex(folder)

    def test_unknown_file(self, folder: Path) -> None:
        (folder / "filters" / "more.bin").touch()
        with pytest.raises(ItemIndexError, match="must not hold this file"):
            ItemIndex(folder)
