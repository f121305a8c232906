"""Intervals: stratified bootstrap over runs, pointwise bands of curves, and shares of episodes."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from statistics import NormalDist

import numpy as np
from numpy.typing import ArrayLike

from ailft_bench.statistics.arrays import Floats, as_curves, as_scores, as_values, tail

#: Fewer runs have no interval: what is resampled of two is one of three numbers, and covers the truth half of the time.
FEWEST_RUNS = 3


def bootstrap_interval(
    scores: ArrayLike,
    statistic: Callable[[Floats], float],
    rng: np.random.Generator,
    repetitions: int = 2000,
    confidence: float = 0.95,
) -> tuple[float, float]:
    """Return the percentile interval of ``statistic`` under the stratified bootstrap.

    Runs are resampled with replacement within each task, independently between tasks; ``statistic`` maps an
    array (runs, tasks) to a number. Fewer than ``FEWEST_RUNS`` say too little: the interval is (nan, nan).
    """
    array = as_scores(scores)
    runs, tasks = array.shape
    drawn = rng.integers(runs, size=(repetitions, runs, tasks))
    values = [statistic(sample) for sample in array[drawn, np.arange(tasks)]]
    return quantiles(values, confidence, enough=runs >= FEWEST_RUNS)


def ragged_bootstrap_interval(
    scores_by_task: Sequence[ArrayLike],
    statistic: Callable[[list[Floats]], float],
    rng: np.random.Generator,
    repetitions: int = 2000,
    confidence: float = 0.95,
) -> tuple[float, float]:
    """Return the stratified bootstrap's interval where tasks have unequal numbers of runs.

    ``scores_by_task`` holds a row of scores for each task; no row is cut to the length of another.
    ``statistic`` maps such a list to a number. (nan, nan) where some task has fewer than ``FEWEST_RUNS``.
    """
    rows = [as_values(row, "scores") for row in scores_by_task]
    values = [statistic([rng.choice(row, row.size) for row in rows]) for _ in range(repetitions)]
    return quantiles(values, confidence, enough=min(row.size for row in rows) >= FEWEST_RUNS)


def mean_band(
    curves: ArrayLike, rng: np.random.Generator, repetitions: int = 2000, confidence: float = 0.95
) -> tuple[Floats, Floats]:
    """Return the pointwise bootstrap interval (low, high), (steps,) each, of the mean of (runs, steps).

    At each step the runs that have a value there (not NaN) are resampled. Steps with the same runs share
    their resamples, so that the band is as smooth as the curves; it holds at each step, not for all jointly.
    NaN where fewer than ``FEWEST_RUNS`` have a value.
    """
    array, outside = as_curves(curves), tail(confidence)
    low, high = np.full((2, array.shape[1]), np.nan)
    present, group = np.unique(~np.isnan(array), axis=1, return_inverse=True)
    for index, runs in enumerate(present.T):
        count, here = int(runs.sum()), group == index
        if count < FEWEST_RUNS:
            continue
        weights = _resamples(count, repetitions, rng)
        # Steps first: a quantile over neighbours in memory takes a third of the time.
        means = array[runs][:, here].T @ weights.T
        low[here], high[here] = np.quantile(means, [outside, 1 - outside], axis=1, overwrite_input=True)
    return low, high


def _resamples(runs: int, repetitions: int, rng: np.random.Generator) -> Floats:
    """Return the weights (repetitions, runs) of runs that are drawn with replacement."""
    drawn = rng.integers(runs, size=(repetitions, runs)) + runs * np.arange(repetitions)[:, None]
    return np.bincount(drawn.ravel(), minlength=repetitions * runs).reshape(repetitions, runs) / runs


def proportion_interval(successes: int, trials: int, confidence: float = 0.95) -> tuple[float, float]:
    """Return Wilson's interval of a share of independent trials, as of the episodes of one fixed policy.

    Episodes of several training runs are not independent: resample runs for those.

    Raises:
        ValueError: no trial, or more successes than trials.
    """
    if not 0 <= successes <= trials or trials == 0:
        raise ValueError(f"expected 0 to {trials} successes of at least 1 trial, got {successes} of {trials}")
    z = NormalDist().inv_cdf(1 - tail(confidence))
    share, weight = successes / trials, z**2 / trials
    centre, half = share + weight / 2, z * np.sqrt(share * (1 - share) / trials + weight / trials / 4)
    low, high = (centre - half) / (1 + weight), (centre + half) / (1 + weight)
    # Exact at the ends, where rounding would leave 1e-17.
    return (0.0 if successes == 0 else float(low)), (1.0 if successes == trials else float(high))


def quantiles(values: ArrayLike, confidence: float, enough: bool = True) -> tuple[float, float]:
    """Return the percentile interval of resampled ``values``; (nan, nan) where runs were not ``enough``."""
    outside = tail(confidence)
    if not enough:
        return float("nan"), float("nan")
    low, high = np.quantile(np.asarray(values), [outside, 1 - outside])
    return float(low), float(high)
