"""What every statistic checks first: the shape of its arrays, and that nothing in them is missing."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray

Floats = NDArray[np.float64]


def as_scores(scores: ArrayLike) -> Floats:
    """Return ``scores`` as a finite float array ``(runs, tasks)``.

    Raises:
        ValueError: another shape, no entry, or a NaN or infinity; names the runs.
    """
    array = np.asarray(scores, dtype=np.float64)
    if array.ndim != 2 or array.size == 0:
        raise ValueError(f"scores must be a non-empty array (runs, tasks), got shape {array.shape}")
    bad = np.flatnonzero(~np.isfinite(array).all(axis=1))
    if bad.size:
        raise ValueError(f"scores are not finite in runs {', '.join(map(str, bad))} of {len(array)}")
    return array


def as_values(values: ArrayLike, name: str = "values") -> Floats:
    """Return ``values`` as a finite, non-empty float array ``(n,)``.

    Raises:
        ValueError: another shape, no entry, or a NaN or infinity; names the entries.
    """
    array = np.asarray(values, dtype=np.float64)
    if array.ndim != 1 or array.size == 0:
        raise ValueError(f"{name} must be a non-empty row of numbers, got shape {array.shape}")
    bad = np.flatnonzero(~np.isfinite(array))
    if bad.size:
        raise ValueError(f"{name} are not finite at {', '.join(map(str, bad))} of {array.size}")
    return array


def as_curves(curves: ArrayLike) -> Floats:
    """Return ``curves`` as a float array ``(runs, steps)``; NaN where a run has no value.

    Raises:
        ValueError: another shape.
    """
    array = np.asarray(curves, dtype=np.float64)
    if array.ndim != 2:
        raise ValueError(f"curves must be an array (runs, steps), got shape {array.shape}")
    return array


def tail(confidence: float) -> float:
    """Return the probability beyond each end of a two-sided interval.

    Raises:
        ValueError: ``confidence`` is not a share between 0 and 1.
    """
    if not 0 < confidence < 1:
        raise ValueError(f"confidence must lie between 0 and 1, got {confidence}")
    return (1 - confidence) / 2
