"""How stable learning is: dispersion and risk along one run, and across runs.

Formulas: Chan et al., "Measuring the reliability of reinforcement learning algorithms" (ICLR 2020), whose
package ``rl-reliability-metrics`` gives the reference numbers of the tests. A curve is one run's values (T,)
at increasing ``steps`` (T,); differences are per step.
"""

from __future__ import annotations

from typing import Literal

import numpy as np
from numpy.typing import ArrayLike

from ailft_bench.statistics.arrays import Floats, as_scores, as_values

#: The share of the worst values that a risk looks at.
RISK_SHARE = 0.05


def cvar(values: ArrayLike, share: float = RISK_SHARE, tail: Literal["lower", "upper"] = "lower") -> float:
    """Return the conditional value at risk: the mean of the values up to the ``share`` quantile, or from it up.

    Raises:
        ValueError: no values, or a ``share`` that is not between 0 and 1.
    """
    array = as_values(values)
    if not 0 < share < 1:
        raise ValueError(f"share must lie between 0 and 1, got {share}")
    if tail == "upper":
        return -cvar(-array, share)
    return float(array[array <= np.quantile(array, share)].mean())


def interquartile_range(values: ArrayLike) -> float:
    """Return the distance between the quartiles of ``values`` (n,)."""
    low, high = np.quantile(as_values(values), [0.25, 0.75])
    return float(high - low)


def dispersion_across_time(steps: ArrayLike, values: ArrayLike, window: int | None = None) -> float:
    """Return the interquartile range of the differences: how unevenly a run learns.

    A constant rate, up or down, has 0, and so has a run that learns nothing: compare runs that end alike. With
    ``window`` it is the mean over all windows of so many differences. NaN for fewer than two differences.
    """
    differences = _differences(steps, values)
    width = differences.size if window is None else min(window, differences.size)
    if width < 2:
        return float("nan")
    windows = np.lib.stride_tricks.sliding_window_view(differences, width)
    low, high = np.quantile(windows, [0.25, 0.75], axis=1)
    return float((high - low).mean())


def short_term_risk(steps: ArrayLike, values: ArrayLike, share: float = RISK_SHARE) -> float:
    """Return the lower CVaR of the differences: the worst drops from one measurement to the next."""
    differences = _differences(steps, values)
    return cvar(differences, share) if differences.size else float("nan")


def drawdown(values: ArrayLike) -> Floats:
    """Return, at each point (T,), by how much the curve is below its best value so far."""
    curve = as_values(values)
    return np.maximum.accumulate(curve) - curve


def long_term_risk(values: ArrayLike, share: float = RISK_SHARE) -> float:
    """Return the upper CVaR of the drawdown: how much of what was reached is lost again."""
    return cvar(drawdown(values), share, "upper")


def curve_range(values: ArrayLike) -> float:
    """Return the 95 % quantile less the first value, by which the other measures can be made comparable."""
    curve = as_values(values)
    return float(np.quantile(curve, 0.95) - curve[0])


def dispersion_across_runs(curves: ArrayLike) -> Floats:
    """Return the interquartile range over runs at each step: (runs, steps) -> (steps,)."""
    low, high = np.quantile(as_scores(curves), [0.25, 0.75], axis=0)
    return high - low


def risk_across_runs(curves: ArrayLike, share: float = RISK_SHARE) -> Floats:
    """Return the lower CVaR over runs at each step: (runs, steps) -> (steps,)."""
    return np.array([cvar(column, share) for column in as_scores(curves).T])


def _differences(steps: ArrayLike, values: ArrayLike) -> Floats:
    at, curve = as_values(steps, "steps"), as_values(values)
    if at.shape != curve.shape or (np.diff(at) <= 0).any():
        raise ValueError(f"steps must increase and be as many as values, got {at.size} and {curve.size}")
    return np.diff(curve) / np.diff(at)
