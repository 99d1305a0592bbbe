"""Tables of byte strings in a folder, read through a memory map.

A table is `offsets.npy` (int64 [n + 1], where each row starts in the data, and the data's length) beside `data.bin`
(the rows, one after the other). Any bytes survive: there are no separators. Whoever writes a table writes it below a
folder that gets its final name later, so a half-written table is never visible.
"""

from __future__ import annotations

import mmap
import os
from array import array
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

import numpy as np
from numpy.typing import NDArray

OFFSETS = "offsets.npy"
DATA = "data.bin"


class BlobError(ValueError):
    """A table's files are missing, truncated or inconsistent, or cannot be written."""


def write_table(folder: Path, rows: Iterable[bytes]) -> int:
    """Writes a table into a new folder, streaming.

    Args:
      folder: created; must not exist.
      rows: the byte strings, in the order of their row numbers.

    Returns:
      The number of rows.

    Raises:
      BlobError: a file cannot be written.
    """
    folder.mkdir(parents=True)
    offsets = array("q", [0])
    with _synced(folder / DATA) as data:
        for row in rows:
            data.write(row)
            offsets.append(offsets[-1] + len(row))
    with _synced(folder / OFFSETS) as file:
        np.save(file, np.frombuffer(offsets, dtype=np.int64), allow_pickle=False)
    return len(offsets) - 1


@contextmanager
def _synced(path: Path) -> Iterator[BinaryIO]:
    """A new file that is on disk at the end."""
    try:
        with path.open("wb") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
    except OSError as error:
        if error.filename is not None:
            raise
        # Of a full disk the system does not say which file it was.
        raise BlobError(f"{path} cannot be written: {error}") from error


class BlobTable:
    """A read-only table. Safe for any number of threads."""

    def __init__(self, folder: Path) -> None:
        """Opens a table.

        Raises:
          BlobError: a file is missing, or the two do not fit together.
        """
        try:
            offsets = np.load(folder / OFFSETS, mmap_mode="r", allow_pickle=False)
            size = (folder / DATA).stat().st_size
        except (OSError, ValueError, EOFError) as error:
            raise BlobError(f"blob table {folder}: cannot read it: {error}") from error
        if offsets.dtype != np.int64 or offsets.ndim != 1 or len(offsets) == 0:
            raise BlobError(
                f"blob table {folder}: {OFFSETS} must be int64 with one axis, is {offsets.dtype} {offsets.shape}"
            )
        if offsets[0] != 0 or offsets[-1] != size or (np.diff(offsets) < 0).any():
            raise BlobError(f"blob table {folder}: {OFFSETS} does not fit the {size} bytes of {DATA}")
        self._offsets: NDArray[np.int64] = np.asarray(offsets)
        self._data: mmap.mmap | bytes = b""
        if size:
            with (folder / DATA).open("rb") as file:
                self._data = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)

    def __len__(self) -> int:
        return len(self._offsets) - 1

    def __getitem__(self, row: int) -> bytes:
        """The bytes of a row, 0 <= row < len(self)."""
        if not 0 <= row < len(self):
            raise IndexError(f"row {row} of {len(self)}")
        return self._data[self._offsets[row] : self._offsets[row + 1]]

    def take(self, rows: NDArray[np.int64]) -> list[bytes]:
        """The bytes of many rows, each 0 <= row < len(self)."""
        starts, ends = self._offsets[rows].tolist(), self._offsets[rows + 1].tolist()
        return [self._data[start:end] for start, end in zip(starts, ends, strict=True)]

    def find(self, key: bytes) -> int | None:
        """The row of `key` in a table whose rows are sorted by their bytes, by binary search; None if absent."""
        data, offsets = self._data, self._offsets.item  # a request waits for each of these steps
        low, high = 0, len(self)
        while low < high:
            middle = (low + high) // 2
            if data[offsets(middle) : offsets(middle + 1)] < key:
                low = middle + 1
            else:
                high = middle
        return low if low < len(self) and self[low] == key else None
