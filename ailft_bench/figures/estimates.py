"""Figures of one number a run: a dot and an interval for each algorithm, its seeds as small circles.

Sample efficiency, probability of improvement, performance profiles, stability and sensitivity.
"""

from __future__ import annotations

import textwrap
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from ailft_bench.figures import style, summaries
from ailft_bench.figures.captions import DASHES, estimate_caption
from ailft_bench.figures.comparison import Cell, Comparison
from ailft_bench.figures.data import finals
from ailft_bench.figures.learning import STEPS_LABEL, legend_handles, score_label

Corners = tuple[np.ndarray, np.ndarray]
"""Where a step curve changes, and to which value."""
_ROW = 0.17
"""Inches of one algorithm."""
_WIDEST = 18
"""Characters of an algorithm's label on one line."""
_FRAME = 0.5
"""Inches of a panel's title and axis."""
_SETTINGS = {
    "alpha": "alpha, the weight of disagreement (eq. 4)",
    "lam": "lambda of the returns (eq. 5)",
    "ensemble_size": "K, members of the ensemble",
}


_STEADINESS = {
    "drawdown": "Lost again: the largest drop below the best so far (of many evaluations the mean of the worst 5 %).",
    "dispersion_across_time": "Unsteadiness: interquartile range of the change from one evaluation to the next, of "
    f"{summaries.FEWEST_DIFFERENCES} or more.",
    "dispersion_across_runs": "Spread: the dot is the interquartile range over seeds.",
}


def sample_efficiency(comparison: Comparison, out_dir: Path) -> list[Path]:
    """Draw the area under the learning curve, and when runs reach half of the sub-tasks."""
    online = comparison.online()
    areas, arrivals = summaries.area_table(online), summaries.arrival_table(online)
    if arrivals.empty:
        return []
    level = summaries.threshold(comparison)
    goal = f"{level:g} sub-task{'' if level == 1 else 's'}"
    caption = estimate_caption(
        comparison,
        "Above: sub-tasks completed, averaged over the whole budget, of finished runs. Below: share of runs that "
        f"have reached {goal} at an evaluation (Kaplan-Meier; unfinished runs count until they end). "
        f"{DASHES}.",
        offline=True,
        actors=True,
    )
    above = height(online.cells)
    handles = legend_handles(online, arrivals)
    figure = style.new_figure(comparison, caption, handles, above + 1.5, label_below=STEPS_LABEL)
    top, bottom = figure.subplots(2, height_ratios=(above, 1.5))
    draw_estimates(top, areas, online)
    top.set_title("average over the budget")
    top.set_xlabel(score_label(comparison))
    reached = arrivals[arrivals["series"] == "reached"]
    _draw_steps(bottom, reached, online, "env_step")
    style.label_steps(bottom, comparison.budget)
    bottom.set_ylim(-0.04, 1.04)
    bottom.set_ylabel("share of runs")
    table = pd.concat([table for table in (areas, arrivals) if not table.empty], ignore_index=True)
    return _save(figure, table, caption, comparison, out_dir, "efficiency")


def improvement(comparison: Comparison, out_dir: Path) -> list[Path]:
    """Draw the probability that a run of each algorithm ends better than one of VMAIL."""
    table = summaries.improvement_table(comparison, summaries.baseline_of)
    if table.empty:
        return []
    cells = [cell for cell in comparison.cells if not _of(table, cell).empty]
    baselines = list(dict.fromkeys(summaries.baseline_of(comparison, cell) for cell in cells))
    names = " or ".join(baseline.label for baseline in baselines)
    alike = " (that of the same variant)" if len(baselines) > 1 else ""
    finished = ", ".join(f"{comparison.seeds(baseline)} of {baseline.label}" for baseline in baselines)
    caption = estimate_caption(
        comparison,
        f"Probability that a run ends with more sub-tasks completed than a run of {names}{alike}, ties counting one "
        f"half, of seeds that are finished in both; {finished}. Right of the line: better.",
        marks="Intervals",
    )
    figure = style.new_figure(comparison, caption, [], height(cells))
    axes = figure.subplots()
    draw_estimates(axes, table, comparison, cells)
    axes.axvline(0.5, color=style.REFERENCE_COLOUR, linewidth=0.8, zorder=1)
    axes.set_xlim(-0.03, 1.03)
    axes.set_xlabel(f"P(better than {baselines[0].algorithm})")
    return _save(figure, table, caption, comparison, out_dir, "improvement")


def profiles(comparison: Comparison, out_dir: Path) -> list[Path]:
    """Draw the share of runs that end with more than so many sub-tasks."""
    table = summaries.profile_table(comparison)
    if table.empty:
        return []
    caption = estimate_caption(
        comparison,
        f"Share of finished runs whose final evaluation is strictly above. {DASHES}.",
        marks="Bands, pointwise",
    )
    handles = legend_handles(comparison, table)
    for handle in handles:
        handle.set_linestyle("-")  # nothing is drawn as a level here
    figure = style.new_figure(comparison, caption, handles, 1.9)
    axes = figure.subplots()
    for cell, colour in style.cell_colours(comparison.cells).items():
        own = _of(table, cell)
        axes.fill_between(own["threshold"], own["low"], own["high"], step="post", color=colour, alpha=0.16, linewidth=0)
    _draw_steps(axes, table, comparison, "threshold")
    axes.set_ylim(-0.03, 1.05)
    axes.set_ylabel("share of runs")
    axes.set_xlabel("more than so many sub-tasks completed")
    return _save(figure, table, caption, comparison, out_dir, "profiles")


def stability(comparison: Comparison, out_dir: Path) -> list[Path]:
    """Draw what is lost again after it was reached, the unsteadiness of curves, and the spread of seeds."""
    online = comparison.online()
    table = summaries.stability_table(online)
    titles = {
        "drawdown": "lost again after it was reached",
        "dispersion_across_time": f"unsteadiness, in {summaries.PER_STEPS:,} steps",
        "dispersion_across_runs": "spread of the final score over seeds",
    }
    titles = {metric: title for metric, title in titles.items() if metric in set(table["metric"])}
    if not titles:
        return []
    caption = estimate_caption(
        comparison,
        "Sub-tasks completed at evaluations of finished runs; left is steadier, or has learned less. "
        + " ".join(meaning for metric, meaning in _STEADINESS.items() if metric in titles),
        offline=True,
        actors=True,
    )
    figure = style.new_figure(comparison, caption, [], len(titles) * height(online.cells))
    for axes, (metric, title) in zip(figure.subplots(len(titles), squeeze=False).ravel(), titles.items(), strict=True):
        draw_estimates(axes, table[table["metric"] == metric], online)
        axes.set_title(title)
        style.start_at_zero(axes)
    axes.set_xlabel("sub-tasks")
    return _save(figure, table, caption, comparison, out_dir, "stability")


def sensitivity(comparison: Comparison, out_dir: Path) -> list[Path]:
    """Draw the final score against each setting that cells of the suite differ in alone."""
    table = summaries.sensitivity_table(comparison)
    if table.empty:
        return []
    settings = [name for name in _SETTINGS if name in set(table["setting"])]
    square = "; filled square: the default" if table["default"].any() else ""
    caption = estimate_caption(
        comparison,
        f"Final evaluation of finished runs that differ in one setting alone{square}. "
        "Line: means over the seeds that all values have.",
    )
    figure = style.new_figure(comparison, caption, [], 1.5 * len(settings))
    for axes, setting in zip(figure.subplots(len(settings), squeeze=False).ravel(), settings, strict=True):
        panel = table[table["setting"] == setting]
        values = sorted(panel["x"].unique())
        colours = _group_colours(panel)
        for group, own in panel.groupby("group", sort=False):
            colour = colours[str(group)]
            points = own[own["series"] == "final"]
            x = [values.index(value) for value in points["x"]]
            label = textwrap.fill(str(group), 44)
            axes.plot(x, points["paired"], color=colour, linewidth=1, zorder=2, label=label)
            axes.vlines(x, points["low"], points["high"], color=colour, linewidth=1, zorder=2)
            for kept, marker in ((points["default"], "s"), (~points["default"], "o")):
                at = [place for place, keep in zip(x, kept, strict=True) if keep]
                axes.plot(at, points.loc[kept, "value"], marker, color=colour, markersize=4, zorder=3)
            dots = own[own["series"] == "seed"]
            axes.plot([values.index(value) for value in dots["x"]], dots["value"], "o", zorder=4, **_circles(colour))
        axes.set_xticks(range(len(values)), [f"{value:g}" for value in values])
        axes.set_xlim(-0.4, len(values) - 0.6)
        axes.set_xlabel(_SETTINGS[setting])
        axes.set_ylabel(score_label(comparison))
        if panel["group"].nunique() > 1:
            axes.legend()
    return _save(figure, table, caption, comparison, out_dir, "sensitivity")


def draw_estimates(
    axes: Axes, table: pd.DataFrame, comparison: Comparison, cells: Sequence[Cell] | None = None
) -> None:
    """Draw a row for each cell: dot and interval of its mean, small circles for seeds."""
    cells = comparison.cells if cells is None else cells
    colours = style.cell_colours(comparison.cells)
    for row, cell in enumerate(cells):
        own = _of(table, cell)
        seeds = own.loc[own["series"] == "seed", "value"]
        axes.plot(seeds, np.full(len(seeds), row), "o", zorder=2, **_circles(colours[cell]))
        for value, low, high in finals(own):
            axes.plot([low, high], [row, row], color=colours[cell], linewidth=2, alpha=0.55, solid_capstyle="butt")
            axes.plot([value], [row], "o", color=colours[cell], markersize=4.5, zorder=3)
    axes.set_yticks(range(len(cells)), [name(cell, comparison) for cell in cells])
    axes.set_ylim(len(cells) - 0.5, -0.5)
    axes.tick_params(axis="y", length=0)
    axes.grid(axis="x", color="0.9", linewidth=0.5)
    axes.set_axisbelow(True)


def _group_colours(panel: pd.DataFrame) -> dict[str, str]:
    """Return a colour for each group of a panel: the first of a method has the method's own, others a shade of it."""
    groups = panel.drop_duplicates("group")
    later = groups["method"].duplicated()
    cells = [
        Cell(method, group if shaded else "default")
        for method, group, shaded in zip(groups["method"], groups["group"], later, strict=True)
    ]
    return dict(zip(groups["group"], style.cell_colours(cells).values(), strict=True))


def _draw_steps(axes: Axes, table: pd.DataFrame, comparison: Comparison, x: str) -> None:
    """Draw ``value`` against column ``x`` as steps, a line for each cell."""
    colours = style.cell_colours(comparison.cells)
    curves = [_of(table, cell) for cell in colours]
    corners = [(curve[x].to_numpy(float), curve["value"].to_numpy()) for curve in curves]
    corners = [_with_corners_of_all(curve, corners) for curve in corners]
    for (at, value), pieces, colour in zip(
        corners, style.stretches(corners, stairs=True), colours.values(), strict=True
    ):
        for points, dashes in pieces:
            line: dict[str, Any] = {"color": colour, "linewidth": 1.5}
            axes.step(at[points], value[points], where="post", linestyle=dashes, dash_capstyle="butt", **line)
            if dashes != "-":  # the step at its end is the curve's own: there it leaves those that it ran along
                end = points.stop - 1
                axes.plot([at[end], at[end]], value[end - 1 : end + 1], **line)


def _with_corners_of_all(curve: Corners, curves: Sequence[Corners]) -> Corners:
    """Return a step curve with a point wherever another one has one too, as far as it goes."""
    at, value = curve
    if not at.size:
        return curve
    everywhere = np.unique(np.concatenate([other for other, _ in curves]))
    within = everywhere[(everywhere >= at[0]) & (everywhere <= at[-1])]
    return within, value[np.searchsorted(at, within, side="right") - 1]


def name(cell: Cell, comparison: Comparison) -> str:
    """Return a label with the seeds, on two lines where it would leave no room for the panel."""
    label = cell.label if len(cell.label) <= _WIDEST else cell.label.replace("+", "\n+", 1)
    return f"{label} ({comparison.seeds(cell).split()[0]})"


def _circles(colour: str) -> dict[str, Any]:
    return {"markersize": 2.6, "markerfacecolor": "white", "markeredgecolor": colour, "markeredgewidth": 0.7}


def height(cells: Sequence[Cell]) -> float:
    """Return the inches of a panel with a row for each cell."""
    return _FRAME + _ROW * sum(2 if len(cell.label) > _WIDEST else 1 for cell in cells)


def _of(table: pd.DataFrame, cell: Cell) -> pd.DataFrame:
    return table[(table["algorithm"] == cell.algorithm) & (table["variant"] == cell.variant)]


def _save(
    figure: Figure, table: pd.DataFrame, caption: str, comparison: Comparison, out_dir: Path, name: str
) -> list[Path]:
    return style.save(figure, table, caption, out_dir / f"{comparison.suite}-{comparison.scale}-{name}")
