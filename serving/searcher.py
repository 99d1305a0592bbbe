"""Which search fits a catalogue of a given size. Imports neither ScaNN nor TensorFlow."""

from __future__ import annotations

import math
from typing import Annotated, Literal

from pydantic import Field

from models.config import Frozen

BRUTE_FORCE_BELOW = 20_000  # items; below, hashing saves little, and scoring every item misses nothing
TREE_FROM = 200_000  # items; below, a tree that finds as much as scoring every item's code hardly saves time
SOAR_FROM = 1_000_000  # items; from here the second assignment of an item to a leaf pays for its memory
REORDER = 300  # candidates scored exactly


class SearcherConfig(Frozen):
    """How ScaNN searches the index.

    With kind "brute_force" every item is scored; the other fields do not count. With kind "hashing" every item has a
    code of one byte per two dimensions (asymmetric hashing, as in https://arxiv.org/abs/1908.10396); the best `reorder`
    items by code are scored exactly. With `leaves` > 0 only the items of the `leaves_to_search` nearest leaves are
    looked at; `soar` puts each item in a second leaf (https://arxiv.org/abs/2404.00774).
    """

    kind: Literal["brute_force", "hashing"]
    leaves: Annotated[int, Field(ge=0)] = 0
    leaves_to_search: Annotated[int, Field(ge=0)] = 0
    reorder: Annotated[int, Field(ge=0)] = 0
    soar: bool = False


def choose_searcher(num_items: int) -> SearcherConfig:
    """The search for a catalogue of `num_items`."""
    if num_items < BRUTE_FORCE_BELOW:
        return SearcherConfig(kind="brute_force")
    if num_items < TREE_FROM:
        return SearcherConfig(kind="hashing", reorder=REORDER)
    leaves = math.isqrt(num_items)
    soar = num_items >= SOAR_FROM
    share = 0.1 if soar else 0.3
    return SearcherConfig(
        kind="hashing", leaves=leaves, leaves_to_search=math.ceil(share * leaves), reorder=REORDER, soar=soar
    )
