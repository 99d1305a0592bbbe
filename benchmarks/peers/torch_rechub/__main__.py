"""YouTubeDNN of torch-rechub 0.9 (github.com/datawhalechina/torch-rechub), with its own trainer."""

from __future__ import annotations

import itertools
from collections.abc import Iterator

import numpy as np
import torch
from torch_rechub.basic.features import SequenceFeature, SparseFeature
from torch_rechub.models.matching import YoutubeDNN
from torch_rechub.trainers import MatchTrainer

from benchmarks.peers.choosing import BATCH_SIZE, EPOCHS, SEED, Peer, Setting, run
from benchmarks.peers.data import Exchange, Rows, histories_before, histories_of_all
from benchmarks.peers.ranking import Score

# Steps this small wait for each other longer than they work when two threads share two busy cores.
torch.set_num_threads(1)

_DIM = 32
_NEGATIVES = 50  # of each row; the library has no negatives that a batch shares, so more cost a lot
_LIST_WISE = 2  # MatchTrainer's mode

Inputs = dict[str, torch.Tensor]


class _Batches:
    """What MatchTrainer loops over: shuffled rows, the positive in front as class 0 of each.

    Negatives are drawn anew each epoch by count ** 0.75, which is the library's negative_sample with method_id 1.
    """

    def __init__(self, users: Inputs, items: torch.Tensor, counts: np.ndarray) -> None:
        self._users, self._items = users, items
        self._weights = torch.from_numpy(counts**0.75)
        self._generator = torch.Generator().manual_seed(SEED)

    def __iter__(self) -> Iterator[tuple[Inputs, torch.Tensor]]:
        for rows in torch.randperm(len(self._items), generator=self._generator).split(BATCH_SIZE):
            drawn = torch.multinomial(self._weights, len(rows) * _NEGATIVES, True, generator=self._generator)
            inputs = {name: values[rows] for name, values in self._users.items()}
            inputs |= {"item_id": self._items[rows], "neg_items": drawn.reshape(len(rows), _NEGATIVES)}
            yield inputs, torch.zeros(len(rows))


def _fit(exchange: Exchange, rows: Rows, setting: Setting) -> Iterator[Score]:
    torch.manual_seed(SEED)
    vocabulary = exchange.items + 1
    model = YoutubeDNN(
        [
            SparseFeature("user_id", exchange.queries + 1, _DIM, padding_idx=0),
            # Without padding_idx the library would take the padding into the mean.
            SequenceFeature("hist", vocabulary, _DIM, "mean", shared_with="item_id", padding_idx=0),
        ],
        [SparseFeature("item_id", vocabulary, _DIM, padding_idx=0)],
        [SequenceFeature("neg_items", vocabulary, _DIM, "concat", shared_with="item_id")],
        {"dims": [64, _DIM]},
        setting["temperature"],
    )
    trainer = MatchTrainer(
        model, _LIST_WISE, optimizer_params={"lr": setting["learning_rate"], "weight_decay": 1e-5}, n_epoch=EPOCHS
    )
    history, _ = histories_before(rows, exchange.queries)
    users = {"user_id": torch.from_numpy(rows.query + 1), "hist": torch.from_numpy(history)}
    counts = np.bincount(rows.item + 1, minlength=vocabulary)
    batches = _Batches(users, torch.from_numpy(rows.item + 1), counts)
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
        return vectors @ candidates.T

    for _ in range(EPOCHS):
        trainer.train_one_epoch(batches)
        candidates = embed("item", {"item_id": torch.arange(vocabulary)})[1:]
        yield score


PEERS = {
    "rechub_youtubednn": Peer(
        [
            {"learning_rate": rate, "temperature": temperature}
            for rate, temperature in itertools.product((0.001, 0.005), (0.05, 0.2))
        ],
        _fit,
    ),
}

if __name__ == "__main__":
    run(PEERS)
