"""Figures of results: each a PNG, a PDF and the table behind it as CSV, under the same name."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from itertools import chain
from pathlib import Path

from ailft_bench.durable import storage_errors
from ailft_bench.errors import UserError
from ailft_bench.figures import estimates, learning, safety, sampled, style, theory
from ailft_bench.figures.comparison import Comparison, comparisons
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
    on_written: Callable[[Path], None] = lambda path: None,
) -> list[Path]:
    """Draw all figures of each suite and scale in ``results`` and return the files written.

    ``on_written`` hears of each file as soon as it is there.

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
            for path in chain.from_iterable(_figures_of(comparison, out_dir, known)):
                on_written(path)
                paths.append(path)
    return paths


def _figures_of(
    comparison: Comparison, out_dir: Path, references: Mapping[str, Mapping[str, float]]
) -> Iterator[list[Path]]:
    """Draw one figure after the other, and yield the files of each."""
    yield learning.learning_curves(comparison, out_dir, references)
    yield learning.success_curves(comparison, out_dir, references)
    if comparison.names("completed/"):
        yield learning.task_curves(comparison, out_dir, references)
    yield sampled.both_evaluations(comparison, out_dir)
    yield estimates.sample_efficiency(comparison, out_dir)
    yield estimates.improvement(comparison, out_dir)
    yield estimates.profiles(comparison, out_dir)
    yield estimates.stability(comparison, out_dir)
    yield safety.training_cost(comparison, out_dir, references)
    yield safety.cumulative_cost(comparison, out_dir)
    yield safety.evaluation_cost(comparison, out_dir)
    yield safety.score_against_cost(comparison, out_dir)
    yield theory.terms(comparison, out_dir)
    yield theory.calibration(comparison, out_dir)
    yield estimates.sensitivity(comparison, out_dir)
