"""Beam: the embeddings of items and of sampled queries, as Parquet files."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import apache_beam as beam
import numpy as np
import pyarrow as pa
import pyarrow.dataset
import tensorflow as tf
from apache_beam.utils.shared import Shared
from numpy.typing import NDArray

from components.embedding.embedder import Embedder

ID = "id"
EMBEDDING = "embedding"
ATTRIBUTES = "attributes"
VECTORS = "vectors"  # how many of them stand in the embedding, one after the other
SCHEMA = pa.schema(
    [
        (ID, pa.large_binary()),
        (EMBEDDING, pa.list_(pa.float32())),
        (VECTORS, pa.int32()),
        (ATTRIBUTES, pa.large_string()),
    ]
)
BATCH = 256


@dataclass(frozen=True)
class Embedded:
    """Rows in the order of the ids' bytes."""

    ids: list[bytes]
    embeddings: NDArray[np.float32]  # [rows, dimension], or [rows, vectors, dimension] where a row has several
    attributes: list[dict[str, list[str]]]


class EmbedFn(beam.DoFn):
    """Batches of serialised raw tf.Examples -> rows of SCHEMA, by one signature of a SavedModel."""

    def __init__(self, embedder: Embedder, signature: str, id_key: str, attribute_keys: Sequence[str]) -> None:
        self._embedder = embedder
        self._signature = signature
        self._id_key = id_key
        self._attribute_keys = tuple(attribute_keys)

    def setup(self) -> None:
        self._embedder.load()

    def process(self, batch: Sequence[bytes]) -> Iterator[dict[str, object]]:
        for serialised, embedding in zip(batch, self._embedder(self._signature, batch), strict=True):
            features = tf.train.Example.FromString(serialised).features.feature
            ids = features[self._id_key].bytes_list.value
            if len(ids) != 1 or not ids[0]:
                raise ValueError(f"a row has no {self._id_key!r}: every row needs an id to be embedded")
            yield {
                ID: ids[0],
                EMBEDDING: embedding.ravel().tolist(),
                VECTORS: len(embedding) if embedding.ndim == 2 else 1,
                ATTRIBUTES: json.dumps(_attributes(features, self._attribute_keys)),
            }


class EmbedItems(beam.PTransform):
    """Serialised raw items rows -> Parquet files, one row an item."""

    def __init__(self, model: str, item_id: str, attribute_keys: Sequence[str], output: Path) -> None:
        super().__init__()
        self._embed = EmbedFn(Embedder(model, Shared()), "item_examples", item_id, attribute_keys)
        self._output = output

    def expand(self, rows: beam.PCollection) -> beam.PCollection:
        return (
            rows
            | "Batch" >> beam.BatchElements(min_batch_size=BATCH, max_batch_size=BATCH)
            | "Embed" >> beam.ParDo(self._embed)
            | "Write" >> beam.io.WriteToParquet(str(self._output / "rows"), SCHEMA, file_name_suffix=".parquet")
        )


class EmbedSampledQueries(beam.PTransform):
    """Serialised raw interaction rows -> Parquet files with `count` of them: those with the smallest hash.

    The sample is the same whatever the number of workers and the order of the rows.
    """

    def __init__(self, model: str, query_id: str, count: int, output: Path) -> None:
        super().__init__()
        self._embed = EmbedFn(Embedder(model, Shared()), "serialized_examples", query_id, ())
        self._count = count
        self._output = output

    def expand(self, rows: beam.PCollection) -> beam.PCollection:
        return (
            rows
            | "Hash" >> beam.Map(lambda row: (hashlib.sha256(row).digest(), row))
            | "Smallest" >> beam.combiners.Top.Smallest(self._count)
            | "Rows" >> beam.FlatMap(_chunks)
            | "Embed" >> beam.ParDo(self._embed)
            | "Write" >> beam.io.WriteToParquet(str(self._output / "rows"), SCHEMA, file_name_suffix=".parquet")
        )


def read_embedded(folder: Path) -> Embedded:
    """Reads what EmbedItems or EmbedSampledQueries wrote; the whole of it is held in memory."""
    files = sorted(str(path) for path in folder.glob("*.parquet"))
    table = pyarrow.dataset.dataset(files, schema=SCHEMA, format="parquet").to_table()
    ids = table[ID].to_pylist()
    order = sorted(range(len(ids)), key=ids.__getitem__)
    chunks = [chunk.flatten().to_numpy(zero_copy_only=False) for chunk in table[EMBEDDING].chunks]
    flat = np.concatenate(chunks) if chunks else np.zeros(0, np.float32)
    embeddings = flat.reshape(len(ids), -1) if ids else flat.reshape(0, 0)
    vectors = table[VECTORS][0].as_py() if ids else 1
    if vectors > 1:
        embeddings = embeddings.reshape(len(ids), vectors, -1)
    attributes = table[ATTRIBUTES].to_pylist()
    return Embedded(
        ids=[ids[row] for row in order],
        embeddings=np.ascontiguousarray(embeddings[order]) if ids else embeddings,
        attributes=[json.loads(attributes[row]) for row in order],
    )


def _chunks(sample: list[tuple[bytes, bytes]]) -> Iterator[list[bytes]]:
    rows = [row for _, row in sample]
    for start in range(0, len(rows), BATCH):
        yield rows[start : start + BATCH]


def _attributes(features: object, keys: Iterable[str]) -> dict[str, list[str]]:
    """The values of the given keys as texts, numbers in full; a key without a value is left out."""
    attributes = {}
    for key in keys:
        feature = features[key] if key in features else tf.train.Feature()  # type: ignore[index,operator]
        texts = [value.decode(errors="replace") for value in feature.bytes_list.value]
        # The fewest digits that tell a float32 from its neighbours: one may filter by what the file says.
        texts += [np.format_float_positional(np.float32(value), trim="-") for value in feature.float_list.value]
        texts += [str(value) for value in feature.int64_list.value]
        if texts:
            attributes[key] = texts
    return attributes
