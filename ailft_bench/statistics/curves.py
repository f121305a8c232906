"""Learning curves: onto a common grid, their area, and when they reach a threshold."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike

from ailft_bench.statistics.arrays import Floats, as_values


def step_curve(steps: ArrayLike, values: ArrayLike, grid: ArrayLike) -> Floats:
    """Return a run's ``values`` at ``steps`` carried forward onto ``grid``: (measurements,) x 2 -> (grid,).

    NaN before the first measurement and after the last: a run says nothing about steps it never reached.
    Steps may come in any order; of several values at one step the last counts.
    """
    at, value = _curve(steps, values)
    points = np.asarray(grid, dtype=np.float64)
    if not at.size:
        return np.full(points.shape, np.nan)
    order = np.argsort(at, kind="stable")
    at, value = at[order], value[order]
    held = np.searchsorted(at, points, side="right") - 1
    return np.where((held >= 0) & (points <= at[-1]), value[held], np.nan)


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
    at, value = _curve(steps, values)
    if at.size < consecutive:
        return float("inf")
    reached = np.lib.stride_tricks.sliding_window_view(value >= threshold, consecutive).all(axis=1)
    return float(at[reached.argmax()]) if reached.any() else float("inf")


def survival(times: ArrayLike, ends: ArrayLike) -> tuple[Floats, Floats]:
    """Return Kaplan and Meier's estimate of the share of runs that have not reached a threshold yet.

    Args:
        times: (runs,) of ``steps_to_threshold``; infinite where it was not reached.
        ends: (runs,) the last step of each run, where an unreached one is censored.

    Returns:
        Steps at which runs reached it, increasing, and the share from then on, (events,) each.
    """
    reached, last = np.asarray(times, dtype=np.float64), as_values(ends, "ends")
    if reached.shape != last.shape or np.isnan(reached).any():
        raise ValueError(f"times must be {last.size} numbers or infinities, got {reached}")
    events = np.unique(reached[np.isfinite(reached)])
    share, shares = 1.0, []
    for step in events:
        at_risk = (np.minimum(reached, last) >= step).sum()
        share *= 1 - (reached == step).sum() / at_risk
        shares.append(share)
    return events, np.array(shares)


def median_time(times: ArrayLike, ends: ArrayLike) -> float:
    """Return the step by which half of the runs have reached it, after ``survival``; infinite if never."""
    events, shares = survival(times, ends)
    below = shares <= 0.5 + 1e-12
    return float(events[below.argmax()]) if below.any() else float("inf")


def restricted_mean_time(times: ArrayLike, ends: ArrayLike, horizon: float) -> float:
    """Return the mean time to reach it, counted up to ``horizon``: the area under ``survival``.

    Unlike a mean over the runs that got there it has no bias towards algorithms that rarely do.
    """
    events, shares = survival(times, ends)
    inside = events < horizon
    edges = np.concatenate([[0.0], events[inside], [horizon]])
    return float((np.diff(edges) * np.concatenate([[1.0], shares[inside]])).sum())


def _curve(steps: ArrayLike, values: ArrayLike) -> tuple[Floats, Floats]:
    at, value = np.asarray(steps, dtype=np.float64), np.asarray(values, dtype=np.float64)
    if at.ndim != 1 or at.shape != value.shape:
        raise ValueError(f"steps and values must be one row of equal length, got {at.shape} and {value.shape}")
    return at, value
