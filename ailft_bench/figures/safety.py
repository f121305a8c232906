"""Safety: violations while learning, and those of the trained policy by constraint."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from ailft_bench.figures import style
from ailft_bench.figures.captions import final_caption, training_caption
from ailft_bench.figures.data import Comparison, cost_rate_table, final_table, finals
from ailft_bench.figures.learning import STEPS_LABEL, draw_curves, legend_handles, reference_values

_BAR = 0.13
"""Inches of one bar."""
_DOT: Any = {"color": "0.15", "markersize": 2.4, "markerfacecolor": "white", "markeredgewidth": 0.6}


def training_cost(comparison: Comparison, out_dir: Path, references: Mapping[str, Mapping[str, float]]) -> list[Path]:
    """Draw the share of training steps so far that violated a constraint; return the files written."""
    table = cost_rate_table(comparison, references)
    if table[table["series"] == "mean"].empty:
        return []
    online = comparison.online()
    caption = training_caption(comparison)
    figure = style.new_figure(comparison, caption, legend_handles(online, table), 2.2)
    axes = figure.subplots()
    draw_curves(axes, table, online)
    style.label_steps(axes, comparison.budget)
    axes.set_ylim(bottom=0)
    axes.set_ylabel("violating / all steps so far")
    axes.set_xlabel(STEPS_LABEL)
    style.label_references(axes, reference_values(table))
    return style.save(figure, table, caption, out_dir / f"{comparison.suite}-{comparison.scale}-training-cost")


def evaluation_cost(comparison: Comparison, out_dir: Path) -> list[Path]:
    """Draw the violations of the trained policies by constraint; return the files written."""
    metrics = ["cost", *(f"cost/{name}" for name in comparison.names("cost/"))]
    tables = [final_table(comparison, metric, cell) for metric in metrics for cell in comparison.cells]
    table = pd.concat(tables, ignore_index=True)
    if table.empty:
        return []
    caption = final_caption(comparison)
    cells = comparison.cells
    group = (len(cells) + 1) * _BAR
    handles = legend_handles(comparison, table)
    for handle in handles:
        handle.set(linestyle="-", linewidth=5, alpha=0.75)
    figure = style.new_figure(comparison, caption, handles, len(metrics) * group + 0.4)
    axes = figure.subplots()
    colours = style.cell_colours(cells)
    for row, metric in enumerate(metrics):
        for place, cell in enumerate(cells):
            own = table[
                (table["metric"] == metric)
                & (table["algorithm"] == cell.algorithm)
                & (table["variant"] == cell.variant)
            ]
            height = row * group + place * _BAR
            for value, low, high in finals(own):
                axes.barh(height, value, height=0.85 * _BAR, color=colours[cell], alpha=0.75, linewidth=0)
                axes.plot([low, high], [height, height], color="0.15", linewidth=0.9)
            dots = own.loc[own["series"] == "seed", "value"]
            axes.plot(dots, np.full(len(dots), height), "o", **_DOT)
    centres = [row * group + (len(cells) - 1) * _BAR / 2 for row in range(len(metrics))]
    names = [metric.removeprefix("cost/").replace("_", " ") for metric in metrics[1:]]
    axes.set_yticks(centres, ["any constraint", *names])
    axes.tick_params(axis="y", length=0)
    axes.invert_yaxis()
    axes.set_xlim(left=0)
    axes.set_xlabel("violating steps per episode")
    return style.save(figure, table, caption, out_dir / f"{comparison.suite}-{comparison.scale}-evaluation-cost")
