"""Comparing two algorithms: probability of improvement, paired differences, and corrections for many tests.

Every function of two algorithms is about the first against the second: swapping them turns the sign.
"""

from __future__ import annotations

from collections.abc import Callable
from itertools import product

import numpy as np
from numpy.typing import ArrayLike

from ailft_bench.statistics.aggregates import mean
from ailft_bench.statistics.arrays import Floats, as_scores, as_values
from ailft_bench.statistics.intervals import FEWEST_RUNS, quantiles

#: Up to so many pairs every assignment of signs is tried; beyond, random ones.
MOST_EXACT_PAIRS = 14


def probability_of_improvement(x: ArrayLike, y: ArrayLike) -> float:
    """Return P(x > y) for a random run of each on the same task, averaged over tasks; a tie counts one half.

    ``x`` is (runs of x, tasks) and ``y`` (runs of y, tasks): the numbers of runs may differ, tasks may not.
    """
    return float(_wins(as_scores(x), as_scores(y)).mean())


def improvement_interval(
    x: ArrayLike, y: ArrayLike, rng: np.random.Generator, repetitions: int = 2000, confidence: float = 0.95
) -> tuple[float, float]:
    """Return the bootstrap interval of ``probability_of_improvement(x, y)``.

    Runs of ``x`` and of ``y`` are resampled independently of each other, within each task. (nan, nan) where
    one of the two has fewer than ``FEWEST_RUNS``.
    """
    x, y = as_scores(x), as_scores(y)
    wins = _wins(x, y)

    def weights(runs: int) -> Floats:
        return rng.multinomial(runs, np.full(runs, 1 / runs), size=(repetitions, wins.shape[2])) / runs

    values = np.einsum("rmi,ijm,rmj->r", weights(len(x)), wins, weights(len(y)), optimize=True) / wins.shape[2]
    return quantiles(values, confidence, enough=min(len(x), len(y)) >= FEWEST_RUNS)


def paired_interval(
    x: ArrayLike,
    y: ArrayLike,
    rng: np.random.Generator,
    statistic: Callable[[Floats], float] = mean,
    repetitions: int = 2000,
    confidence: float = 0.95,
) -> tuple[float, float]:
    """Return the bootstrap interval of ``statistic(x) - statistic(y)`` for runs that share their seeds.

    Row i of ``x`` and of ``y`` (runs, tasks) are the same seed: both are resampled with the same indices. (nan, nan)
    of fewer than ``FEWEST_RUNS`` pairs.

    Raises:
        ValueError: unequal shapes.
    """
    x, y = _pairs(x, y)
    runs, tasks = x.shape
    columns = np.arange(tasks)
    drawn = rng.integers(runs, size=(repetitions, runs, tasks))
    values = [statistic(x[index, columns]) - statistic(y[index, columns]) for index in drawn]
    return quantiles(values, confidence, enough=runs >= FEWEST_RUNS)


def sign_flip_test(x: ArrayLike, y: ArrayLike, rng: np.random.Generator, repetitions: int = 20_000) -> float:
    """Return the two-sided p-value of the mean paired difference x - y under random signs.

    ``x`` and ``y`` are (runs, tasks), row i of both the same seed; a seed keeps its sign over tasks. Exact up
    to ``MOST_EXACT_PAIRS`` seeds, so that p is at least 2 / 2**n there; ``rng`` draws signs beyond that.

    Raises:
        ValueError: unequal shapes.
    """
    x, y = _pairs(x, y)
    differences = (x - y).mean(axis=1)
    count = differences.size
    if count <= MOST_EXACT_PAIRS:
        signs = np.array(list(product((1, -1), repeat=count)))
    else:
        signs = np.vstack([np.ones(count), rng.choice((1, -1), size=(repetitions, count))])
    # Rounding must not make an equal sum a smaller one, of which it may be all where the sum is zero.
    observed = abs(differences.sum()) - 1e-12 * np.abs(differences).sum()
    return float((np.abs(signs @ differences) >= observed).mean())


def holm(p_values: ArrayLike) -> Floats:
    """Return Holm's adjusted p-values (n,): reject where below the level, and the family-wise error holds."""
    p = _p_values(p_values)
    order = p.argsort()
    factors = np.arange(p.size, 0, -1)
    adjusted = np.empty_like(p)
    adjusted[order] = np.minimum(np.maximum.accumulate(p[order] * factors), 1)
    return adjusted


def benjamini_hochberg(p_values: ArrayLike) -> Floats:
    """Return Benjamini and Hochberg's adjusted p-values (n,): for the false discovery rate of many cells."""
    p = _p_values(p_values)
    order = p.argsort()[::-1]
    factors = p.size / np.arange(p.size, 0, -1)
    adjusted = np.empty_like(p)
    adjusted[order] = np.minimum(np.minimum.accumulate(p[order] * factors), 1)
    return adjusted


def _wins(x: Floats, y: Floats) -> Floats:
    """Return (runs of x, runs of y, tasks): 1 where x is better, one half where equal."""
    if x.shape[1] != y.shape[1]:
        raise ValueError(f"x and y must have the same tasks, got {x.shape[1]} and {y.shape[1]}")
    return (1 + np.sign(x[:, None] - y[None, :])) / 2


def _pairs(x: ArrayLike, y: ArrayLike) -> tuple[Floats, Floats]:
    first, second = as_scores(x), as_scores(y)
    if first.shape != second.shape:
        raise ValueError(f"pairs need the same seeds and tasks, got shapes {first.shape} and {second.shape}")
    return first, second


def _p_values(p_values: ArrayLike) -> Floats:
    p = as_values(p_values, "p-values")
    if (p < 0).any() or (p > 1).any():
        raise ValueError(f"p-values must lie between 0 and 1, got {p.min()} to {p.max()}")
    return p
