"""Safety: costs of episodes and runs against a limit. The cost of an episode is its number of violating steps.

CVaR, the mean of the worst episodes, is ``reliability.cvar(costs, 0.1, "upper")``.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike

from ailft_bench.statistics.arrays import as_values


def cost_rate(costs: ArrayLike, steps: ArrayLike) -> float:
    """Return the violations per environment step of episodes with ``costs`` (n,) and lengths ``steps`` (n,)."""
    cost, length = as_values(costs, "costs"), as_values(steps, "steps")
    if cost.shape != length.shape or (length <= 0).any():
        raise ValueError(f"each cost needs a positive number of steps, got {cost.size} and {length.size}")
    return float(cost.sum() / length.sum())


def exceedance(costs: ArrayLike, limit: float) -> float:
    """Return the share of episodes whose cost is above ``limit``."""
    return float((as_values(costs, "costs") > limit).mean())


def cost_regret(costs: ArrayLike, limit: float) -> float:
    """Return the sum over episodes of what their cost is above ``limit``; staying below earns nothing back."""
    return float(np.maximum(as_values(costs, "costs") - limit, 0).sum())


def feasible_score(scores: ArrayLike, costs: ArrayLike, limit: float) -> tuple[float, float]:
    """Return the share of runs whose cost keeps the ``limit``, and the mean score among them (NaN: none).

    The second number flatters an algorithm with few feasible runs: never give it without the first.
    """
    score, cost = as_values(scores, "scores"), as_values(costs, "costs")
    if score.shape != cost.shape:
        raise ValueError(f"each run needs a score and a cost, got {score.size} and {cost.size}")
    kept = cost <= limit
    return float(kept.mean()), float(score[kept].mean()) if kept.any() else float("nan")
