"""Figures of results: each a PNG, a PDF and the table behind it as CSV, under the same name."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import matplotlib

from ailft_bench.durable import storage_errors
from ailft_bench.errors import UserError
from ailft_bench.figures import estimates, learning, safety, style, theory
from ailft_bench.figures.data import comparisons
from ailft_bench.results import Results

__all__ = ["is_drawn", "plot"]

#: The first parts of the names of metrics that figures and tables are made of.
_DRAWN = ("tasks_completed", "success", "completed", "cost", "episode_length", "disagreement", "discriminator", "model")

References = Mapping[tuple[str, str], Mapping[str, Mapping[str, float]]]


def is_drawn(metric: str) -> bool:
    """Whether figures or the report's tables need a metric: large results are read without the others."""
    return metric.split("/")[0] in _DRAWN


def plot(results: Results, out_dir: Path, references: References | None = None, for_print: bool = True) -> list[Path]:
    """Draw all figures of each suite and scale in ``results`` and return the files written.

    ``references`` holds, by (suite, scale), the lines that are drawn across: by name (random, replay,
    expert) the same metrics as an evaluation has. Without ``for_print`` there are no PDFs, which take most of
    the time.

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
    with matplotlib.rc_context(style.RC | {"savefig.format": "pdf" if for_print else "png"}):
        for comparison in found:
            known = (references or {}).get((comparison.suite, comparison.scale), {})
            paths += learning.learning_curves(comparison, out_dir, known)
            paths += learning.success_curves(comparison, out_dir, known)
            if comparison.names("completed/"):
                paths += learning.task_curves(comparison, out_dir, known)
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
