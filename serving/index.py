"""The item index: the embeddings of the catalogue, the items' ids and attributes, and a way to search them.

A folder with
  embeddings.npy   float32 [num_items, dimension]
  ids/             blob table: the item ids, sorted by their bytes; the order of all rows
  attributes/      blob table: one JSON object of strings a row
  filters/         rows by attribute and value (serving.filters); missing where there are no attributes to filter by
  scann/           ScaNN's own files
  index.json       IndexManifest (serving.index_manifest)

Importing this imports ScaNN and TensorFlow.
"""

from __future__ import annotations

import json
import math
from collections.abc import Collection, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from serving.blobs import DATA, OFFSETS, BlobTable
from serving.filters import KEYS, ROWS, Filter, Postings, Selection
from serving.filters import OFFSETS as POSTING_OFFSETS
from serving.hits import Hits
from serving.index_manifest import MANIFEST, ItemIndexError, read_manifest
from serving.scann_search import ScannSearch

EMBEDDINGS = "embeddings.npy"
IDS = "ids"
ATTRIBUTES = "attributes"
FILTERS = "filters"
SCANN = "scann"
TABLES = (IDS, ATTRIBUTES, f"{FILTERS}/{KEYS}")
FILES = {EMBEDDINGS, MANIFEST, f"{FILTERS}/{POSTING_OFFSETS}", f"{FILTERS}/{ROWS}"}
FILES |= {f"{table}/{file}" for table in TABLES for file in (OFFSETS, DATA)}
EXACT_SHARE = 8  # with 1/8 of the catalogue or more to fetch, scoring all of it is no slower than hashing
EXACT_SELECTIVITY = 0.2  # where filters leave less of the catalogue than this, all that they leave is scored
FILTER_SLACK = (
    2  # behind a wider filter so many times the items are fetched that hold enough if matches are spread evenly
)


class ItemIndex:
    """A loaded index. Immutable; safe for any number of threads."""

    def __init__(self, folder: Path) -> None:
        """Opens an index folder.

        Raises:
          ItemIndexError: a file is missing, unexpected (a pickle, a symlink) or does not fit the others.
          BlobError: a blob table or the postings are damaged.
        """
        self.manifest = read_manifest(folder)
        _check_files(folder)
        shape = (self.manifest.items, self.manifest.dimension)
        try:
            embeddings = np.load(folder / EMBEDDINGS, mmap_mode="r", allow_pickle=False)
        except (OSError, ValueError, EOFError) as error:
            raise ItemIndexError(f"{folder / EMBEDDINGS}: cannot read it: {error}") from error
        if embeddings.dtype != np.float32 or embeddings.shape != shape:
            raise ItemIndexError(
                f"{folder / EMBEDDINGS}: expected float32 {list(shape)}, found {embeddings.dtype} "
                f"{list(embeddings.shape)}"
            )
        self._embeddings: NDArray[np.float32] = np.asarray(embeddings)
        self._ids = BlobTable(folder / IDS)
        self._attributes = BlobTable(folder / ATTRIBUTES)
        if not len(self._ids) == len(self._attributes) == len(self):
            raise ItemIndexError(
                f"{folder}: {len(self)} items, but {len(self._ids)} ids and {len(self._attributes)} attributes"
            )
        self._postings = Postings(folder / FILTERS, self.manifest.filters, len(self))
        try:
            self._scann = ScannSearch(folder / SCANN, folder / EMBEDDINGS, self.manifest.searcher)
        except (OSError, ValueError, RuntimeError) as error:
            raise ItemIndexError(f"{folder / SCANN}: ScaNN cannot read it: {error}") from error

    def __len__(self) -> int:
        return self.manifest.items

    def item_id(self, row: int) -> bytes:
        """The id of a row, 0 <= row < len(self)."""
        return self._ids[row]

    def find(self, item_id: bytes) -> int | None:
        """The row of an item; None if it is not in the catalogue."""
        return self._ids.find(item_id)

    def attributes(self, row: int) -> dict[str, str]:
        """The attributes of a row, 0 <= row < len(self)."""
        found: dict[str, str] = json.loads(self._attributes[row])
        return found

    def embedding(self, row: int) -> NDArray[np.float32]:
        """The embedding of a row, float32 [dimension], 0 <= row < len(self)."""
        return self._embeddings[row]

    def select(self, allow: Sequence[Filter], deny: Sequence[Filter]) -> Selection | None:
        """The items that match every filter of `allow` and none of `deny`; None where there are no filters.

        Raises:
          ValueError: the index cannot filter by an attribute, or a filter names no value.
        """
        return self._postings.select(allow, deny)

    def search(
        self,
        query: NDArray[np.float32],
        k: int,
        exclude: Collection[bytes] = frozenset(),
        *,
        among: Selection | None = None,
        effort: float = 1.0,
    ) -> Hits:
        """The best items for a query by the dot product of the embeddings, of several vectors by the largest one.

        Exclusion loses nothing: k + len(exclude) items are fetched, and where ScaNN comes back with too few all items
        are scored. Nor do several vectors: an item of the best k stands among the best k + len(exclude) of the vector
        that gives it its score, so each vector is searched for as many, and what is found is merged. Nor do filters:
        where they leave a small part of the catalogue, that part is scored, and else so much is fetched that as many
        are left of what each vector finds.

        Args:
          query: float32 [dimension], or [vectors, dimension].
          k: so many items are wanted, at least 1.
          exclude: ids that must not be in the answer; unknown ones do no harm.
          among: of `select`; only these items are looked for.
          effort: see ScannSearch.search; without meaning where all items are scored.

        Returns:
          Best first, equal scores in the order of the ids' bytes. Fewer than k only where the selected items less the
          exclusions are fewer. Scores are exact dot products, up to float32's rounding.

        Raises:
          ValueError: the query has another dimension or is not finite, or k is below 1.
        """
        query = self._checked(query, k)
        excluded = frozenset(exclude)
        wanted = min(k, len(self))
        selected = len(self) if among is None else among.count
        enough = min(wanted + len(excluded), selected)
        fetch = enough if among is None else math.ceil(FILTER_SLACK * enough * len(self) / max(selected, 1))
        if self._scann_pays(fetch, among):
            vectors = [query] if query.ndim == 1 else query
            found = [self._scann.search(vector, fetch, effort) for vector in vectors]
            if among is not None:
                found = [rows[among.mask[rows]] for rows in found]
            if min(map(len, found)) >= enough:
                rows = found[0] if len(found) == 1 else np.unique(np.concatenate(found))
                return self._hits(rows, _scores(self._embeddings[rows], query), wanted, excluded)
        return self._exact(query, wanted, excluded, among)

    def search_exact(self, query: NDArray[np.float32], k: int, exclude: Collection[bytes] = frozenset()) -> Hits:
        """As `search`, scoring the whole catalogue with NumPy: the reference that ScaNN is measured against."""
        return self._exact(self._checked(query, k), min(k, len(self)), frozenset(exclude), None)

    def _checked(self, query: NDArray[np.float32], k: int) -> NDArray[np.float32]:
        query = np.asarray(query, dtype=np.float32)
        if query.ndim not in (1, 2) or not query.size or query.shape[-1] != self.manifest.dimension:
            raise ValueError(f"the query has shape {list(query.shape)}, the index [{self.manifest.dimension}]")
        if not np.isfinite(query).all():
            raise ValueError("the query's embedding has NaN or infinity")
        if k < 1:
            raise ValueError(f"k is {k}, must be at least 1")
        return query

    def _scann_pays(self, fetch: int, among: Selection | None) -> bool:
        """Whether ScaNN finds so many items in less time than scoring all that may be in the answer takes."""
        if self.manifest.searcher.kind == "brute_force":
            return among is None
        wide = among is None or among.count >= EXACT_SELECTIVITY * len(self)
        return wide and EXACT_SHARE * fetch < len(self)

    def _exact(
        self, query: NDArray[np.float32], wanted: int, excluded: frozenset[bytes], among: Selection | None
    ) -> Hits:
        if among is None:
            rows, scores = np.arange(len(self)), _scores(self._embeddings, query)
        else:
            rows = np.flatnonzero(among.mask)
            # Copying a few rows is cheaper than reading all, copying most of them is not.
            if among.count < EXACT_SELECTIVITY * len(self):
                scores = _scores(np.take(self._embeddings, rows, axis=0), query)
            else:
                scores = _scores(self._embeddings, query)[rows]
        best = _largest(scores, wanted + len(excluded))
        return self._hits(rows[best], scores[best], wanted, excluded)

    def _hits(
        self, rows: NDArray[np.int64], scores: NDArray[np.float32], wanted: int, excluded: frozenset[bytes]
    ) -> Hits:
        """The best of some rows, which are ascending."""
        order = np.argsort(-scores, kind="stable")
        if not excluded:
            order = order[:wanted]
        rows, scores = rows[order], scores[order]
        ids = self._ids.take(rows)
        if excluded:
            kept = [place for place, item_id in enumerate(ids) if item_id not in excluded][:wanted]
            rows, ids, scores = rows[kept], [ids[place] for place in kept], scores[kept]
        return Hits(rows.tolist(), ids, scores.tolist())


def _scores(embeddings: NDArray[np.float32], query: NDArray[np.float32]) -> NDArray[np.float32]:
    """[rows], the largest dot product of each row with a vector of the query."""
    scores: NDArray[np.float32] = embeddings @ query.T
    return scores if query.ndim == 1 else scores.max(axis=1)


def _largest(scores: NDArray[np.float32], count: int) -> NDArray[np.int64]:
    """Indices of the `count` largest scores, ascending; of equal ones the first."""
    if count >= len(scores):
        return np.arange(len(scores))
    # Infinity less infinity, of finite embeddings too large for float32, is worse than any score.
    scores = np.nan_to_num(scores, nan=-np.inf, posinf=np.inf, neginf=-np.inf) if np.isnan(scores).any() else scores
    threshold = np.partition(scores, len(scores) - count)[len(scores) - count]
    above = np.flatnonzero(scores > threshold)
    level = np.flatnonzero(scores == threshold)[: count - len(above)]
    return np.sort(np.concatenate([above, level]))


def _check_files(folder: Path) -> None:
    for path in sorted(folder.rglob("*")):
        name = path.relative_to(folder).as_posix()
        if path.is_symlink():
            raise ItemIndexError(f"{path}: an index must not hold a symlink")
        if path.is_dir():
            continue
        if name not in FILES and not (name.startswith(f"{SCANN}/") and path.suffix in (".npy", ".pb")):
            raise ItemIndexError(f"{path}: an index must not hold this file")
