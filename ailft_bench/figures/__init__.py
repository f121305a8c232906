"""Figures of results: each a PNG, a PDF and the table behind it as CSV, under the same name."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import matplotlib

from ailft_bench.durable import storage_errors
from ailft_bench.errors import UserError
from ailft_bench.figures import learning, safety, style
from ailft_bench.figures.data import comparisons
from ailft_bench.results import Results

__all__ = ["plot"]

References = Mapping[tuple[str, str], Mapping[str, Mapping[str, float]]]


def plot(results: Results, out_dir: Path, references: References | None = None) -> list[Path]:
    """Draw all figures of each suite and scale in ``results`` and return the files written.

    ``references`` holds, by (suite, scale), the lines that are drawn across: by name (random, replay,
    expert) the same metrics as an evaluation has.

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
    with matplotlib.rc_context(style.RC):
        for comparison in found:
            known = (references or {}).get((comparison.suite, comparison.scale), {})
            paths += learning.learning_curves(comparison, out_dir, known)
            if comparison.names("completed/"):
                paths += learning.task_curves(comparison, out_dir, known)
            paths += safety.training_cost(comparison, out_dir, known)
            paths += safety.evaluation_cost(comparison, out_dir)
    return paths
