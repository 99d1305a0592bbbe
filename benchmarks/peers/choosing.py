"""The same budget for each peer: a small grid, chosen on a validation split, then one fit on all that may be known."""

from __future__ import annotations

import argparse
import itertools
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.peers.data import Exchange, Rows, hold_out_last, read_exchange
from benchmarks.peers.ranking import Score, ranks, write_ranks

EPOCHS = 10
BATCH_SIZE = 512
SEED = 7
# Enough to tell settings apart; ranking all of a large set after each epoch would cost more than training.
VALIDATION_ROWS = 5000

Setting = Mapping[str, Any]


@dataclass(frozen=True)
class Peer:
    """A model of another library.

    settings: the grid. fit: trains on rows with a setting and yields a score function after each epoch, at most EPOCHS
    times; a peer without epochs yields once.
    """

    settings: Sequence[Setting]
    fit: Callable[[Exchange, Rows, Setting], Iterator[Score]]


def choose(peer: Peer, exchange: Exchange) -> tuple[Setting, int]:
    """The setting and the number of epochs with the best HR@50 on each query's last train row, MRR breaking ties.

    Of the queries with two train rows or more at most VALIDATION_ROWS are asked, drawn with SEED.
    """
    part, validation = hold_out_last(exchange.train)
    if len(validation) > VALIDATION_ROWS:
        drawn = np.random.default_rng(SEED).choice(len(validation), VALIDATION_ROWS, replace=False)
        validation = validation[np.sort(drawn)]
    best: tuple[tuple[float, float], Setting, int] | None = None
    for setting in peer.settings:
        for epoch, score in enumerate(peer.fit(exchange, part, setting), start=1):
            rank = ranks(part, validation, exchange.queries, exchange.items, score)
            value = (float((rank <= 50).mean()), float((1 / rank).mean()))
            print(f"  {dict(setting)} epoch {epoch}: validation HR@50 {value[0]:.4f} MRR {value[1]:.4f}", flush=True)
            if best is None or value > best[0]:
                best = (value, setting, epoch)
    assert best is not None
    return best[1], best[2]


def run(peers: Mapping[str, Peer]) -> None:
    """The program of one environment: trains the named peers and writes their ranks."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--exchange", type=Path, required=True)
    parser.add_argument("--output", type=Path, required=True)
    parser.add_argument("--peer", choices=list(peers), action="append", required=True)
    arguments = parser.parse_args()
    exchange = read_exchange(arguments.exchange)
    for name in arguments.peer:
        start = time.monotonic()
        peer = peers[name]
        setting, epochs = choose(peer, exchange)
        score = next(itertools.islice(peer.fit(exchange, exchange.train, setting), epochs - 1, None))
        rank = ranks(exchange.train, exchange.test, exchange.queries, exchange.items, score)
        write_ranks(arguments.output / f"{name}.npz", exchange, rank)
        figures = f"HR@50 {(rank <= 50).mean():.4f} HR@100 {(rank <= 100).mean():.4f} MRR {(1 / rank).mean():.4f}"
        print(f"{name} {dict(setting)} epochs {epochs}: {figures}, {time.monotonic() - start:.0f} s", flush=True)
