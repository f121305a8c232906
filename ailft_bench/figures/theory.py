"""Theory: the two terms of eq. 1 over training, and whether disagreement is an honest error bar."""

from __future__ import annotations

import math
from pathlib import Path

import pandas as pd

from ailft_bench.figures import style
from ailft_bench.figures.captions import theory_caption
from ailft_bench.figures.data import Comparison, concatenate, curve_table
from ailft_bench.figures.learning import STEPS_LABEL, draw_panels, legend_handles
from ailft_bench.figures.summaries import calibration_table

#: What is measured in training (averages over the updates of an episode) and at evaluations.
PANELS = {
    "discriminator/total_variation": ("train", "total variation: policy, expert"),
    "disagreement/imagined": ("train", "disagreement, imagined"),
    "model/one_step_error": ("eval", "true error of the model"),
    "disagreement/calibration": ("eval", "rank correlation of the two"),
    "model/action_effect": ("eval", "effect of actions: cosine"),
    "gradient/reward_cosine": ("eval", "reward's gradient: cosine"),
    "gradient/reward_mean_cosine": ("eval", "reward's, from the mean"),
    "gradient/penalty_mean_cosine": ("eval", "penalty's, from the mean"),
}


def terms(comparison: Comparison, out_dir: Path) -> list[Path]:
    """Draw both terms of the bound, how disagreement follows the true error, and what gradients are worth."""
    online = comparison.online()
    tables = []
    for metric, (phase, _) in PANELS.items():
        for cell in online.cells:
            rows = online.rows(cell, phase, metric)
            # Pretraining has many rows at step 0: not a curve over environment steps.
            rows = rows[rows["env_step"] > 0] if phase == "train" else rows
            tables.append(curve_table(online, metric, cell, rows))
    table = concatenate(tables)
    titles = {metric: title for metric, (_, title) in PANELS.items() if metric in set(table["metric"])}
    if not titles:
        return []
    caption = theory_caption(
        comparison,
        "The two terms that bound the policy's distance from the expert (eq. 1): total variation as the "
        "discriminator sees it, and the ensemble's disagreement where the policy is trained; then the model's true "
        "one-step latent error on fresh episodes, and the rank correlation of disagreement with it (1: an honest "
        "error bar). Where it was measured: whether the model knows what actions change (cosine of the true and the "
        "foreseen change of the image), and whether the reward's gradient points to the expert's action, from actions "
        "drawn from the policy and from its mean, and the penalty's from the mean.",
    )
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
        "Both in latent units: root mean square error, standard deviation over the ensemble.",
        bands=False,
    )
    figure = style.new_figure(comparison, caption, legend_handles(online, table), 2.1)
    axes = figure.subplots()
    for cell, colour in style.cell_colours(online.cells).items():
        own = table[(table["algorithm"] == cell.algorithm) & (table["variant"] == cell.variant)]
        sizes = 4 + 16 * own["env_step"] / max(online.budget, 1)
        axes.scatter(own["disagreement"], own["error"], s=sizes, color=colour, alpha=0.55, linewidth=0)
    axes.set_xlabel("disagreement")
    axes.set_ylabel("true one-step error")
    return style.save(
        figure, pd.DataFrame(table), caption, out_dir / f"{comparison.suite}-{comparison.scale}-calibration"
    )
