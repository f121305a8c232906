"""One number for the scores of many runs on many tasks.

Formulas: Agarwal et al., "Deep RL at the edge of the statistical precipice" (NeurIPS 2021).
"""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike

from ailft_bench.statistics.arrays import Floats, as_scores


def mean(scores: ArrayLike) -> float:
    """Return the mean over tasks of the mean over runs; ``scores`` is (runs, tasks)."""
    return float(as_scores(scores).mean(axis=0).mean())


def median(scores: ArrayLike) -> float:
    """Return the median over tasks of the mean over runs; ``scores`` is (runs, tasks)."""
    return float(np.median(as_scores(scores).mean(axis=0)))


def iqm(scores: ArrayLike) -> float:
    """Return the interquartile mean: of all runs x tasks scores, floor(n / 4) are dropped at each end."""
    ordered = np.sort(as_scores(scores), axis=None)
    dropped = ordered.size // 4
    return float(ordered[dropped : ordered.size - dropped].mean())


def optimality_gap(scores: ArrayLike, target: float = 1.0) -> float:
    """Return by how much scores fall short of ``target`` on average; exceeding it is worth nothing."""
    return float(target - np.minimum(as_scores(scores), target).mean())


def performance_profile(scores: ArrayLike, thresholds: ArrayLike) -> Floats:
    """Return, for each of ``thresholds`` (T,), the share of runs x tasks with a score strictly above."""
    return (as_scores(scores)[None] > np.asarray(thresholds, dtype=np.float64)[:, None, None]).mean(axis=(1, 2))
