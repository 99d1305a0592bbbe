"""A shop whose truth is known: people with tastes, items with prices, and who clicks and orders what at which position.

People and items lie in DIMENSION dimensions around the centres of the categories. How much a person likes an item is
the dot product of their vectors. What a person looks at, clicks and orders is by chance with known probabilities:

    looks at position j     j^-0.7 (a position-based model: Craswell, Zoeter, Taylor, Ramsey, WSDM 2008)
    clicks what is seen     sigmoid(-3.5 + 3 liking + how much this person clicks at all)
    orders what is clicked  sigmoid(-2 + liking - 0.5 log(price / the middle price))

A person visits 1 + Poisson(rate) times a week; who clicks more comes more often, so that impressions of one person are
far from independent, and a ratio over impressions is not a mean over people. NumPy only.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

DIMENSION, CATEGORIES = 16, 25
PEOPLE, ITEMS = 10_000, 2_000
SHOWN = 10  # items of an answer that are shown
EXAMINED = np.arange(1, SHOWN + 1) ** -0.7
MIDDLE_PRICE = 20.0


def item_id(number: int) -> str:
    """Ids whose order is that of the numbers."""
    return f"item{number:06d}"


def item_number(item: str) -> int:
    """The other way."""
    return int(item.removeprefix("item"))


def _sigmoid(x: NDArray) -> NDArray:
    return 1 / (1 + np.exp(-x))


def _unit(x: NDArray) -> NDArray:
    return x / np.linalg.norm(x, axis=1, keepdims=True)


@dataclass(frozen=True)
class Behaviour:
    """What people do with what one release has them see, after the ranker.

    Attributes:
      shown: int [people, SHOWN], the items in the order of their positions.
      click: float [people, SHOWN], probability that the item is clicked in one visit.
      order: float [people, SHOWN], probability that a clicked item is ordered.
      price: float [people, SHOWN].
    """

    shown: NDArray[np.int64]
    click: NDArray[np.float64]
    order: NDArray[np.float64]
    price: NDArray[np.float64]


class World:
    """The people and the items; the same for the same seed."""

    def __init__(self, seed: int, people: int = PEOPLE, items: int = ITEMS) -> None:
        random = np.random.default_rng(seed)
        centres = _unit(random.standard_normal((CATEGORIES, DIMENSION)))
        self.category = random.integers(CATEGORIES, size=items)
        self.items = _unit(centres[self.category] + 0.2 * random.standard_normal((items, DIMENSION)))
        liked = (
            centres[random.integers(CATEGORIES, size=people)] + 0.6 * centres[random.integers(CATEGORIES, size=people)]
        )
        self.tastes = _unit(liked + 0.15 * random.standard_normal((people, DIMENSION)))
        self.price = MIDDLE_PRICE * np.exp(0.8 * random.standard_normal(items))
        self.clicks_at_all = 0.8 * random.standard_normal(people)
        self.rate = random.gamma(1.0, 2.5, people) * np.exp(0.5 * self.clicks_at_all)
        # What the ranker knows of tastes and items: not all, and a little of the price.
        self._ranker_tastes = self.seen_through(0.1, self.tastes, random)
        self._ranker_items = self.seen_through(0.1, self.items, random)

    @staticmethod
    def seen_through(noise: float, vectors: NDArray, random: np.random.Generator) -> NDArray[np.float32]:
        """Vectors as a model of a certain quality has them.

        Args:
          noise: standard deviation of what is added in each dimension.
          vectors: float [n, DIMENSION].
          random: where the noise comes from.
        """
        return (vectors + noise * random.standard_normal(vectors.shape)).astype(np.float32)

    def rank(self, person: NDArray[np.int64], retrieved: NDArray[np.int64]) -> NDArray[np.int64]:
        """The ranker behind both releases: int [n, SHOWN], the best of what was retrieved.

        Args:
          person: int [n].
          retrieved: int [n, k], items.
        """
        liking = np.einsum("nd,nkd->nk", self._ranker_tastes[person], self._ranker_items[retrieved])
        score = liking + 0.05 * np.log(self.price[retrieved])
        best = np.argsort(-score, axis=1, kind="stable")[:, :SHOWN]
        return np.take_along_axis(retrieved, best, axis=1)

    def behaviour(self, shown: NDArray[np.int64]) -> Behaviour:
        """What the people do with what they are shown, int [people, SHOWN]."""
        liking = np.einsum("nd,nkd->nk", self.tastes, self.items[shown])
        price = self.price[shown]
        click = EXAMINED * _sigmoid(-3.5 + 3 * liking + self.clicks_at_all[:, np.newaxis])
        order = _sigmoid(-2 + liking - 0.5 * np.log(price / MIDDLE_PRICE))
        return Behaviour(shown, click, order, price)

    def truth(self, behaviour: Behaviour) -> dict[str, float]:
        """The expected metrics if all people were shown this, from the probabilities."""
        visits = 1 + self.rate
        clicks = visits * behaviour.click.sum(axis=1)
        money = visits * (behaviour.click * behaviour.order * behaviour.price).sum(axis=1)
        impressions = visits * SHOWN
        return {
            "CTR": float(clicks.sum() / impressions.sum()),
            "GMV/user": float(money.mean()),
            "GMV/impression": float(money.sum() / impressions.sum()),
        }
