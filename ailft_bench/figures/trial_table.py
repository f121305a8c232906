"""The trials of a study as the table behind its figures: a row each, with the mean and interval over its seeds."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd

from ailft_bench import statistics
from ailft_bench.seeding import branch
from ailft_bench.tuning.plan import Plan
from ailft_bench.tuning.protocol import Outcome
from ailft_bench.tuning.trials import Trial


def measured(outcome: Outcome) -> list[Trial]:
    """Return the trials with a number: finished, or given up after some seeds."""
    return [trial for trial in outcome.trials if trial.state in ("done", "pruned")]


def trial_table(plan: Plan, outcome: Outcome) -> pd.DataFrame:
    """Return trial, variant, state, settings, value (the score) with low and high, all measures, feasible, seeds.

    ``seed <n>`` is the score of one run, NaN where the trial was given up before.
    """
    objective = plan.objective
    rows = []
    for trial in measured(outcome):
        values = np.array([[row[objective.primary]] for row in trial.scores.values()])
        rng = np.random.default_rng(branch(0, "tuning", plan.name, "figures", str(trial.number)))
        low, high = statistics.bootstrap_interval(values, statistics.mean, rng)
        means = {name: trial.mean(name) for name in objective.measures}
        row: dict[str, Any] = {
            "trial": trial.number,
            "variant": trial.variant,
            "state": trial.state,
            **trial.settings,
            "value": values.mean(),
            "low": low,
            "high": high,
            **means,
            "feasible": objective.violation(means) <= 0,
            "seeds": len(values),
        }
        rows.append(row | {f"seed {seed}": measures[objective.primary] for seed, measures in trial.scores.items()})
    return pd.DataFrame(rows)


def roles(plan: Plan, table: pd.DataFrame, outcome: Outcome) -> dict[str, np.ndarray]:
    """Return the rows of the default, of ``Plan.alpha_zero`` and of what was chosen, where there are such."""
    found = {
        "default": table["variant"] == "default",
        plan.alpha_zero: table["alpha"] == 0 if "alpha" in table else table["trial"] < 0,
        "chosen": table["trial"].isin(outcome.chosen),
    }
    return {name: np.flatnonzero(rows) for name, rows in found.items() if rows.any()}
