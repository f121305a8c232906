"""Sampling: subjects that are compared take turns; figures are medians over the turns."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass


@dataclass(frozen=True)
class Sample:
    """Seconds that one operation took: on the clock, and of processor time of the process."""

    wall: float
    cpu: float


def timed(operation: Callable[[], object], least_s: float = 0.05) -> Sample:
    """Do ``operation`` as often as fits ``least_s`` seconds of the clock, at least once; return the mean of one."""
    wall, cpu, count = time.perf_counter(), time.process_time(), 0
    while not count or time.perf_counter() - wall < least_s:
        operation()
        count += 1
    return Sample((time.perf_counter() - wall) / count, (time.process_time() - cpu) / count)


def interleave(subjects: Mapping[str, Callable[[], Sample]], turns: int) -> dict[str, list[Sample]]:
    """Return ``turns`` samples of each subject, taken one after the other in turn."""
    found: dict[str, list[Sample]] = {name: [] for name in subjects}
    for _ in range(turns):
        for name, sample in subjects.items():
            found[name].append(sample())
    return found


def median(samples: Sequence[Sample]) -> Sample:
    """Return the median of each of both times."""
    return Sample(
        statistics.median(sample.wall for sample in samples), statistics.median(sample.cpu for sample in samples)
    )


def waiting(samples: Sequence[Sample]) -> float:
    """Return the share of the clock's time in which one-thread work did not have its processor: 0 if it always had."""
    wall = sum(sample.wall for sample in samples)
    return max(0.0, 1 - sum(sample.cpu for sample in samples) / wall) if wall else 0.0
