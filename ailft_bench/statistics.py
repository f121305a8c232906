"""Statistics over training runs: aggregates, intervals, comparisons and learning curves.

The unit of replication is the training run (a seed): average a run's evaluation episodes first. Scores are
arrays ``(runs, tasks)``, runs first; curves are ``(runs, steps)``. Randomness is a generator that the caller
passes in; nothing here reads files. Formulas follow Agarwal et al., "Deep RL at the edge of the statistical
precipice" (NeurIPS 2021), whose package ``rliable`` gives the reference numbers of the tests.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import ArrayLike, NDArray

Floats = NDArray[np.float64]


def _scores(scores: ArrayLike) -> Floats:
    """Return ``scores`` as a finite float array ``(runs, tasks)`` or raise ValueError."""
    array = np.asarray(scores, dtype=np.float64)
    if array.ndim != 2 or array.size == 0:
        raise ValueError(f"scores must be a non-empty array (runs, tasks), got shape {array.shape}")
    bad = np.flatnonzero(~np.isfinite(array).all(axis=1))
    if bad.size:
        raise ValueError(f"scores are not finite in runs {', '.join(map(str, bad))} of {len(array)}")
    return array


def mean(scores: ArrayLike) -> float:
    """Return the mean over tasks of the mean over runs; ``scores`` is (runs, tasks)."""
    return float(_scores(scores).mean(axis=0).mean())


def median(scores: ArrayLike) -> float:
    """Return the median over tasks of the mean over runs; ``scores`` is (runs, tasks)."""
    return float(np.median(_scores(scores).mean(axis=0)))


def iqm(scores: ArrayLike) -> float:
    """Return the interquartile mean: of all runs x tasks scores, floor(n / 4) are dropped at each end."""
    ordered = np.sort(_scores(scores), axis=None)
    dropped = ordered.size // 4
    return float(ordered[dropped : ordered.size - dropped].mean())


def optimality_gap(scores: ArrayLike, target: float = 1.0) -> float:
    """Return by how much scores fall short of ``target`` on average; exceeding it is worth nothing."""
    return float(target - np.minimum(_scores(scores), target).mean())


def bootstrap_interval(
    scores: ArrayLike,
    statistic: Callable[[Floats], float],
    rng: np.random.Generator,
    repetitions: int = 2000,
    confidence: float = 0.95,
) -> tuple[float, float]:
    """Return the percentile interval of ``statistic`` under the stratified bootstrap.

    Runs are resampled with replacement within each task, independently between tasks; ``statistic`` maps an
    array (runs, tasks) to a number. A single run says nothing about the spread: the interval is (nan, nan).
    """
    array = _scores(scores)
    tail = _tail(confidence)
    runs, tasks = array.shape
    if runs == 1:
        return float("nan"), float("nan")
    drawn = rng.integers(runs, size=(repetitions, runs, tasks))
    values = [statistic(sample) for sample in array[drawn, np.arange(tasks)]]
    low, high = np.quantile(values, [tail, 1 - tail])
    return float(low), float(high)


def probability_of_improvement(x: ArrayLike, y: ArrayLike) -> float:
    """Return P(x > y) for a random run of each on the same task, averaged over tasks; a tie counts one half.

    ``x`` is (runs of x, tasks) and ``y`` (runs of y, tasks): the numbers of runs may differ, tasks may not.
    """
    x, y = _scores(x), _scores(y)
    if x.shape[1] != y.shape[1]:
        raise ValueError(f"x and y must have the same tasks, got {x.shape[1]} and {y.shape[1]}")
    difference = np.sign(x[:, None] - y[None, :])
    return float((1 + difference.mean()) / 2)


def performance_profile(scores: ArrayLike, thresholds: ArrayLike) -> Floats:
    """Return, for each of ``thresholds`` (T,), the share of runs x tasks with a score strictly above."""
    return (_scores(scores)[None] > np.asarray(thresholds, dtype=np.float64)[:, None, None]).mean(axis=(1, 2))


def step_curve(steps: ArrayLike, values: ArrayLike, grid: ArrayLike) -> Floats:
    """Return a run's ``values`` at ``steps`` carried forward onto ``grid``: (measurements,) x 2 -> (grid,).

    NaN before the first measurement and after the last: a run says nothing about steps it never reached.
    Steps may come in any order; of several values at one step the last counts.
    """
    at, value = np.asarray(steps, dtype=np.float64), np.asarray(values, dtype=np.float64)
    points = np.asarray(grid, dtype=np.float64)
    if at.ndim != 1 or at.shape != value.shape:
        raise ValueError(f"steps and values must be one row of equal length, got {at.shape} and {value.shape}")
    if not at.size:
        return np.full(points.shape, np.nan)
    order = np.argsort(at, kind="stable")
    at, value = at[order], value[order]
    held = np.searchsorted(at, points, side="right") - 1
    return np.where((held >= 0) & (points <= at[-1]), value[held], np.nan)


def mean_band(
    curves: ArrayLike, rng: np.random.Generator, repetitions: int = 2000, confidence: float = 0.95
) -> tuple[Floats, Floats]:
    """Return the pointwise bootstrap interval (low, high), (steps,) each, of the mean of (runs, steps).

    At each step the runs that have a value there (not NaN) are resampled. Steps with the same runs share
    their resamples, so that the band is as smooth as the curves; it holds at each step, not for all jointly.
    NaN where fewer than two runs have a value.
    """
    array = np.asarray(curves, dtype=np.float64)
    if array.ndim != 2:
        raise ValueError(f"curves must be an array (runs, steps), got shape {array.shape}")
    tail = _tail(confidence)
    low, high = np.full((2, array.shape[1]), np.nan)
    present, group = np.unique(~np.isnan(array), axis=1, return_inverse=True)
    for index, runs in enumerate(present.T):
        count, here = int(runs.sum()), group == index
        if count < 2:
            continue
        weights = rng.multinomial(count, np.full(count, 1 / count), size=repetitions) / count
        low[here], high[here] = np.quantile(weights @ array[runs][:, here], [tail, 1 - tail], axis=0)
    return low, high


def area_under_curve(steps: ArrayLike, values: ArrayLike) -> Floats:
    """Return the time average of curves: trapezoids over ``steps`` (T,), divided by the range of steps.

    ``values`` is (..., T) and the result (...); NaN for a curve with a NaN: its area is not known.
    """
    at, curves = np.asarray(steps, dtype=np.float64), np.asarray(values, dtype=np.float64)
    if at.ndim != 1 or at.size < 2 or (np.diff(at) <= 0).any():
        raise ValueError("steps must be at least two increasing numbers")
    if curves.shape[-1:] != at.shape:
        raise ValueError(f"values must end with {at.size} steps, got shape {curves.shape}")
    return np.asarray(np.trapezoid(curves, at, axis=-1) / (at[-1] - at[0]))


def steps_to_threshold(steps: ArrayLike, values: ArrayLike, threshold: float, consecutive: int = 1) -> float:
    """Return the first step from which ``consecutive`` values in a row are at least ``threshold``.

    ``steps`` (T,) increases and ``values`` is (T,). Infinity where that never happens: the time is censored
    at the run's last step, so report the fraction of runs that got there, and never average over the others.
    """
    if consecutive < 1:
        raise ValueError(f"consecutive must be at least 1, got {consecutive}")
    at, value = np.asarray(steps, dtype=np.float64), np.asarray(values, dtype=np.float64)
    if at.ndim != 1 or at.shape != value.shape:
        raise ValueError(f"steps and values must be one row of equal length, got {at.shape} and {value.shape}")
    if at.size < consecutive:
        return float("inf")
    reached = np.lib.stride_tricks.sliding_window_view(value >= threshold, consecutive).all(axis=1)
    return float(at[reached.argmax()]) if reached.any() else float("inf")


def _tail(confidence: float) -> float:
    if not 0 < confidence < 1:
        raise ValueError(f"confidence must lie between 0 and 1, got {confidence}")
    return (1 - confidence) / 2
