"""Learning curves: sub-tasks completed against environment steps, in total and one by one."""

from __future__ import annotations

import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from ailft_bench.figures import style
from ailft_bench.figures.captions import curve_caption
from ailft_bench.figures.comparison import Cell, Comparison
from ailft_bench.figures.data import finals, learning_table

STEPS_LABEL = "environment steps of the agent\n(frames of demonstrations not counted)"


def learning_curves(comparison: Comparison, out_dir: Path, references: Mapping[str, Mapping[str, float]]) -> list[Path]:
    """Draw the number of sub-tasks completed at evaluation; return the files written."""
    table = learning_table(comparison, ["tasks_completed"], references)
    caption = curve_caption(comparison)
    figure = style.new_figure(comparison, caption, legend_handles(comparison, table), 2.2)
    axes = figure.subplots()
    draw_curves(axes, table, comparison)
    style.label_steps(axes, comparison.budget)
    most = max(len(comparison.names("completed/")), 1)
    axes.set_ylim(-0.03 * most, 1.05 * most)
    axes.locator_params(axis="y", nbins=5, integer=most > 1)
    axes.set_ylabel(score_label(comparison))
    axes.set_xlabel(STEPS_LABEL)
    style.label_references(axes, reference_values(table))
    return style.save(figure, table, caption, out_dir / f"{comparison.suite}-{comparison.scale}-learning")


def score_label(comparison: Comparison) -> str:
    """Return the name of an axis of sub-tasks completed, with how many there are."""
    most = len(comparison.names("completed/"))
    return "sub-tasks completed" + (f" (of {most})" if most > 1 else "")


def success_curves(comparison: Comparison, out_dir: Path, references: Mapping[str, Mapping[str, float]]) -> list[Path]:
    """Draw the share of evaluation episodes with all sub-tasks completed; return the files written."""
    table = learning_table(comparison, ["success"], references)
    caption = curve_caption(comparison)
    figure = style.new_figure(comparison, caption, legend_handles(comparison, table), 2.0)
    axes = figure.subplots()
    draw_curves(axes, table, comparison)
    style.label_steps(axes, comparison.budget)
    axes.set_ylim(-0.03, 1.05)
    axes.set_ylabel("success rate (all sub-tasks)")
    axes.set_xlabel(STEPS_LABEL)
    style.label_references(axes, reference_values(table))
    return style.save(figure, table, caption, out_dir / f"{comparison.suite}-{comparison.scale}-success")


def task_curves(comparison: Comparison, out_dir: Path, references: Mapping[str, Mapping[str, float]]) -> list[Path]:
    """Draw the completion rate of each sub-task in a panel of its own; return the files written."""
    tasks = comparison.names("completed/")
    table = learning_table(comparison, [f"completed/{task}" for task in tasks], references)
    caption = curve_caption(comparison)
    names = [name for name in style.REFERENCE_DASHES if name in set(table["algorithm"])]
    handles = legend_handles(comparison, table) + [
        Line2D(
            [],
            [],
            color=style.REFERENCE_COLOUR,
            linestyle=style.REFERENCE_DASHES[name],
            linewidth=0.8,
            label=name,
        )
        for name in names
    ]
    figure = style.new_figure(comparison, caption, handles, 1.25 * math.ceil(len(tasks) / 2), label_below=STEPS_LABEL)
    grid = draw_panels(figure, {f"completed/{task}": task for task in tasks}, table, comparison, sharey=True)
    grid[0].set_ylim(-0.04, 1.06)
    grid[0].set_yticks([0, 0.5, 1])
    for axes in grid[::2]:
        axes.set_ylabel("completion rate")
    return style.save(figure, table, caption, out_dir / f"{comparison.suite}-{comparison.scale}-tasks")


def draw_panels(
    figure: Figure, titles: Mapping[str, str], table: pd.DataFrame, comparison: Comparison, sharey: bool
) -> list[Axes]:
    """Draw the curves of several metrics, a panel each under its title, in up to two columns."""
    columns = min(2, len(titles))
    rows = math.ceil(len(titles) / columns)
    grid = figure.subplots(rows, columns, sharex=True, sharey=sharey, squeeze=False).ravel()
    for axes, (metric, title) in zip(grid, titles.items(), strict=False):
        panel = table[table["metric"] == metric]
        draw_curves(axes, panel, comparison)
        for name, value in reference_values(panel).items():
            style.draw_reference(axes, name, value)
        axes.set_title(title)
    for axes in grid[len(titles) :]:
        axes.set_axis_off()
    style.label_steps(grid[0], comparison.budget)
    return list(grid[: len(titles)])


def draw_curves(axes: Axes, table: pd.DataFrame, comparison: Comparison) -> None:
    """Draw thin runs, thick means (dotted where a run has ended) and bands of one metric."""
    colours = style.cell_colours(comparison.cells)
    lines = {
        cell: table[(table["algorithm"] == cell.algorithm) & (table["variant"] == cell.variant)] for cell in colours
    }
    means = [own[own["series"] == "mean"] for own in lines.values()]
    drawn = style.stretches([(mean["env_step"].to_numpy(float), mean["value"].to_numpy()) for mean in means])
    for (cell, own), average, pieces in zip(lines.items(), means, drawn, strict=True):
        colour = colours[cell]
        if comparison.is_offline(cell):
            for value, low, high in finals(own):
                axes.axhspan(low, high, color=colour, alpha=0.15, linewidth=0)
                axes.axhline(value, color=colour, linestyle="-.", linewidth=1.4, zorder=5)
            continue
        for _, run in own[own["series"] == "seed"].groupby("seed"):
            axes.plot(run["env_step"], run["value"], color=colour, linewidth=0.5, alpha=0.45, zorder=2)
        steps, values = average["env_step"].to_numpy(float), average["value"].to_numpy()
        axes.fill_between(steps, average["low"], average["high"], color=colour, alpha=0.18, linewidth=0)
        full = average["runs"].to_numpy() == average["runs"].max()
        # The dotted stretch begins at the last point of all runs, so that the line has no hole.
        few = ~full | np.append(~full[1:], False)
        whole = np.where(full, values, np.nan)
        look: dict[str, Any] = {"color": colour, "linewidth": 1.6, "dash_capstyle": "butt", "zorder": 4}
        for points, dashes in pieces:
            axes.plot(steps[points], whole[points], linestyle=dashes, **look)
        axes.plot(steps, np.where(few, values, np.nan), color=colour, linewidth=1.2, linestyle=":", zorder=4)


def legend_handles(comparison: Comparison, table: pd.DataFrame) -> list[Line2D]:
    """Return a legend entry for each cell with how many of its seeds are in; cells without data say so."""
    colours = style.cell_colours(comparison.cells)
    drawn = {Cell(*pair) for pair in table[["algorithm", "variant"]].drop_duplicates().itertuples(index=False)}
    return [
        Line2D(
            [],
            [],
            color=colours[cell],
            linewidth=1.6,
            linestyle="-." if comparison.is_offline(cell) else "-",
            label=f"{cell.label} ({comparison.seeds(cell)}{'' if cell in drawn else ', no data'})",
        )
        for cell in comparison.cells
    ]


def reference_values(table: pd.DataFrame) -> dict[str, float]:
    """Return the reference lines of a table of one metric."""
    rows = table[table["series"] == "reference"]
    return dict(zip(rows["algorithm"], rows["value"], strict=True))
