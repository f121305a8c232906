"""One number a run: the tables behind the figures that compare finished runs, not curves."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import pandas as pd

from ailft_bench import statistics
from ailft_bench.figures.comparison import Cell, Comparison
from ailft_bench.figures.data import MOST_THIN_LINES, Curve, concatenate, curves_of, estimate_table, rng_for, series
from ailft_bench.statistics import Floats
from ailft_bench.store import RunSpec

#: The algorithm that others are compared with, under its usual name; see ``baseline_of``.
BASELINE = Cell("vmail", "default")
#: The control, under its usual name: the adversarial term off. What others have beyond it is imitation by the
#: discriminator's reward.
CONTROL = Cell("no_ail", "default")
#: Settings whose influence is drawn where the runs of a suite differ in them alone.
SENSITIVITIES = ("alpha", "lam", "ensemble_size")
#: Differences between evaluations are given for so many environment steps.
PER_STEPS = 1000
#: Quartiles of fewer differences between evaluations are hardly those of anything.
FEWEST_DIFFERENCES = 4


def threshold(comparison: Comparison) -> float:
    """Return the number of sub-tasks that the time to reach it is measured for: half of them."""
    return max(len(comparison.names("completed/")), 1) / 2


def baseline_of(comparison: Comparison, cell: Cell = BASELINE) -> Cell:
    """Return the line that ``cell`` is compared with: VMAIL, under whatever name a suite has it, in the same variant.

    Where no line is ``BASELINE``, it is the first one of that method, or of the conservative one without its penalty.
    A variant that VMAIL is not run in is compared with its default, and so are the variants of VMAIL itself.
    """
    default = _usual_or_first(comparison, BASELINE, _is_unpenalised)
    alike = _in_variant_of(cell, default, comparison)
    return alike if _is_unpenalised(comparison.spec_of(alike)) else default


def control_of(comparison: Comparison, cell: Cell) -> Cell:
    """Return the control that ``cell`` is compared with, in the same variant where there is another one in it.

    Where no line is ``CONTROL``, it is the first one of that method.
    """
    return _in_variant_of(cell, _usual_or_first(comparison, CONTROL, _is_control), comparison)


def _in_variant_of(cell: Cell, default: Cell, comparison: Comparison) -> Cell:
    alike = Cell(default.algorithm, cell.variant)
    return alike if alike in comparison.cells and alike != cell else default


def _usual_or_first(comparison: Comparison, usual: Cell, fits: Callable[[RunSpec | None], bool]) -> Cell:
    if usual in comparison.cells:
        return usual
    defaults = (cell for cell in comparison.cells if cell.variant == "default")
    return next((cell for cell in defaults if fits(comparison.spec_of(cell))), usual)


def _is_control(spec: RunSpec | None) -> bool:
    return spec is not None and spec.method == "no_ail"


def _is_unpenalised(spec: RunSpec | None) -> bool:
    if spec is None:
        return False
    return spec.method == "vmail" or (spec.method == "conservative" and spec.agent.get("alpha") == 0)


def area_table(comparison: Comparison) -> pd.DataFrame:
    """Return the time average of sub-tasks completed over the whole budget, of each finished run."""

    def area(run: Curve) -> float:
        return float(statistics.area_under_curve(run.steps, run.values)) if len(run.steps) > 1 else float("nan")

    return _by_run(comparison, "area_under_curve", area)


def arrival_table(comparison: Comparison) -> pd.DataFrame:
    """Return when each run first reached the threshold, and the share of runs that had by each step.

    Series ``seed``: ``value`` is the step, NaN where it was not reached by ``env_step``, the run's last
    evaluation. Series ``reached``: ``value`` is the share from ``env_step`` on, after Kaplan and Meier.
    """
    level = threshold(comparison)
    tables = []
    for cell in comparison.cells:
        runs = curves_of(comparison.rows(cell, "eval", "tasks_completed"))
        if not runs:
            continue
        times = [statistics.steps_to_threshold(run.steps, run.values, level) for run in runs]
        ends = [run.steps[-1] for run in runs]
        name = f"steps_to_{level:g}_tasks"
        steps, shares = statistics.survival(times, ends)
        last = max(ends)
        at = np.concatenate([[0.0], steps, [last]]).astype(int)
        share = 1 - np.concatenate([[1.0], shares, [shares[-1] if shares.size else 1.0]])
        reached = np.where(np.isfinite(times), times, np.nan)
        tables.append(series(name, cell, "seed", ends, reached, seed=[run.seed for run in runs]))
        tables.append(series(name, cell, "reached", at, share, runs=len(runs)))
    return concatenate(tables)


def delay_table(comparison: Comparison) -> pd.DataFrame:
    """Return the steps that each finished run took to the threshold, or its own budget where it never got there.

    Finished runs of one budget are censored there alone, so their mean is Kaplan and Meier's restricted mean.
    """
    level = threshold(comparison)

    def delay(run: Curve) -> float:
        return min(statistics.steps_to_threshold(run.steps, run.values, level), float(run.steps[-1]))

    return _by_run(comparison, "delay", delay)


def training_cost_table(
    comparison: Comparison, metric: str, measure: Callable[[Floats, Floats], float], learning: bool = False
) -> pd.DataFrame:
    """Return ``measure(costs, lengths)`` of all training episodes (n,) of each finished run.

    With ``learning`` of those alone that end after the actor's first online update: until then methods that differ in
    the penalty alone are the same run. Not of actors that learn before the first environment step.
    """
    tables = []
    for cell in comparison.cells:
        since = comparison.first_actor_step(cell) if learning else 0
        if learning and not since:
            continue
        rows = (comparison.rows(cell, "train", name) for name in ("cost", "episode_length"))
        costs, lengths = (curves_of(found[found["env_step"] > since]) for found in rows)
        if [run.steps.size for run in costs] != [run.steps.size for run in lengths]:
            continue
        finished = comparison.finished(cell)
        pairs = [pair for pair in zip(costs, lengths, strict=True) if pair[0].seed in finished]
        values = pd.Series({cost.seed: measure(cost.values, length.values) for cost, length in pairs}, dtype=float)
        tables.append(estimate_table(comparison, metric, cell, values))
    return concatenate(tables)


def training_score_table(comparison: Comparison) -> pd.DataFrame:
    """Return the mean of sub-tasks completed in all training episodes of each finished run, exploration included."""
    tables = []
    for cell in comparison.cells:
        rows = comparison.rows(cell, "train", "tasks_completed")
        by_seed = rows[rows["seed"].isin(comparison.finished(cell))].groupby("seed")["value"].mean()
        tables.append(estimate_table(comparison, "training_score", cell, by_seed))
    return concatenate(tables)


def improvement_table(comparison: Comparison, opponent: Callable[[Comparison, Cell], Cell]) -> pd.DataFrame:
    """Return P(a run of this algorithm ends better than one of its ``opponent``), with intervals.

    Of seeds that are finished in both alone: each has start states of its own, some of them harder.
    """
    tables = []
    for cell in comparison.cells:
        baseline = opponent(comparison, cell)
        own, other = comparison.common_finals(cell, baseline)
        if cell == baseline or not own.size:
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

    def unsteadiness(run: Curve) -> float:
        if len(run.steps) <= FEWEST_DIFFERENCES:
            return float("nan")
        return PER_STEPS * statistics.dispersion_across_time(run.steps, run.values)

    tables = [
        _by_run(comparison, "drawdown", lambda run: statistics.long_term_risk(run.values)),
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

    Columns besides those of all figures: ``setting``, ``group`` (the cells that are equal otherwise, named by
    the method of the first and by what sets them apart from other groups of it), ``method``, ``x`` (the
    setting's value), ``paired`` (the mean over those seeds alone that all of the group have) and ``default``
    (whether this cell, and none else of its group, is a default variant).
    """
    tables = []
    specs = {cell: spec for cell in comparison.cells if (spec := comparison.spec_of(cell)) is not None}
    for setting in SENSITIVITIES:
        groups: dict[str, dict[float, Cell]] = {}
        for cell, spec in specs.items():
            value = spec.agent.get(setting)
            if isinstance(value, int | float):
                # The same configuration under two names is one point.
                groups.setdefault(repr(all_but(spec, setting)), {}).setdefault(float(value), cell)
        drawn = [members for members in groups.values() if len(members) > 1]
        heads = [specs[next(iter(members.values()))] for members in drawn]
        for members, head, name in zip(drawn, heads, _group_names(heads, setting), strict=True):
            defaults = [cell for cell in members.values() if cell.variant == "default"]
            finals = {
                value: comparison.final_rows(cell, "tasks_completed").set_index("seed")["value"]
                for value, cell in members.items()
            }
            paired = pd.DataFrame({value: found for value, found in finals.items() if len(found)}).dropna().mean()
            for value, cell in sorted(members.items()):
                table = estimate_table(comparison, "tasks_completed", cell, finals[value])
                table = table.assign(setting=setting, group=name, method=head.method, x=value, paired=paired.get(value))
                tables.append(table.assign(default=defaults == [cell]))
    filled = [table for table in tables if not table.empty]
    return pd.concat(filled, ignore_index=True) if filled else pd.DataFrame()


def calibration_table(comparison: Comparison) -> pd.DataFrame:
    """Return disagreement and true one-step error, a row an evaluation.

    Of more than ``MOST_THIN_LINES`` runs of a cell the last evaluations alone: a million dots show nothing.
    """
    tables = []
    for cell in comparison.cells:
        fresh, error = (
            comparison.rows(cell, "eval", metric).drop_duplicates(["seed", "env_step"], keep="last")
            for metric in ("disagreement/fresh", "model/one_step_error")
        )
        table = fresh.merge(error, on=["seed", "env_step"]).dropna()
        table = table.rename(columns={"value_x": "disagreement", "value_y": "error"})
        if table["seed"].nunique() > MOST_THIN_LINES:
            table = table.sort_values("env_step", kind="stable").drop_duplicates("seed", keep="last")
        tables.append(table.assign(algorithm=cell.algorithm, variant=cell.variant))
    filled = [table for table in tables if not table.empty]
    return pd.concat(filled, ignore_index=True) if filled else pd.DataFrame()


def _by_run(comparison: Comparison, metric: str, measure: Callable[[Curve], float]) -> pd.DataFrame:
    """Return ``measure`` of the curve of each finished run of algorithms that take environment steps."""
    tables: list[pd.DataFrame] = []
    for cell in comparison.cells:
        if comparison.is_offline(cell):
            continue
        finished = comparison.finished(cell)
        runs = [run for run in curves_of(comparison.rows(cell, "eval", "tasks_completed")) if run.seed in finished]
        values = pd.Series({run.seed: measure(run) for run in runs}, dtype=float).dropna()
        tables.append(estimate_table(comparison, metric, cell, values))
    return concatenate(tables)


def _resampled(values: np.ndarray, rng: np.random.Generator) -> tuple[float, dict[str, Any]]:
    """Return the interquartile range over runs, with its bootstrap interval as columns.

    With fewer than ``FEW_SEEDS`` runs there is none: of three, no resample has a larger range than they have.
    """
    if len(values) < statistics.FEW_SEEDS:
        return statistics.interquartile_range(values), {"low": np.nan, "high": np.nan, "runs": len(values)}
    drawn = values[rng.integers(len(values), size=(2000, len(values)))]
    quarters = np.quantile(drawn, [0.25, 0.75], axis=1)
    low, high = np.quantile(quarters[1] - quarters[0], [0.025, 0.975])
    return statistics.interquartile_range(values), {"low": low, "high": high, "runs": len(values)}


def all_but(spec: RunSpec, name: str) -> dict[str, object]:
    """Return everything that makes the science of ``spec``, but for its seed, its method and one setting."""
    science = {key: value for key, value in spec.agent.items() if key != name} | {"env_steps": spec.env_steps}
    science["demonstrations' checksum"] = spec.demonstrations.get("checksum")
    science |= {f"environment's {key}": value for key, value in spec.environment.items()}
    science |= {f"evaluation's {key}": value for key, value in spec.evaluation.items()}
    return dict(sorted(science.items()))


def _group_names(heads: Sequence[RunSpec], setting: str) -> list[str]:
    """Return a name for the group of each of ``heads``: no two of them have one."""
    sciences = [all_but(head, setting) for head in heads]
    names = []
    for head, science in zip(heads, sciences, strict=True):
        others = [other for rival, other in zip(heads, sciences, strict=True) if rival.method == head.method]
        apart = [key for key in science if any(other.get(key) != science[key] for other in others)]
        names.append(", ".join([head.method, *(f"{key} {_text(science[key])}" for key in apart)]))
    return names


def _text(value: object) -> str:
    return f"{value:g}" if isinstance(value, float) else str(value)
