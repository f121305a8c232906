"""Figures of results: each a PNG, a PDF and the table behind it as CSV, under the same name."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from ailft_bench.durable import storage_errors
from ailft_bench.errors import UserError
from ailft_bench.figures import estimates, learning, safety, sampled, style, theory
from ailft_bench.figures.comparison import comparisons
from ailft_bench.results import Results, load_results

__all__ = ["is_drawn", "load", "plot"]

#: The metrics that figures and the report's tables are made of, and the families of such.
_DRAWN = {
    "tasks_completed",
    "success",
    "cost",
    "episode_length",
    "disagreement/fresh",
    *theory.PANELS,
    *sampled.SAMPLED,
}
_DRAWN_FAMILIES = ("completed/", "cost/")

References = Mapping[tuple[str, str], Mapping[str, Mapping[str, float]]]


def is_drawn(metric: str) -> bool:
    """Whether figures or the report's tables need a metric."""
    return metric in _DRAWN or metric.startswith(_DRAWN_FAMILIES)


def load(results_dir: Path, suite: str, scale: str | None) -> Results:
    """Read what figures and the report need, and no more: large results must fit into memory.

    Raises:
        UserError: no such suite or scale, or no run at all.
    """
    return load_results(results_dir, suite, scale, is_drawn, without=("episode", "wall_time_s"))


def plot(
    results: Results,
    out_dir: Path,
    references: References | None = None,
    for_print: bool = True,
    captions: bool = True,
) -> list[Path]:
    """Draw all figures of each suite and scale in ``results`` and return the files written.

    ``references`` holds, by (suite, scale), the lines that are drawn across: by name (random, replay,
    expert) the same metrics as an evaluation has. Without ``for_print`` there are no PDFs, which take half of
    the time; without ``captions`` pictures have none, and a text file beside each does.

    Raises:
        UserError: nothing was evaluated yet, or ``out_dir`` cannot be written.
    """
    found = list(comparisons(results))
    if not found:
        suites = sorted(results.runs["suite"].unique())
        raise UserError(
            f"{', '.join(suites)}: no evaluation rows yet in any of {len(results.runs)} runs; "
            f"see how far they are with: ailft-bench status; go on with: ailft-bench run {suites[0]}"
        )
    with storage_errors(out_dir):
        out_dir.mkdir(parents=True, exist_ok=True)
    paths: list[Path] = []
    with style.appearance(for_print, captions):
        for comparison in found:
            known = (references or {}).get((comparison.suite, comparison.scale), {})
            paths += learning.learning_curves(comparison, out_dir, known)
            paths += learning.success_curves(comparison, out_dir, known)
            if comparison.names("completed/"):
                paths += learning.task_curves(comparison, out_dir, known)
            paths += sampled.both_evaluations(comparison, out_dir)
            paths += estimates.sample_efficiency(comparison, out_dir)
            paths += estimates.improvement(comparison, out_dir)
            paths += estimates.profiles(comparison, out_dir)
            paths += estimates.stability(comparison, out_dir)
            paths += safety.training_cost(comparison, out_dir, known)
            paths += safety.cumulative_cost(comparison, out_dir)
            paths += safety.evaluation_cost(comparison, out_dir)
            paths += safety.score_against_cost(comparison, out_dir)
            paths += theory.terms(comparison, out_dir)
            paths += theory.calibration(comparison, out_dir)
            paths += estimates.sensitivity(comparison, out_dir)
    return paths
