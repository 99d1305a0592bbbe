"""ScaNN behind the item index. Importing this imports TensorFlow, which ScaNN's library needs.

Only what ScaNN itself writes is kept, less two files: `dataset.npy`, for it repeats the index's embeddings.npy, and
`scann_assets.pbtxt`, for it holds absolute paths. ScaNN gets that list at load instead, made from the known names. Of
brute force that leaves its configuration alone. No document ids are ever handed to ScaNN, for it would pickle them.
"""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from scann.scann_ops.py import scann_ops_pybind

from serving.searcher import SearcherConfig

CONFIG = "scann_config.pb"
# Name -> ScaNN's asset type of what hashing writes, in the order ScaNN lists them.
ASSETS = {
    "ah_codebook.pb": "AH_CENTERS",
    "serialized_partitioner.pb": "PARTITIONER",
    "datapoint_to_token.npy": "TOKENIZATION_NPY",
    "hashed_dataset.npy": "AH_DATASET_NPY",
    "hashed_dataset_soar.npy": "AH_DATASET_SOAR_NPY",
}
UNSET = -1  # ScaNN's word for a search parameter that is not given
LEFT_OUT = ("dataset.npy", "scann_assets.pbtxt")
TRAINING_SAMPLE = 100_000
ANISOTROPIC_THRESHOLD = 0.2
DEFAULT_COUNT = 10  # ScaNN asks for one at build; every search names its own


def build_scann(folder: Path, embeddings: NDArray[np.float32], config: SearcherConfig) -> None:
    """Builds a ScaNN searcher over the embeddings and writes its files into a new folder.

    Args:
      folder: created; must not exist.
      embeddings: float32 [num_items, dimension], finite.
      config: how it is to be searched.
    """
    sample = min(len(embeddings), TRAINING_SAMPLE)
    builder = scann_ops_pybind.builder(embeddings, DEFAULT_COUNT, "dot_product")
    if config.leaves:
        soar = {"soar_lambda": 1.5, "overretrieve_factor": 2.0} if config.soar else {}
        builder = builder.tree(
            num_leaves=config.leaves,
            num_leaves_to_search=config.leaves_to_search,
            training_sample_size=sample,
            **soar,
        )
    if config.kind == "brute_force":
        builder = builder.score_brute_force()
    else:
        builder = builder.score_ah(
            1, anisotropic_quantization_threshold=ANISOTROPIC_THRESHOLD, training_sample_size=sample
        ).reorder(config.reorder)
    folder.mkdir()
    builder.build().serialize(str(folder))
    for name in LEFT_OUT:
        (folder / name).unlink()
    written, expected = {file.name for file in folder.iterdir()}, {CONFIG, *_assets(config)}
    if written != expected:
        raise RuntimeError(f"ScaNN wrote {sorted(written)}, this format knows {sorted(expected)}")


def _assets(config: SearcherConfig) -> list[str]:
    if config.kind == "brute_force":
        return []
    needs = {
        "serialized_partitioner.pb": config.leaves > 0,
        "datapoint_to_token.npy": config.leaves > 0,
        "hashed_dataset_soar.npy": config.soar,
    }
    return [name for name in ASSETS if needs.get(name, True)]


class ScannSearch:
    """A loaded ScaNN searcher. Safe for any number of threads.

    It holds the interpreter's lock while it searches. ScaNN's TensorFlow op does not, but takes half as much processor
    time again at 100,000 items, lacks SOAR at 1,000,000, and has its tensors in memory twice; and a search in a batch
    of queries takes as long as one alone. So a second core is put to use by a second process.
    """

    def __init__(self, folder: Path, embeddings: Path, config: SearcherConfig) -> None:
        """Loads what `build_scann` wrote.

        Args:
          folder: ScaNN's files.
          embeddings: the embeddings.npy it was built from.
          config: it was built with.

        Raises:
          OSError, ValueError: a file is missing or truncated.
          RuntimeError: ScaNN cannot read its files.
        """
        names = _assets(config)
        for name in (CONFIG, *names):
            # ScaNN trains anew what it does not find, and reads past the end of a short array.
            if not (folder / name).is_file():
                raise FileNotFoundError(f"{name} is missing")
            if name.endswith(".npy"):
                np.load(folder / name, mmap_mode="r", allow_pickle=False)
        files = [*((folder / name, ASSETS[name]) for name in names), (embeddings, "DATASET_NPY")]
        assets = "".join(
            f'assets {{ asset_type: {kind} asset_path: "{_escaped(path.absolute())}" }}\n' for path, kind in files
        )
        self._config = config
        self._searcher = scann_ops_pybind.scann_pybind.ScannNumpy(str(folder.absolute()), assets)

    def search(self, query: NDArray[np.float32], count: int, effort: float = 1.0) -> NDArray[np.int64]:
        """Rows of the best items; with hashing, of probably the best.

        Args:
          query: float32 [dimension], finite.
          count: so many rows are wanted.
          effort: so many times the configured leaves and exactly scored candidates; more finds more and takes longer.
            Above 0; without hashing every item is scored anyway.

        Returns:
          int64 [<= count], ascending, distinct; fewer than `count` where the searched leaves hold fewer.
        """
        reorder, leaves = UNSET, UNSET
        if self._config.kind == "hashing":
            # Excluded items may be the best ones, so those beyond them must be ranked as carefully.
            reorder = max(count, math.ceil(effort * max(self._config.reorder, 3 * count)))
            # A leaf holds only so many of the best items: who wants more of them must look at more leaves.
            wider = math.ceil(effort * self._config.leaves_to_search * max(1, count / self._config.reorder))
            leaves = min(wider, self._config.leaves) or UNSET
        rows, scores = self._searcher.search(query, count, reorder, leaves)
        found: NDArray[np.int64] = rows[~np.isnan(scores)].astype(np.int64)
        found.sort()
        return found


def _escaped(path: Path) -> str:
    return str(path).replace("\\", "\\\\").replace('"', '\\"')
