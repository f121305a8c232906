"""Objectives: what is tuned for, measured on finished runs; one number a run, averaged over seeds."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np

from ailft_bench.errors import UserError, nearest
from ailft_bench.statistics import area_under_curve
from ailft_bench.store.metrics import Row

#: What each means; all but ``cost`` are better when higher.
MEANINGS = {
    "area": "tasks completed, averaged over training (area under the learning curve)",
    "final": "tasks completed at the final evaluation",
    "success": "share of episodes with all tasks completed, at the final evaluation",
    "return": "return at the final evaluation",
    "cost": "violating steps an episode, at the final evaluation (lower is better)",
}
_METRICS = {"area": "tasks_completed", "final": "tasks_completed"}


@dataclass(frozen=True)
class Objective:
    """One objective, or a score and ``cost``; ``max_cost`` makes settings that cost more infeasible."""

    names: tuple[str, ...]
    max_cost: float | None = None

    @property
    def primary(self) -> str:
        """The score: what one number a setting is ranked by."""
        return self.names[0]

    @property
    def directions(self) -> list[Literal["minimize", "maximize"]]:
        """Optuna's words."""
        return ["minimize" if name == "cost" else "maximize" for name in self.names]

    @property
    def measures(self) -> tuple[str, ...]:
        """What is measured of each run: the objectives, and the cost where it is limited."""
        return (*self.names, "cost") if self.max_cost is not None else self.names

    def measure(self, rows: Sequence[Row]) -> dict[str, float]:
        """Return each of ``measures`` of one run.

        Raises:
            UserError: the run has no such metric.
        """
        return {name: measure(name, rows) for name in self.measures}

    def violation(self, means: Mapping[str, float]) -> float:
        """Return by how much the mean cost exceeds what is allowed; at most 0 where it does not."""
        return 0.0 if self.max_cost is None else means["cost"] - self.max_cost


def parse(text: str, max_cost: float | None) -> Objective:
    """Read ``area``, or ``return,cost`` for two.

    Raises:
        UserError: an unknown name, or a pair that is not a score and the cost.
    """
    names = tuple(name.strip() for name in text.split(","))
    for name in names:
        if name not in MEANINGS:
            raise UserError(f"--objective {text}: unknown objective {name!r}; {nearest(name, MEANINGS)}")
    if names[0] == "cost" or len(names) > 2 or (len(names) == 2 and names[1] != "cost"):
        scores = ", ".join(name for name in MEANINGS if name != "cost")
        raise UserError(
            f"--objective {text}: allowed: one of {scores}, or one of them and cost (return,cost): "
            "the lowest cost alone is that of a robot that does not move"
        )
    if max_cost is not None and len(names) == 2:
        raise UserError(f"--max-cost {max_cost:g}: with --objective {text} the cost is an objective; give one of them")
    return Objective(names, max_cost)


def measure(name: str, rows: Sequence[Row]) -> float:
    """Return one measure of a run; of an algorithm that is evaluated once the area is that evaluation.

    Raises:
        UserError: the run has no such metric.
    """
    metric = _METRICS.get(name, name)
    curve = {
        row["env_step"]: row["metrics"][metric] for row in rows if row["phase"] == "eval" and metric in row["metrics"]
    }
    if not curve:
        raise UserError(f"{metric}: not among what the environment reports; choose another --objective")
    steps = sorted(curve)
    if name == "area" and len(steps) > 1:
        return float(area_under_curve(steps, np.array([curve[step] for step in steps])))
    return float(curve[steps[-1]])
