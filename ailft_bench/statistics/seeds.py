"""How many seeds: what so few say about the next run, and what more of them would buy.

Tolerance intervals are free of any assumption on the distribution (Wilks 1941): of n runs, the l-th smallest
to the u-th smallest contain a share of the distribution that follows Beta(u - l, n - u + l + 1).
"""

from __future__ import annotations

from collections.abc import Callable
from math import comb
from typing import Literal

import numpy as np
from numpy.typing import ArrayLike

from ailft_bench.statistics.arrays import Floats, as_scores, as_values, tail
from ailft_bench.statistics.intervals import FEWEST_RUNS

#: Up to so many seeds a nominal 95 % bootstrap interval covers the truth less often: about .90 with five.
FEW_SEEDS = 5
ADVISED_SEEDS = 10


def advice(runs: int) -> str:
    """Return a sentence on what intervals of so many runs are worth; empty from ``ADVISED_SEEDS`` on."""
    if runs < FEWEST_RUNS:
        return f"Intervals are of {FEWEST_RUNS} seeds or more; {ADVISED_SEEDS} are advised."
    if runs <= FEW_SEEDS:
        return f"With {FEW_SEEDS} seeds or fewer intervals are optimistic; {ADVISED_SEEDS} are advised."
    return f"{ADVISED_SEEDS} seeds are advised." if runs < ADVISED_SEEDS else ""


def expected_width(
    scores: ArrayLike,
    statistic: Callable[[Floats], float],
    runs: int,
    rng: np.random.Generator,
    repetitions: int = 2000,
    confidence: float = 0.95,
) -> float:
    """Return how wide the interval of ``statistic`` would be with ``runs`` runs like those of ``scores``.

    ``runs`` runs are drawn from the (runs, tasks) seen, within each task. NaN for a single run.
    """
    array, outside = as_scores(scores), tail(confidence)
    seen, tasks = array.shape
    if seen < 2:
        return float("nan")
    drawn = rng.integers(seen, size=(repetitions, runs, tasks))
    low, high = np.quantile([statistic(sample) for sample in array[drawn, np.arange(tasks)]], [outside, 1 - outside])
    return float(high - low)


def tolerance_share(runs: int, confidence: float = 0.95) -> float:
    """Return which share of future runs lies between the worst and the best of ``runs``, at least.

    Solves 1 - n b**(n-1) + (n-1) b**n = confidence for b.
    """
    low, high = 0.0, 1.0
    for _ in range(60):
        middle = (low + high) / 2
        low, high = (middle, high) if _covering(runs, runs - 1, middle) >= confidence else (low, middle)
    return low


def tolerance_interval(values: ArrayLike, share: float = 0.5, confidence: float = 0.95) -> tuple[float, float]:
    """Return the innermost order statistics that contain ``share`` of future runs with ``confidence``.

    (nan, nan) where so few values (n,) cannot promise that; see ``runs_for_tolerance``.
    """
    ordered = np.sort(as_values(values))
    count = ordered.size
    for trimmed in reversed(range((count + 1) // 2)):
        if _covering(count, count - 1 - 2 * trimmed, share) >= confidence:
            return float(ordered[trimmed]), float(ordered[count - 1 - trimmed])
    return float("nan"), float("nan")


def runs_for_tolerance(share: float, confidence: float = 0.95, sided: Literal[1, 2] = 2) -> int:
    """Return how many runs it takes until worst to best (or one of them, ``sided`` 1) contain ``share``."""
    runs = 2
    while _covering(runs, runs + 1 - sided, share) < confidence:
        runs += 1
    return runs


def _covering(runs: int, spacings: int, share: float) -> float:
    """Return P(Beta(spacings, runs - spacings + 1) >= share) = P(Binomial(runs, share) < spacings)."""
    return sum(comb(runs, k) * share**k * (1 - share) ** (runs - k) for k in range(spacings))
