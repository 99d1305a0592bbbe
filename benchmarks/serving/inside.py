"""What a release could do at best, in one process without RPC: `python -m benchmarks.serving.inside RELEASE`.

One thread looks a known query up, embeds it and searches, as the server does for a request; hnswlib and faiss search
the same vectors for the same queries. Prints one JSON object.
"""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import faiss
import hnswlib
import numpy as np
from numpy.typing import NDArray

from benchmarks.serving import synthetic
from benchmarks.serving.load import K
from serving.query_inputs import read_stored
from serving.retriever import Retriever, load_release

QUERIES = 1000
ENOUGH_RECALL = 0.99
CHUNK = 100_000  # items scored at once
HNSW_LINKS, HNSW_BUILD = 16, 200  # M, ef_construction
HNSW_EFFORTS = (100, 200, 400, 800, 1600)  # ef
IVF_SHARES = (0.02, 0.05, 0.1, 0.2, 0.4)  # nprobe as a share of the lists
GRAPH = "hnsw.bin"


def _timed(call: Callable[[int], object], rounds: int) -> dict[str, float]:
    """Microseconds of one call, by wall clock, and processor time."""
    for number in range(rounds // 10):
        call(number)
    cpu, times = time.process_time(), []
    for number in range(rounds):
        start = time.perf_counter()
        call(number)
        times.append(time.perf_counter() - start)
    p50, p99 = np.percentile(times, [50, 99]) * 1e6
    return {"p50_us": p50, "p99_us": p99, "cpu_us": (time.process_time() - cpu) / rounds * 1e6}


def best_rows(vectors: NDArray[np.float32], queries: NDArray[np.float32]) -> NDArray[np.int64]:
    """int64 [queries, K]: the rows with the largest dot products, by scoring all."""
    scores = np.empty([len(queries), 0], np.float32)
    rows = np.empty([len(queries), 0], np.int64)
    for start in range(0, len(vectors), CHUNK):
        chunk = queries @ vectors[start : start + CHUNK].T
        scores = np.concatenate([scores, chunk], axis=1)
        rows = np.concatenate([rows, np.tile(np.arange(start, start + chunk.shape[1]), (len(queries), 1))], axis=1)
        kept = np.argpartition(-scores, K - 1, axis=1)[:, :K]
        scores, rows = np.take_along_axis(scores, kept, axis=1), np.take_along_axis(rows, kept, axis=1)
    return rows


def recall(found: list[NDArray[np.int64]], expected: NDArray[np.int64]) -> float:
    """Mean share of the K best rows that were found."""
    return float(np.mean([np.isin(best, rows).mean() for rows, best in zip(found, expected, strict=True)]))


def hnsw(vectors: NDArray[np.float32], file: Path) -> Iterator[tuple[str, Callable[[NDArray], NDArray]]]:
    """hnswlib at growing effort. The graph takes minutes to build and is kept."""
    index = hnswlib.Index("ip", synthetic.DIMENSION)
    if file.exists():
        index.load_index(str(file), len(vectors))
    else:
        index.init_index(len(vectors), M=HNSW_LINKS, ef_construction=HNSW_BUILD, random_seed=1)
        index.add_items(vectors)
        index.save_index(str(file))
    index.set_num_threads(1)
    for effort in HNSW_EFFORTS:
        index.set_ef(effort)
        yield f"hnswlib M={HNSW_LINKS} ef={effort}", lambda query: index.knn_query(query, K)[0][0].astype(np.int64)


def ivf(vectors: NDArray[np.float32]) -> Iterator[tuple[str, Callable[[NDArray], NDArray]]]:
    """faiss's inverted lists of whole vectors at growing effort."""
    lists = int(len(vectors) ** 0.5)
    quantiser = faiss.IndexFlatIP(synthetic.DIMENSION)
    index = faiss.IndexIVFFlat(quantiser, synthetic.DIMENSION, lists, faiss.METRIC_INNER_PRODUCT)
    index.train(vectors[:: max(1, len(vectors) // 100_000)])
    index.add(vectors)
    faiss.omp_set_num_threads(1)
    for share in IVF_SHARES:
        index.nprobe = int(share * lists)
        yield f"faiss IVF{lists},Flat nprobe={index.nprobe}", lambda query: index.search(query[np.newaxis], K)[1][0]


def peer(
    settings: Iterator[tuple[str, Callable[[NDArray], NDArray]]], queries: NDArray, expected: NDArray
) -> dict[str, object]:
    """The first setting that finds enough, or the last one."""
    measured: dict[str, object] = {}
    for name, search in settings:
        found = recall([search(query) for query in queries], expected)
        measured = {"name": name, "recall": found, "search": search}
        if found >= ENOUGH_RECALL:
            break
    search = measured.pop("search")
    return {**measured, **_timed(lambda number: search(queries[number % len(queries)]), len(queries))}


def main(release: Path) -> dict[str, object]:
    """Measures all of it."""
    retriever = load_release(release)
    users = np.random.default_rng(7).permutation(synthetic.USERS)[:QUERIES]
    ids = [synthetic.user_id(user) for user in users]
    queries = np.stack([_embed(retriever, query_id) for query_id in ids])
    vectors = np.load(release / "index" / "embeddings.npy")
    expected = best_rows(vectors, queries)
    found = [np.array(retriever.index.search(query, K).rows) for query in queries]
    return {
        "tower": _timed(lambda number: _embed(retriever, ids[number % QUERIES]), 3 * QUERIES),
        "search": _timed(lambda number: retriever.index.search(queries[number % QUERIES], K), 3 * QUERIES),
        "both": _timed(lambda number: retriever.index.search(_embed(retriever, ids[number % QUERIES]), K), 3 * QUERIES),
        "recall": recall(found, expected),
        "peers": [
            peer(ivf(vectors), queries, expected),
            peer(hnsw(vectors, release.parents[1] / GRAPH), queries, expected),
        ],
    }


def _embed(retriever: Retriever, query_id: str) -> NDArray[np.float32]:
    stored = read_stored(retriever.queries.find(query_id.encode()))
    return retriever.tower.embed(query_id, stored, {})


if __name__ == "__main__":
    print(json.dumps(main(Path(sys.argv[1]))))
