"""Item indexes for tests."""

from pathlib import Path

import numpy as np

from serving.index import ItemIndex
from serving.index_builder import build_index


def ids_of(n: int) -> list[bytes]:
    return [f"{i:06d}".encode() for i in range(n)]


def build(folder: Path, embeddings: np.ndarray) -> ItemIndex:
    n = len(embeddings)
    build_index(
        folder,
        embeddings=embeddings.astype(np.float32),
        ids=ids_of(n),
        attributes=[{"title": f"title {i}"} for i in range(n)],
        model_fingerprint="f",
    )
    return ItemIndex(folder)


def clustered(n: int, dimension: int = 32, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """n items and 200 queries around the same 300 centres, of length 1."""
    rng = np.random.default_rng(seed)
    centres = rng.normal(size=(300, dimension))

    def around(count: int) -> np.ndarray:
        x = centres[rng.integers(300, size=count)] + rng.normal(size=(count, dimension))
        return (x / np.linalg.norm(x, axis=1, keepdims=True)).astype(np.float32)

    return around(n), around(200)
