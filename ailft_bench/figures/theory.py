"""Theory: the two terms of eq. 1 over training, and whether disagreement is an honest error bar."""

from __future__ import annotations

import math
from pathlib import Path
from typing import NamedTuple

import pandas as pd

from ailft_bench.figures import style
from ailft_bench.figures.captions import theory_caption
from ailft_bench.figures.comparison import Comparison
from ailft_bench.figures.data import concatenate, curve_table
from ailft_bench.figures.learning import STEPS_LABEL, draw_panels, legend_handles
from ailft_bench.figures.summaries import calibration_table


class Panel(NamedTuple):
    """One measurement: of training (averages over the updates of an episode) or of evaluations."""

    phase: str
    title: str
    says: str


PANELS = {
    "discriminator/total_variation": Panel(
        "train", "total variation: policy, expert", "the first term of eq. 1, as the discriminator sees it"
    ),
    "disagreement/imagined": Panel(
        "train", "disagreement, imagined", "what stands for its second term, where the policy is trained"
    ),
    "model/one_step_error": Panel("eval", "true error of the model", "in latent units, one step ahead, fresh episodes"),
    "disagreement/calibration": Panel(
        "eval", "rank correlation of the two", "of disagreement and true error over steps (1: an honest error bar)"
    ),
    "model/action_effect": Panel(
        "eval", "cosine: effect of actions", "of the true and the foreseen change of the image, for other actions"
    ),
    "gradient/reward_cosine": Panel(
        "eval",
        "cosine: reward, drawn",
        "of its gradient and the way to the expert's action, from actions drawn from the policy",
    ),
    "gradient/reward_mean_cosine": Panel("eval", "cosine: reward, mean", "the same, from its mean action"),
    "gradient/penalty_mean_cosine": Panel("eval", "cosine: penalty, mean", "the same of the penalty's gradient"),
}


def terms(comparison: Comparison, out_dir: Path) -> list[Path]:
    """Draw both terms of the bound, how disagreement follows the true error, and what gradients are worth."""
    online = comparison.online()
    tables = []
    for metric, panel in PANELS.items():
        for cell in online.cells:
            rows = online.rows(cell, panel.phase, metric)
            # Pretraining has many rows at step 0: not a curve over environment steps.
            rows = rows[rows["env_step"] > 0] if panel.phase == "train" else rows
            tables.append(curve_table(online, metric, cell, rows))
    table = concatenate(tables)
    drawn = {metric: panel for metric, panel in PANELS.items() if metric in set(table["metric"])}
    if not drawn:
        return []
    titles = {metric: panel.title for metric, panel in drawn.items()}
    meanings = "; ".join(f"{panel.title} ({panel.says})" for panel in drawn.values())
    caption = theory_caption(comparison, f"What bounds the policy's distance from the expert (eq. 1): {meanings}.")
    height = 1.3 * math.ceil(len(titles) / 2)
    figure = style.new_figure(comparison, caption, legend_handles(online, table), height, label_below=STEPS_LABEL)
    for axes in draw_panels(figure, titles, table, online, sharey=False):
        axes.locator_params(axis="y", nbins=4)
        axes.title.set_fontsize(style.SMALL - 0.5)
    return style.save(figure, table, caption, out_dir / f"{comparison.suite}-{comparison.scale}-theory")


def calibration(comparison: Comparison, out_dir: Path) -> list[Path]:
    """Draw the model's true error against disagreement, a dot for each evaluation of each run."""
    online = comparison.online()
    table = calibration_table(online)
    if table.empty:
        return []
    caption = theory_caption(
        comparison,
        "Each dot: one evaluation of one run (of more than ten seeds the last one), averages over all steps of fresh "
        "episodes; larger: later in training. "
        "Both in latent units: root mean square error, standard deviation over the ensemble. This shows how both "
        "change with training, not whether disagreement knows which steps will err: see the rank correlation in the "
        "theory figure.",
        bands=False,
    )
    figure = style.new_figure(comparison, caption, legend_handles(online, table), 2.1)
    axes = figure.subplots()
    for cell, colour in style.cell_colours(online.cells).items():
        own = table[(table["algorithm"] == cell.algorithm) & (table["variant"] == cell.variant)]
        sizes = 4 + 16 * own["env_step"] / max(online.budget, 1)
        axes.scatter(own["disagreement"], own["error"], s=sizes, color=colour, alpha=0.55, linewidth=0)
    axes.locator_params(axis="x", nbins=5)  # labels of four decimals
    axes.set_xlabel("disagreement")
    axes.set_ylabel("true one-step error")
    return style.save(
        figure, pd.DataFrame(table), caption, out_dir / f"{comparison.suite}-{comparison.scale}-calibration"
    )
