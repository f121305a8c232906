"""Figures of a tuning study: sensitivity, history, slices, importance, two-parameter map, Pareto front."""

from __future__ import annotations

import itertools
import warnings
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import MaxNLocator

from ailft_bench import statistics
from ailft_bench.durable import storage_errors
from ailft_bench.figures import style
from ailft_bench.figures.parameter_axis import ParameterAxis
from ailft_bench.figures.trial_table import roles, trial_table
from ailft_bench.tuning import ranking
from ailft_bench.tuning.plan import Plan
from ailft_bench.tuning.protocol import Outcome
from ailft_bench.tuning.space import Parameter

if TYPE_CHECKING:
    import optuna

#: Importances of fewer finished trials say nothing.
FEWEST_FOR_IMPORTANCE = 8
_COLOUR = style.COLOURS["conservative"]
_LABELS = {
    "area": "tasks completed,\naverage over training",
    "final": "tasks completed\nat the end",
    "success": "success rate",
    "return": "return",
    "cost": "violating steps an episode",
}
#: By role: its name in the legend, marker, colour and size.
_MARKS: dict[str, tuple[str, str, str, float]] = {
    "default": ("the suite's own", "s", _COLOUR, 6),
    "VMAIL": ("VMAIL (alpha = 0)", "D", style.COLOURS["vmail"], 6),
    "alpha = 0": ("alpha = 0", "D", "0.3", 6),
    "chosen": ("chosen on new seeds", "*", style.COLOURS["cmil"], 10),
}
_SEEDS: dict[str, Any] = {
    "linestyle": "",
    "marker": "o",
    "markersize": 2.2,
    "markerfacecolor": "white",
    "markeredgecolor": "0.65",
    "markeredgewidth": 0.5,
    "zorder": 1,
}


def plot(plan: Plan, outcome: Outcome, study: optuna.Study, out_dir: Path) -> list[Path]:
    """Draw what the study can show, each figure with its table beside it, and return the files written.

    Raises:
        UserError: ``out_dir`` cannot be written.
    """
    drawing = _Drawing(plan, outcome, out_dir)
    if drawing.table.empty:
        return []
    with storage_errors(out_dir):
        out_dir.mkdir(parents=True, exist_ok=True)
    numeric = [parameter for parameter in plan.parameters if parameter.numeric]
    with style.appearance(for_print=True, captions=True):
        paths = [*drawing.history(), *drawing.slices()]
        if len(plan.parameters) == len(numeric) == 1:
            paths += drawing.sensitivity(numeric[0])
        if len(plan.parameters) > 1:
            paths += drawing.importance(study)
        for pair in itertools.combinations(numeric, 2):
            paths += drawing.map(*pair)
        if len(plan.objectives) == 2:
            paths += drawing.pareto()
    return paths


@dataclass(frozen=True)
class _Drawing:
    plan: Plan
    outcome: Outcome
    out_dir: Path

    @cached_property
    def table(self) -> pd.DataFrame:
        """The table behind the figures."""
        return trial_table(self.plan, self.outcome)

    @property
    def _score(self) -> str:
        return _LABELS[self.plan.objective.primary]

    def sensitivity(self, parameter: Parameter) -> list[Path]:
        """Draw the score against the only parameter, each setting once, with its interval over seeds."""
        table = self.table.drop_duplicates("variant").sort_values(parameter.name, ignore_index=True)
        caption = self._caption(
            f"Score against {parameter.label}. Dots: mean over the seeds of tuning, the same for all; circles: seeds; "
            f"whiskers: {self._interval}. The best of so many looks better than it is: what counts is what was "
            "measured on new seeds.",
            hollow=True,
        )
        figure = self._figure(caption, 2.0)
        axes = figure.subplots()
        axis = ParameterAxis(parameter, table[parameter.name])
        x, value = axis.places(table[parameter.name]), table["value"].to_numpy()
        axes.plot(x[axis.inside], value[axis.inside], color=_COLOUR, linewidth=0.8, alpha=0.5)
        for name in table.columns[table.columns.str.startswith("seed ")]:
            axes.plot(x, table[name], **_SEEDS)
        axes.vlines(x, table["low"], table["high"], color=_COLOUR, linewidth=1, zorder=2)
        self._dots(axes, x, table)
        axis.dress(axes.xaxis)
        axes.set_xlim(*axis.limits)
        axes.set_ylabel(self._score)
        return self._save(figure, table, caption, "sensitivity")

    def history(self) -> list[Path]:
        """Draw the score of each trial in the order of their numbers, and the best so far."""
        table = self.table
        caption = self._caption(
            "Trials in the order in which they were drawn. Dots: mean over the seeds of tuning; whiskers: "
            f"{self._interval}; line: best finished so far; crosses at the bottom: failed.",
            hollow=True,
        )
        figure = self._figure(caption, 1.8)
        axes = figure.subplots()
        axes.vlines(table["trial"], table["low"], table["high"], color=_COLOUR, linewidth=0.8, zorder=2)
        self._dots(axes, table["trial"].to_numpy(), table)
        best = table["value"].where((table["state"] == "done") & table["feasible"]).cummax().ffill()
        axes.step(table["trial"], best, where="post", color="0.3", linewidth=1, zorder=1)
        failed = [trial.number for trial in self.outcome.trials if trial.state == "failed"]
        axes.plot(failed, [0.03] * len(failed), "x", color="0.3", markersize=4, transform=axes.get_xaxis_transform())
        axes.xaxis.set_major_locator(MaxNLocator(integer=True))
        axes.set_xlabel("trial")
        axes.set_ylabel(self._score)
        return self._save(figure, table, caption, "history")

    def slices(self) -> list[Path]:
        """Draw the score of all trials against each parameter, whatever the others were."""
        table, parameters = self.table, self.plan.parameters
        caption = self._caption(
            "Each trial's mean over the seeds of tuning against one parameter, the others as they were; darker: later."
        )
        figure = self._figure(caption, 1.6 * len(parameters))
        for axes, parameter in zip(figure.subplots(len(parameters), squeeze=False).ravel(), parameters, strict=True):
            axis = ParameterAxis(parameter, table[parameter.name])
            x = axis.places(table[parameter.name])
            axes.scatter(x, table["value"], c=table["trial"], cmap="Blues", vmin=-len(table) / 2, s=16, linewidths=0)
            self._marks(axes, x, table)
            axis.dress(axes.xaxis)
            axes.set_xlim(*axis.limits)
            axes.set_ylabel(self._score)
        return self._save(figure, table, caption, "slice")

    def importance(self, study: optuna.Study) -> list[Path]:
        """Draw how much of the difference between good and other trials each parameter explains (PED-ANOVA)."""
        from optuna.importance import PedAnovaImportanceEvaluator, get_param_importances

        names = [parameter.name for parameter in self.plan.parameters]
        finished = [trial for trial in study.get_trials(deepcopy=False) if trial.state.name == "COMPLETE"]
        # alpha = 0 is outside of a logarithmic range: that trial is not compared.
        finished = [trial for trial in finished if trial.params]
        if len(finished) < FEWEST_FOR_IMPORTANCE:
            return []
        evaluator = PedAnovaImportanceEvaluator(target_quantile=0.25)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # the caption says how rough it is
            # The evaluator asks what makes a target low.
            found = get_param_importances(study, evaluator=evaluator, params=names, target=lambda t: -t.values[0])
        table = pd.DataFrame({"parameter": names, "importance": [found[name] for name in names]})
        caption = self._caption(
            f"Importance of parameters for being among the best quarter of {len(finished)} finished trials "
            "(PED-ANOVA). A rough guide: a parameter whose range is narrow looks unimportant."
        )
        figure = style.new_figure(self.plan.cell, caption, [], 0.5 + 0.22 * len(names))
        axes = figure.subplots()
        labels = [parameter.label for parameter in self.plan.parameters]
        axes.barh(labels[::-1], table["importance"][::-1], color=_COLOUR, height=0.6)
        axes.set_xlim(0, 1)
        axes.set_xlabel("importance (share)")
        return self._save(figure, table, caption, "importance")

    def map(self, first: Parameter, second: Parameter) -> list[Path]:
        """Draw the score as colour over two parameters."""
        table = self.table
        caption = self._caption(
            f"Each trial at its {first.label} and {second.label}; colour: mean over the seeds of tuning."
        )
        figure = self._figure(caption, 2.3)
        axes = figure.subplots()
        across, up = ParameterAxis(first, table[first.name]), ParameterAxis(second, table[second.name])
        x, y = across.places(table[first.name]), up.places(table[second.name])
        dots = axes.scatter(x, y, c=table["value"], cmap="viridis", s=34, linewidths=0)
        figure.colorbar(dots, ax=axes, label=self._score, shrink=0.9)
        for name, rows in roles(self.plan, table, self.outcome).items():
            _, marker, colour, _ = _MARKS[name]
            outline: dict[str, Any] = {"markerfacecolor": "none", "markeredgecolor": colour, "markeredgewidth": 1.2}
            axes.plot(x[rows], y[rows], marker, markersize=9, **outline)
        across.dress(axes.xaxis)
        up.dress(axes.yaxis)
        axes.set_xlim(*across.limits)
        axes.set_ylim(*up.limits)
        return self._save(figure, table, caption, f"map-{first.name}-{second.name}")

    def pareto(self) -> list[Path]:
        """Draw the score against the cost, and the settings that no other one beats in both."""
        score, cost = self.plan.objectives
        done = {trial.number: trial.scores for trial in self.outcome.trials if trial.state == "done"}
        front = ranking.pareto_front(done, self.plan.objective)
        table = self.table.assign(front=self.table["trial"].isin(front))
        caption = self._caption(
            "Score against cost; left and up is better. Dots: mean over the seeds of tuning; circles: seeds; line: "
            "settings that no other one beats in both."
        )
        figure = self._figure(caption, 2.2)
        axes = figure.subplots()
        for scores in done.values():
            axes.plot([row[cost] for row in scores.values()], [row[score] for row in scores.values()], **_SEEDS)
        best = table[table["front"]].sort_values(cost)
        axes.step(best[cost], best["value"], where="post", color=_COLOUR, linewidth=1)
        self._dots(axes, table[cost].to_numpy(), table)
        axes.set_xlabel(_LABELS[cost])
        axes.set_ylabel(_LABELS[score])
        return self._save(figure, table, caption, "pareto")

    def _dots(self, axes: Axes, x: np.ndarray, table: pd.DataFrame) -> None:
        hollow = ((table["state"] == "pruned") | ~table["feasible"]).to_numpy()
        for rows, face in ((hollow, "white"), (~hollow, _COLOUR)):
            y = table["value"].to_numpy()[rows]
            axes.plot(x[rows], y, "o", markersize=3.6, markerfacecolor=face, markeredgecolor=_COLOUR, zorder=3)
        self._marks(axes, x, table)

    def _marks(self, axes: Axes, x: np.ndarray, table: pd.DataFrame) -> None:
        edge: dict[str, Any] = {"markeredgecolor": "white", "markeredgewidth": 0.5}
        for name, rows in roles(self.plan, table, self.outcome).items():
            _, marker, colour, size = _MARKS[name]
            axes.plot(x[rows], table["value"].to_numpy()[rows], marker, color=colour, markersize=size, zorder=4, **edge)

    def _figure(self, caption: str, panel_height: float) -> Figure:
        marks = [_MARKS[name] for name in roles(self.plan, self.table, self.outcome)]
        handles = [Line2D([], [], linestyle="", marker=m, color=colour, label=label) for label, m, colour, _ in marks]
        return style.new_figure(self.plan.cell, caption, handles, panel_height)

    @property
    def _interval(self) -> str:
        few = len(self.plan.seeds["tune"]) <= statistics.FEW_SEEDS
        note = f" (optimistic with \N{LESS-THAN OR EQUAL TO}{statistics.FEW_SEEDS})" if few else ""
        return f"95 % bootstrap over seeds{note}"

    def _caption(self, text: str, hollow: bool = False) -> str:
        trials, limit = self.outcome.trials, self.plan.max_cost
        counts = {state: sum(trial.state == state for trial in trials) for state in ("done", "pruned", "failed")}
        said = ", ".join(f"{count} {state}" for state, count in counts.items() if count)
        begin = f"Study {self.plan.name}: {len(trials)} trials ({said}) x {len(self.plan.seeds['tune'])} seeds."
        reasons = ["given up after some seeds"] if counts["pruned"] else []
        reasons += [] if limit is None else [f"more than {limit:g} violating steps an episode"]
        return " ".join([begin, text, *([f"Hollow: {' or '.join(reasons)}."] if hollow and reasons else [])])

    def _save(self, figure: Figure, table: pd.DataFrame, caption: str, name: str) -> list[Path]:
        return style.save(figure, table, caption, self.out_dir / f"{self.plan.name}-{name}")
