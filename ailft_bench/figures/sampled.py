"""Both final evaluations side by side: the policy's mean action, and actions sampled from it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from ailft_bench.figures import style
from ailft_bench.figures.captions import sampled_caption
from ailft_bench.figures.comparison import Comparison
from ailft_bench.figures.data import final_table, finals
from ailft_bench.figures.estimates import height, name

#: Sampled metrics that are shown beside those of the mean action, with their titles.
SAMPLED = {
    "sampled/tasks_completed": "sub-tasks completed",
    "sampled/success": "success rate (all sub-tasks)",
    "sampled/cost": "violating steps per episode",
}
_APART = 0.17
"""Rows: how far each of the two is from the middle."""


def both_evaluations(comparison: Comparison, out_dir: Path) -> list[Path]:
    """Draw the final score, success and cost of mean and of sampled actions; return the files written."""
    pairs = {metric: metric.removeprefix("sampled/") for metric in SAMPLED}
    tables = [
        final_table(comparison, name, cell) for pair in pairs.items() for name in pair for cell in comparison.cells
    ]
    table = pd.concat(tables, ignore_index=True)
    shown = [metric for metric in SAMPLED if metric in set(table["metric"])]
    if not shown:
        return []
    caption = sampled_caption(comparison)
    figure = style.new_figure(comparison, caption, [], len(shown) * height(comparison.cells))
    colours = style.cell_colours(comparison.cells)
    for axes, metric in zip(figure.subplots(len(shown), squeeze=False).ravel(), shown, strict=True):
        for row, cell in enumerate(comparison.cells):
            own = table[(table["algorithm"] == cell.algorithm) & (table["variant"] == cell.variant)]
            for drawn, at, marker in ((pairs[metric], row - _APART, "o"), (metric, row + _APART, "s")):
                face = colours[cell] if marker == "o" else "white"
                look: Any = {"color": colours[cell], "markerfacecolor": face, "markersize": 3.8}
                for value, low, high in finals(own[own["metric"] == drawn]):
                    axes.plot([low, high], [at, at], color=colours[cell], linewidth=1.4, alpha=0.55)
                    axes.plot([value], [at], marker, **look)
        axes.set_yticks(np.arange(len(comparison.cells)), [name(cell, comparison) for cell in comparison.cells])
        axes.set_ylim(len(comparison.cells) - 0.5, -0.5)
        axes.tick_params(axis="y", length=0)
        axes.grid(axis="x", color="0.9", linewidth=0.5)
        axes.set_axisbelow(True)
        axes.set_title(SAMPLED[metric])
        style.start_at_zero(axes)
    return style.save(figure, table, caption, out_dir / f"{comparison.suite}-{comparison.scale}-sampled")
