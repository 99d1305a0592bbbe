"""DSSM, YouTubeDNN and MIND of torch-rechub 0.9 (github.com/datawhalechina/torch-rechub), with its own trainer."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import torch
from torch_rechub.basic.features import SequenceFeature, SparseFeature
from torch_rechub.models.matching import DSSM, MIND, YoutubeDNN
from torch_rechub.trainers import MatchTrainer

from benchmarks.peers.choosing import BATCH_SIZE, EPOCHS, SEED, Peer, Setting, run
from benchmarks.peers.data import HISTORY, Exchange, Rows, histories_before, histories_of_all
from benchmarks.peers.ranking import Score

# Steps this small wait for each other longer than they work when two threads share two busy cores.
torch.set_num_threads(1)

_DIM = 32
_HIDDEN = {"dims": [64, _DIM]}
_POINT_WISE, _LIST_WISE = 0, 2  # MatchTrainer's modes

Inputs = dict[str, torch.Tensor]


class _Batches:
    """What MatchTrainer loops over: shuffled rows with fresh negatives each epoch, drawn by count ** 0.75.

    List-wise, a row has its negatives beside it and the positive is class 0; point-wise, each negative is a row of its
    own with label 0.
    """

    def __init__(self, rows: Rows, users: Inputs, items: Inputs, counts: np.ndarray, mode: int, negatives: int) -> None:
        self._users, self._items, self._mode, self._negatives = users, items, mode, negatives
        self._positive = torch.from_numpy(rows.item + 1)
        self._weights = torch.from_numpy(counts**0.75)
        self._generator = torch.Generator().manual_seed(SEED)

    def __iter__(self) -> Iterator[tuple[Inputs, torch.Tensor]]:
        for rows in torch.randperm(len(self._positive), generator=self._generator).split(BATCH_SIZE):
            size = len(rows)
            drawn = torch.multinomial(self._weights, size * self._negatives, True, generator=self._generator)
            users = {name: values[rows] for name, values in self._users.items()}
            positive = self._positive[rows]
            if self._mode == _LIST_WISE:
                items = {name: values[positive] for name, values in self._items.items()}
                yield users | items | {"neg_items": drawn.reshape(size, -1)}, torch.zeros(size)
            else:
                chosen = torch.cat([positive, drawn])
                items = {name: values[chosen] for name, values in self._items.items()}
                repeated = {
                    name: values.repeat(1 + self._negatives, *[1] * (values.dim() - 1))
                    for name, values in users.items()
                }
                yield repeated | items, (torch.arange(len(chosen)) < size).float()


def _dssm(user: Any, history: Any, items: list[Any], setting: Setting) -> torch.nn.Module:
    return DSSM([user, history("mean")], items, _HIDDEN, _HIDDEN)


def _youtube_dnn(user: Any, history: Any, items: list[Any], setting: Setting) -> torch.nn.Module:
    return YoutubeDNN([user, history("mean")], items, [_negative(items)], _HIDDEN, setting["temperature"])


def _mind(user: Any, history: Any, items: list[Any], setting: Setting) -> torch.nn.Module:
    return MIND([user], [history("concat")], items, [_negative(items)], HISTORY)


def _negative(items: list[Any]) -> SequenceFeature:
    return SequenceFeature("neg_items", items[0].vocab_size, _DIM, "concat", shared_with="item_id")


def _fit(
    build: Callable[..., torch.nn.Module], mode: int, exchange: Exchange, rows: Rows, setting: Setting
) -> Iterator[Score]:
    torch.manual_seed(SEED)
    vocabulary = exchange.items + 1
    columns = [SparseFeature("item_id", vocabulary, _DIM, padding_idx=0)]
    items = {"item_id": torch.arange(vocabulary)}
    if build is _dssm:
        columns.append(SparseFeature("category", int(exchange.category.max()) + 1, _DIM))
        items["category"] = torch.from_numpy(np.append(0, exchange.category))
    model = build(
        SparseFeature("user_id", exchange.queries + 1, _DIM, padding_idx=0),
        # Without padding_idx the library would take the padding into the mean.
        lambda pooling: SequenceFeature("hist", vocabulary, _DIM, pooling, shared_with="item_id", padding_idx=0),
        columns,
        setting,
    )
    trainer = MatchTrainer(
        model, mode, optimizer_params={"lr": setting["learning_rate"], "weight_decay": 1e-5}, n_epoch=EPOCHS
    )
    history, _ = histories_before(rows, exchange.queries)
    users = {"user_id": torch.from_numpy(rows.query + 1), "hist": torch.from_numpy(history)}
    counts = np.bincount(rows.item + 1, minlength=vocabulary)
    batches = _Batches(rows, users, items, counts, mode, setting.get("negatives", 50))
    last, length = histories_of_all(rows, exchange.queries)

    def embed(mode: str, inputs: Inputs) -> np.ndarray:
        model.eval()
        model.mode = mode
        with torch.no_grad():
            vectors = model(inputs).numpy()
        model.mode = None
        return vectors

    def score(queries: np.ndarray) -> np.ndarray:
        # Index 0 is a query without a train row: its id would be an untrained vector.
        known = np.where(length[queries] > 0, queries + 1, 0)
        vectors = embed("user", {"user_id": torch.from_numpy(known), "hist": torch.from_numpy(last[queries])})
        # MIND has several vectors a user: an item counts with the one it suits best.
        return (vectors.reshape(len(queries), -1, _DIM) @ candidates.T).max(axis=1)

    for _ in range(EPOCHS):
        trainer.train_one_epoch(batches)
        candidates = embed("item", items).reshape(vocabulary, _DIM)[1:]
        yield score


def _peer(build: Callable[..., torch.nn.Module], mode: int, other: str, values: tuple[float, float]) -> Peer:
    return Peer(
        [{"learning_rate": rate, other: value} for rate, value in itertools.product((0.001, 0.005), values)],
        lambda exchange, rows, setting: _fit(build, mode, exchange, rows, setting),
    )


PEERS = {
    # Its DSSM and MIND take no temperature.
    "rechub_dssm": _peer(_dssm, _POINT_WISE, "negatives", (3, 10)),
    "rechub_youtubednn": _peer(_youtube_dnn, _LIST_WISE, "temperature", (0.05, 0.2)),
    "rechub_mind": _peer(_mind, _LIST_WISE, "negatives", (20, 50)),
}

if __name__ == "__main__":
    run(PEERS)
