"""Safety: violations while learning, and those of the trained policy by constraint."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from ailft_bench.figures import style
from ailft_bench.figures.captions import estimate_caption, final_caption, training_caption
from ailft_bench.figures.comparison import Comparison
from ailft_bench.figures.data import cost_rate_table, cumulative_cost_table, final_table, finals
from ailft_bench.figures.learning import STEPS_LABEL, draw_curves, legend_handles, reference_values

_BAR = 0.13
"""Inches of one bar."""
_PAIR = ("cost", "tasks_completed")
_SEED: Any = {"markersize": 2.6, "markerfacecolor": "white", "markeredgewidth": 0.7}
_DOT: Any = {"color": "0.15", "markersize": 2.4, "markerfacecolor": "white", "markeredgewidth": 0.6}


def training_cost(comparison: Comparison, out_dir: Path, references: Mapping[str, Mapping[str, float]]) -> list[Path]:
    """Draw the share of training steps so far that violated a constraint; return the files written."""
    return _training(
        comparison,
        cost_rate_table(comparison, references),
        "Share of the environment steps so far that violated a constraint, exploration included.",
        "violating / all steps so far",
        out_dir / f"{comparison.suite}-{comparison.scale}-training-cost",
    )


def cumulative_cost(comparison: Comparison, out_dir: Path) -> list[Path]:
    """Draw how many training steps violated a constraint so far; return the files written."""
    return _training(
        comparison,
        cumulative_cost_table(comparison),
        "Environment steps in training so far that violated a constraint, exploration included.",
        "violating steps so far",
        out_dir / f"{comparison.suite}-{comparison.scale}-cumulative-cost",
    )


def score_against_cost(comparison: Comparison, out_dir: Path) -> list[Path]:
    """Draw the final score of each finished run against its cost; return the files written."""
    tables = [final_table(comparison, metric, cell) for metric in _PAIR for cell in comparison.cells]
    table = pd.concat(tables, ignore_index=True)
    if not set(_PAIR) <= set(table["metric"]):
        return []
    caption = estimate_caption(
        comparison, "Final evaluation of finished runs: up is more capable, left is safer. Crosses: both intervals."
    )
    figure = style.new_figure(comparison, caption, legend_handles(comparison, table), 2.2)
    axes = figure.subplots()
    for cell, colour in style.cell_colours(comparison.cells).items():
        own = table[(table["algorithm"] == cell.algorithm) & (table["variant"] == cell.variant)]
        cost, score = (own[own["metric"] == metric] for metric in _PAIR)
        dots = [values[values["series"] == "seed"].set_index("seed")["value"] for values in (cost, score)]
        axes.plot(dots[0], dots[1].reindex(dots[0].index), "o", color=colour, **_SEED)
        for (x, left, right), (y, low, high) in zip(finals(cost), finals(score), strict=True):
            axes.plot([left, right], [y, y], color=colour, linewidth=1.2)
            axes.plot([x, x], [low, high], color=colour, linewidth=1.2)
            axes.plot([x], [y], "o", color=colour, markersize=5)
    axes.set_xlabel("violating steps per episode")
    axes.set_ylabel("sub-tasks completed")
    return style.save(figure, table, caption, out_dir / f"{comparison.suite}-{comparison.scale}-score-against-cost")


def _training(comparison: Comparison, table: pd.DataFrame, what: str, label: str, stem: Path) -> list[Path]:
    if table[table["series"] == "mean"].empty:
        return []
    online = comparison.online()
    caption = training_caption(comparison, what)
    figure = style.new_figure(comparison, caption, legend_handles(online, table), 2.2)
    axes = figure.subplots()
    draw_curves(axes, table, online)
    style.label_steps(axes, comparison.budget)
    axes.set_ylim(bottom=0)
    axes.set_ylabel(label)
    axes.set_xlabel(STEPS_LABEL)
    style.label_references(axes, reference_values(table))
    return style.save(figure, table, caption, stem)


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
