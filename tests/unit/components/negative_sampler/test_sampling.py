"""Tests of the distribution and of drawing from it."""

from math import log

import numpy as np
import pytest

from components.negative_sampler.config import NegativesConfig
from components.negative_sampler.sampling import Distribution, Sampler, draw_hard, row_key, uniforms

COUNTS = np.array([7, 0, 3, 0])  # (count + 1): 8, 1, 4, 1, in all 14


def distribution(counts: np.ndarray = COUNTS, alpha: float = 1.0) -> Distribution:
    return Distribution.from_counts(counts, NegativesConfig(sampling="popularity", alpha=alpha))


def draw(sampler: Sampler, rows: int, size: int) -> tuple[np.ndarray, np.ndarray]:
    drawn = [sampler.draw(row_key(str(i).encode(), 7), size) for i in range(rows)]
    return np.concatenate([d[0] for d in drawn]), np.concatenate([d[1] for d in drawn])


def chi_square(observed: np.ndarray, expected: np.ndarray) -> float:
    return float(((observed - expected) ** 2 / expected).sum())


def test_uniform_by_hand() -> None:
    uniform = Distribution.from_counts(COUNTS, NegativesConfig(sampling="uniform"))

    np.testing.assert_allclose(uniform.log_probabilities, [log(1 / 4)] * 4)
    assert uniform.draw(np.array([0.0, 0.2499, 0.25, 0.99])).tolist() == [0, 0, 1, 3]


def test_popularity_by_hand() -> None:
    np.testing.assert_allclose(np.exp(distribution().log_probabilities), np.array([8, 1, 4, 1]) / 14)
    # 8^.5, 1, 2, 1: in all 6.8284
    np.testing.assert_allclose(
        np.exp(distribution(alpha=0.5).log_probabilities), np.array([8**0.5, 1, 2, 1]) / (4 + 8**0.5)
    )


def test_alpha_0_is_uniform() -> None:
    np.testing.assert_allclose(distribution(alpha=0.0).log_probabilities, [log(1 / 4)] * 4)


def test_a_huge_alpha_does_not_overflow() -> None:
    steep = distribution(np.array([10**6, 10**5]), alpha=200.0)

    assert steep.log_probabilities[0] == pytest.approx(0.0)
    assert steep.draw(np.array([0.0, 1 - 2.0**-53])).tolist() == [0, 0]


def test_the_largest_uniform_number_stays_inside() -> None:
    many = distribution(np.random.default_rng(1).integers(0, 1000, size=10_007), alpha=0.75)

    assert many.draw(np.array([1 - 2.0**-53])).item() < 10_007


def test_uniform_numbers_are_even_and_belong_to_the_key() -> None:
    numbers = np.concatenate([uniforms(row_key(bytes([i]), 7), 1000) for i in range(20)])

    assert 0 <= numbers.min() < numbers.max() < 1
    # 20 bins of 1,000 expected; 19 degrees of freedom: chi-square above 43.8 once in 1,000 times.
    assert chi_square(np.histogram(numbers, 20, (0, 1))[0], np.full(20, 1000.0)) < 43.8
    key = row_key(b"row", 7)
    assert (uniforms(key, 4) == uniforms(key, 4)).all()
    others = [uniforms(row_key(b"row", 8), 4), uniforms(row_key(b"row", 7, 1), 4), uniforms(key, 4, attempt=1)]
    assert all((uniforms(key, 4) != other).all() for other in others)


def test_no_numbers_for_no_negatives() -> None:
    indices, log_q = Sampler(distribution()).draw(row_key(b"row", 7), 0)

    assert indices.shape == log_q.shape == (0,)


def test_draws_follow_the_distribution() -> None:
    indices, log_q = draw(Sampler(distribution()), rows=2000, size=7)

    # 14,000 draws; 3 degrees of freedom: chi-square above 16.3 once in 1,000 times.
    assert chi_square(np.bincount(indices, minlength=4), np.array([8000.0, 1000, 4000, 1000])) < 16.3
    np.testing.assert_allclose(log_q, np.log(np.array([8, 1, 4, 1]) / 14)[indices])


def test_known_items_are_refused_and_the_rest_renormalised() -> None:
    # Known: item 2 with 4/14, below one half, so by rejection. Left: 8, 1, 1 of 10.
    indices, log_q = draw(Sampler(distribution(), np.array([2, 2])), rows=2000, size=5)

    counts = np.bincount(indices, minlength=4)
    assert counts[2] == 0
    # 2 degrees of freedom: 13.8 once in 1,000 times.
    assert chi_square(counts[[0, 1, 3]], np.array([8000.0, 1000, 1000])) < 13.8
    np.testing.assert_allclose(np.exp(log_q), np.array([0.8, 0.1, 0, 0.1])[indices])


def test_known_items_with_most_of_the_mass() -> None:
    # Known: item 0 with 8/14, above one half, so exactly. Left: 1, 4, 1 of 6.
    indices, log_q = draw(Sampler(distribution(), np.array([0])), rows=2000, size=3)

    counts = np.bincount(indices, minlength=4)
    assert counts[0] == 0
    assert chi_square(counts[1:], np.array([1000.0, 4000, 1000])) < 13.8
    np.testing.assert_allclose(np.exp(log_q), (np.array([0, 1, 4, 1]) / 6)[indices])


def test_all_but_one_known() -> None:
    indices, log_q = Sampler(distribution(), np.array([0, 2, 3])).draw(row_key(b"row", 7), 5)

    assert indices.tolist() == [1] * 5
    np.testing.assert_allclose(log_q, 0.0, atol=1e-12)


def test_nothing_left_to_draw() -> None:
    with pytest.raises(ValueError, match="every item of the catalogue is known"):
        Sampler(distribution(np.array([3])), np.array([0, 0]))


def test_hard_negatives_are_drawn_evenly_and_without_replacement() -> None:
    drawn = np.array([draw_hard(np.array([3, 5, 7, 9]), row_key(b"%d" % n, 7), 2) for n in range(4000)])

    assert (drawn[:, 0] != drawn[:, 1]).all()
    # Each of four is drawn in half of the rows: 2000, with a standard deviation of sqrt(4000 / 4) = 32.
    values, counts = np.unique(drawn, return_counts=True)
    assert values.tolist() == [3, 5, 7, 9]
    assert np.abs(counts - 2000).max() < 4 * 32


def test_too_few_hard_negatives_are_filled_up() -> None:
    key = row_key(b"row", 7)

    assert sorted(draw_hard(np.array([3, 5]), key, 4).tolist()) == [-1, -1, 3, 5]
    assert draw_hard(np.empty(0, np.int64), key, 2).tolist() == [-1, -1]
