"""The query store of a release: what is known of each query as of the end of the data.

A folder with two blob tables of equal length: `ids/` (query ids, sorted by their bytes, each once) and `examples/`
(the serialised raw tf.Example of that query: its features, histories and `seen_items`).
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from pathlib import Path

from serving.blobs import BlobError, BlobTable, write_table

IDS = "ids"
EXAMPLES = "examples"


def write_queries(folder: Path, rows: Iterable[tuple[bytes, bytes]]) -> int:
    """Writes a query store into a new folder.

    Args:
      folder: created; must not exist.
      rows: (query id, serialised tf.Example), sorted by the ids' bytes. Held in memory once.

    Returns:
      The number of queries.

    Raises:
      ValueError: the ids are not sorted, or one appears twice.
    """
    examples: list[bytes] = []

    def ids() -> Iterator[bytes]:
        previous: bytes | None = None
        for query_id, example in rows:
            if previous is not None and query_id <= previous:
                raise ValueError(
                    f"query {query_id.decode(errors='replace')!r} comes after {previous.decode(errors='replace')!r}: "
                    "the query store needs every id once, sorted by its bytes"
                )
            previous = query_id
            examples.append(example)
            yield query_id

    folder.mkdir(parents=True)
    write_table(folder / IDS, ids())
    return write_table(folder / EXAMPLES, examples)


class QueryStore:
    """Looks up what is stored of a query. Safe for any number of threads."""

    def __init__(self, folder: Path) -> None:
        """Opens a store.

        Raises:
          BlobError: its tables are damaged or of different lengths.
        """
        self._ids = BlobTable(folder / IDS)
        self._examples = BlobTable(folder / EXAMPLES)
        if len(self._ids) != len(self._examples):
            raise BlobError(f"query store {folder}: {len(self._ids)} ids, but {len(self._examples)} examples")

    def __len__(self) -> int:
        return len(self._ids)

    def sample(self, count: int) -> list[tuple[bytes, bytes]]:
        """(query id, serialised tf.Example) of at most `count` queries, from all over the store."""
        rows = range(0, len(self), max(1, -(-len(self) // count)))
        return [(self._ids[row], self._examples[row]) for row in rows]

    def query_id(self, row: int) -> bytes:
        """The id of a row, 0 <= row < len(self)."""
        return self._ids[row]

    def find(self, query_id: bytes) -> bytes | None:
        """The serialised tf.Example of a query; None if it is not known."""
        row = self._ids.find(query_id)
        return None if row is None else self._examples[row]
