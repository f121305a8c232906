"""One number a run: the tables behind the figures that compare finished runs, not curves."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import pandas as pd

from ailft_bench import statistics
from ailft_bench.figures.data import (
    MOST_THIN_LINES,
    Cell,
    Comparison,
    concatenate,
    estimate_table,
    rng_for,
    series,
)
from ailft_bench.store import RunSpec

#: The algorithm that others are compared with.
BASELINE = Cell("vmail", "default")
#: Settings whose influence is drawn where the runs of a suite differ in them alone.
SENSITIVITIES = ("alpha", "lam", "ensemble_size", "episodes")
#: Differences between evaluations are given for so many environment steps.
PER_STEPS = 1000


def threshold(comparison: Comparison) -> float:
    """Return the number of sub-tasks that the time to reach it is measured for: half of them."""
    return max(len(comparison.names("completed/")), 1) / 2


def area_table(comparison: Comparison) -> pd.DataFrame:
    """Return the time average of sub-tasks completed over the whole budget, of each finished run."""

    def area(run: pd.DataFrame) -> float:
        steps, at = np.unique(run["env_step"], return_index=True)
        whole = len(steps) > 1
        return float(statistics.area_under_curve(steps, run["value"].to_numpy()[at])) if whole else float("nan")

    return _by_run(comparison, "area_under_curve", area)


def arrival_table(comparison: Comparison) -> pd.DataFrame:
    """Return when each run first reached the threshold, and the share of runs that had by each step.

    Series ``seed``: ``value`` is the step, NaN where it was not reached by ``env_step``, the run's last
    evaluation. Series ``reached``: ``value`` is the share from ``env_step`` on, after Kaplan and Meier.
    """
    level = threshold(comparison)
    tables = []
    for cell in comparison.cells:
        runs = comparison.rows(cell, "eval", "tasks_completed").sort_values("env_step", kind="stable")
        seeds, times, ends = [], [], []
        for seed, run in runs.groupby("seed"):
            seeds.append(seed)
            times.append(statistics.steps_to_threshold(run["env_step"], run["value"], level))
            ends.append(run["env_step"].iloc[-1])
        if not seeds:
            continue
        name = f"steps_to_{level:g}_tasks"
        steps, shares = statistics.survival(times, ends)
        last = max(ends)
        at = np.concatenate([[0.0], steps, [last]]).astype(int)
        share = 1 - np.concatenate([[1.0], shares, [shares[-1] if shares.size else 1.0]])
        reached = np.where(np.isfinite(times), times, np.nan)
        tables.append(series(name, cell, "seed", ends, reached, seed=seeds))
        tables.append(series(name, cell, "reached", at, share, runs=len(seeds)))
    return concatenate(tables)


def improvement_table(comparison: Comparison, baseline: Cell = BASELINE) -> pd.DataFrame:
    """Return P(a run of this algorithm ends better than one of ``baseline``), with intervals."""
    metric = "tasks_completed"
    other = comparison.final_rows(baseline, metric)["value"].to_numpy()[:, None]
    tables = []
    for cell in comparison.cells:
        own = comparison.final_rows(cell, metric)["value"].to_numpy()[:, None]
        if cell == baseline or not own.size or not other.size:
            continue
        value = statistics.probability_of_improvement(own, other)
        low, high = statistics.improvement_interval(own, other, rng_for(comparison, "improvement", cell))
        tables.append(series("improvement", cell, "final", np.nan, [value], low=low, high=high, runs=len(own)))
    return concatenate(tables)


def profile_table(comparison: Comparison) -> pd.DataFrame:
    """Return the share of finished runs that end with more than so many sub-tasks: column ``threshold``."""
    most = max(len(comparison.names("completed/")), 1)
    levels = np.linspace(0, most, 101)
    tables = []
    for cell in comparison.cells:
        final = comparison.final_rows(cell, "tasks_completed")["value"].to_numpy()
        if final.size:
            above = (final[:, None] > levels).astype(float)
            low, high = statistics.mean_band(above, rng_for(comparison, "profile", cell))
            share = statistics.performance_profile(final[:, None], levels)
            table = series("profile", cell, "profile", np.nan, share, low=low, high=high, runs=len(final))
            tables.append(table.assign(threshold=levels))
    return pd.concat(tables, ignore_index=True) if tables else pd.DataFrame()


def stability_table(comparison: Comparison) -> pd.DataFrame:
    """Return drawdown and dispersion in time of each finished run, and the dispersion across runs."""

    def unsteadiness(run: pd.DataFrame) -> float:
        steps, at = np.unique(run["env_step"], return_index=True)
        return PER_STEPS * statistics.dispersion_across_time(steps, run["value"].to_numpy()[at])

    tables = [
        _by_run(comparison, "drawdown", lambda run: statistics.long_term_risk(run["value"])),
        _by_run(comparison, "dispersion_across_time", unsteadiness),
    ]
    for cell in comparison.cells:
        final = comparison.final_rows(cell, "tasks_completed")
        if len(final) > 1 and not comparison.is_offline(cell):
            spread = _resampled(final["value"].to_numpy(), rng_for(comparison, "dispersion_across_runs", cell))
            tables.append(series("dispersion_across_runs", cell, "final", np.nan, [spread[0]], **spread[1]))
    return concatenate(tables)


def sensitivity_table(comparison: Comparison) -> pd.DataFrame:
    """Return final sub-tasks completed by the value of each setting that some cells differ in alone.

    Columns besides those of all figures: ``setting``, ``group`` (the cells that are equal otherwise, named
    by the first of them) and ``x`` (the setting's value).
    """
    tables = []
    specs = {cell: comparison.spec_of(cell) for cell in comparison.cells}
    for setting in SENSITIVITIES:
        groups: dict[str, dict[float, Cell]] = {}
        for cell, spec in specs.items():
            value = _setting(spec, setting)
            if isinstance(value, int | float):
                # The same configuration under two names is one point.
                groups.setdefault(_all_but(spec, setting), {}).setdefault(float(value), cell)
        for members in groups.values():
            if len(members) < 2:
                continue
            name = next(iter(members.values())).algorithm
            for value, cell in sorted(members.items()):
                final = comparison.final_rows(cell, "tasks_completed").set_index("seed")["value"]
                table = estimate_table(comparison, "tasks_completed", cell, final)
                tables.append(table.assign(setting=setting, group=name, x=value))
    filled = [table for table in tables if not table.empty]
    return pd.concat(filled, ignore_index=True) if filled else pd.DataFrame()


def calibration_table(comparison: Comparison) -> pd.DataFrame:
    """Return disagreement and true one-step error, a row an evaluation.

    Of more than ``MOST_THIN_LINES`` runs of a cell the last evaluations alone: a million dots show nothing.
    """
    tables = []
    for cell in comparison.cells:
        pair = [
            comparison.rows(cell, "eval", metric).set_index(["seed", "env_step"])["value"].rename(name)
            for metric, name in (("disagreement/fresh", "disagreement"), ("model/one_step_error", "error"))
        ]
        if any(column.empty for column in pair):
            continue
        table = pd.concat([column[~column.index.duplicated(keep="last")] for column in pair], axis=1).dropna()
        table = table.reset_index()
        if table["seed"].nunique() > MOST_THIN_LINES:
            table = table.sort_values("env_step", kind="stable").drop_duplicates("seed", keep="last")
        tables.append(table.assign(algorithm=cell.algorithm, variant=cell.variant))
    return pd.concat(tables, ignore_index=True) if tables else pd.DataFrame()


def _by_run(comparison: Comparison, metric: str, measure: Callable[[pd.DataFrame], float]) -> pd.DataFrame:
    """Return ``measure`` of the curve of each finished run of algorithms that take environment steps."""
    tables: list[pd.DataFrame] = []
    for cell in comparison.cells:
        if comparison.is_offline(cell):
            continue
        rows = comparison.rows(cell, "eval", "tasks_completed").sort_values("env_step", kind="stable")
        rows = rows[rows["seed"].isin(comparison.finished(cell))]
        values = pd.Series({seed: measure(run) for seed, run in rows.groupby("seed")}, dtype=float).dropna()
        tables.append(estimate_table(comparison, metric, cell, values))
    return concatenate(tables)


def _resampled(values: np.ndarray, rng: np.random.Generator) -> tuple[float, dict[str, Any]]:
    """Return the interquartile range over runs, with its bootstrap interval as columns."""
    drawn = values[rng.integers(len(values), size=(2000, len(values)))]
    quarters = np.quantile(drawn, [0.25, 0.75], axis=1)
    low, high = np.quantile(quarters[1] - quarters[0], [0.025, 0.975])
    return statistics.interquartile_range(values), {"low": low, "high": high, "runs": len(values)}


def _setting(spec: RunSpec, name: str) -> object:
    return spec.demonstrations.get("episodes") if name == "episodes" else spec.agent.get(name)


def _all_but(spec: RunSpec, name: str) -> str:
    """Return everything that makes the science of ``spec``, but for its seed and one setting."""
    agent = {key: value for key, value in spec.agent.items() if key != name}
    demonstrations: Sequence[object] = [
        spec.demonstrations.get(key) for key in (("source", "seed") if name == "episodes" else ("checksum",))
    ]
    return repr([sorted(agent.items()), demonstrations, spec.environment, spec.env_steps, spec.evaluation])
