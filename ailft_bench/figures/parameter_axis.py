"""The axis of a tuned parameter: where its values stand, and how it is labelled."""

from __future__ import annotations

import itertools
import math
from typing import Any

import numpy as np
import pandas as pd

from ailft_bench.tuning.space import Parameter, written


class ParameterAxis:
    """Where values of a parameter stand: logarithms and choices in even steps, zero left of all logarithms.

    Values may lie outside of the parameter's range, as the suite's own can: the axis is made longer. Null is a
    choice as any other, and has no place on an axis of numbers.
    """

    def __init__(self, parameter: Parameter, values: pd.Series) -> None:
        self._parameter = parameter
        own = _with_null(values)
        if not parameter.numeric:
            self._choices = list(dict.fromkeys([*parameter.values, *own]))
            self.limits = (-0.5, len(self._choices) - 0.5)
            return
        self._lacks_null = None in own
        numbers = [value for value in (*own, *parameter.values) if value is not None]
        numbers = [value for value in numbers if value > 0 or not parameter.logarithmic]
        low, high = (self._scale(end) for end in (min(numbers), max(numbers)))
        gap = 0.04 * (high - low)
        self._zero = low - 4 * gap if parameter.logarithmic and 0 in own else None
        self.limits = ((low if self._zero is None else self._zero) - gap, high + gap)
        self.inside = np.array([value is not None and (value > 0 or not parameter.logarithmic) for value in own], bool)

    def places(self, values: pd.Series) -> np.ndarray:
        """Return the coordinates of values, NaN for null among numbers."""
        if not self._parameter.numeric:
            return np.array([self._choices.index(value) for value in _with_null(values)], float)
        return np.array([self._place(value) for value in _with_null(values)])

    def dress(self, axis: Any) -> None:
        """Label an axis of matplotlib."""
        axis.set_label_text(self._parameter.label)
        if not self._parameter.numeric:
            axis.set_ticks(range(len(self._choices)), [written(choice) for choice in self._choices])
            return
        if self._lacks_null:
            axis.set_label_text(f"{self._parameter.label} (null is not shown)")
        if self._parameter.logarithmic:
            ticks = [] if self._zero is None else [(self._zero, "0")]
            low, high = self.limits
            for decade, digit in itertools.product(range(math.floor(low), math.ceil(high) + 1), (1, 3)):
                place = decade + math.log10(digit)
                if low <= place <= high and (self._zero is None or place > self._zero + 0.05 * (high - low)):
                    ticks.append((place, f"{digit * 10.0**decade:g}"))
            axis.set_ticks(*zip(*ticks, strict=True))

    def _place(self, value: float | None) -> float:
        if value is None:
            return math.nan
        return self._zero if value == 0 and self._zero is not None else self._scale(value)

    def _scale(self, value: float) -> float:
        return math.log10(value) if self._parameter.logarithmic else float(value)


def _with_null(values: pd.Series) -> list[Any]:
    """Return values with the nulls that pandas keeps as NaN."""
    return [None if pd.isna(value) else value for value in values.tolist()]
