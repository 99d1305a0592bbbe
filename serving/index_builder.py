"""Writes an item index (serving.index). Importing this imports ScaNN and TensorFlow."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from serving.blobs import write_table
from serving.filters import write_postings
from serving.index import ATTRIBUTES, EMBEDDINGS, FILTERS, IDS, SCANN
from serving.index_manifest import IndexManifest, ItemIndexError, write_manifest
from serving.scann_search import build_scann
from serving.searcher import choose_searcher

SEPARATOR = "|"  # between the values of an attribute that has several, in its text


def build_index(
    folder: Path,
    *,
    embeddings: NDArray[np.float32],
    ids: Sequence[bytes],
    attributes: Sequence[Mapping[str, str | Sequence[str]]],
    model_fingerprint: str,
    filters: Sequence[str] = (),
    names: Sequence[str] = (),
) -> None:
    """Writes an index, its manifest last. The searcher follows from the number of items.

    Args:
      folder: created where it is missing; must be empty.
      embeddings: float32 [num_items, dimension].
      ids: num_items item ids as UTF-8, sorted by their bytes, each once.
      attributes: num_items mappings from the attribute's name to its value, or its several ones.
      model_fingerprint: of the SavedModel that made the embeddings.
      filters: names of the attributes that requests may filter by.
      names: attributes that requests may ask for although today no item has one.

    Raises:
      ItemIndexError: no items, an id twice or out of order or not UTF-8, or an embedding that is not finite; it names
        the item.
    """
    if embeddings.ndim != 2 or embeddings.dtype != np.float32 or not len(embeddings) == len(ids) == len(attributes):
        raise ItemIndexError(
            f"the index needs float32 [num_items, dimension] and as many ids and attributes, got {embeddings.dtype} "
            f"{list(embeddings.shape)}, {len(ids)} ids, {len(attributes)} attributes"
        )
    if not len(ids):
        raise ItemIndexError("there are no items to index")
    _check_ids(ids)
    bad = np.flatnonzero(~np.isfinite(embeddings).all(axis=1))
    if len(bad):
        raise ItemIndexError(f"item {ids[bad[0]].decode()!r} has an embedding with NaN or infinity ({len(bad)} in all)")
    folder.mkdir(parents=True, exist_ok=True)
    embeddings = np.ascontiguousarray(embeddings)
    np.save(folder / EMBEDDINGS, embeddings, allow_pickle=False)
    write_table(folder / IDS, ids)
    values = [{name: [v] if isinstance(v, str) else v for name, v in row.items()} for row in attributes]
    texts = ({name: SEPARATOR.join(several) for name, several in row.items()} for row in values)
    write_table(folder / ATTRIBUTES, (json.dumps(row, ensure_ascii=False, sort_keys=True).encode() for row in texts))
    if filters:
        write_postings(folder / FILTERS, filters, values)
    config = choose_searcher(len(ids))
    build_scann(folder / SCANN, embeddings, config)
    write_manifest(
        folder,
        IndexManifest(
            items=len(ids),
            dimension=embeddings.shape[1],
            searcher=config,
            attributes=tuple(sorted({*names, *filters, *(name for row in attributes for name in row)})),
            filters=tuple(filters),
            model_fingerprint=model_fingerprint,
        ),
    )


def _check_ids(ids: Sequence[bytes]) -> None:
    previous: bytes | None = None
    for item_id in ids:
        try:
            item_id.decode()
        except UnicodeDecodeError as error:
            raise ItemIndexError(f"item id {item_id!r} is not UTF-8") from error
        if previous is not None and item_id <= previous:
            problem = "appears twice" if item_id == previous else "is out of order"
            raise ItemIndexError(f"item id {item_id.decode()!r} {problem}: the index needs every id once, sorted")
        previous = item_id
