"""The captions of figures: what is shown, over how many seeds, with which interval, and what is missing."""

from __future__ import annotations

from collections.abc import Iterable

from ailft_bench.figures.comparison import Comparison
from ailft_bench.figures.summaries import all_but
from ailft_bench.statistics import FEW_SEEDS, FEWEST_RUNS

DASHES = "Dashed in the colours of several lines where these are too close to tell apart"
_LINES = f"Thick: mean over seeds, dotted where some seeds have not come so far; thin: seeds. {DASHES}."


def curve_caption(comparison: Comparison) -> str:
    """Return the caption of a figure of evaluations against environment steps."""
    offline = _offline(comparison)
    level = f"{offline}: no environment steps, drawn as a level (dash-dotted) of the final evaluations."
    parts = [_subject(comparison), _evaluation(comparison), _LINES, *([level] if offline else [])]
    parts += _first_updates(comparison)
    return " ".join([*parts, f"Bands: {_interval(comparison)}, pointwise.", *_missing(comparison)])


def training_caption(comparison: Comparison, what: str) -> str:
    """Return the caption of a figure of ``what`` happens in training."""
    parts = [_subject(comparison), what, _LINES, *_without_offline(comparison, True), *_first_updates(comparison)]
    return " ".join([*parts, f"Bands: {_interval(comparison)}, pointwise.", *_missing(comparison)])


def final_caption(comparison: Comparison) -> str:
    """Return the caption of a figure of the final evaluation."""
    parts = [_subject(comparison), "Final evaluation of finished runs.", _evaluation(comparison)]
    parts.append("Bars: mean over seeds; dots: seeds;")
    return " ".join([*parts, f"whiskers: {_interval(comparison)}.", *_missing(comparison)])


MEANS = "Dots: means over seeds, small circles: seeds; intervals"


def estimate_caption(
    comparison: Comparison, what: str, offline: bool = False, marks: str = MEANS, actors: bool = False
) -> str:
    """Return the caption of a figure of one number a run; ``offline``: without algorithms that take no steps.

    ``actors``: it is a number of whole curves, which begin alike for methods that differ in the actor's objective.
    """
    parts = [_subject(comparison), what, *_without_offline(comparison, offline), _evaluation(comparison)]
    parts += _first_updates(comparison) if actors else []
    return " ".join([*parts, f"{marks}: {_interval(comparison)}.", *_missing(comparison)])


def sampled_caption(comparison: Comparison) -> str:
    """Return the caption of a figure of both final evaluations, of mean and of sampled actions."""
    parts = [_subject(comparison), "Final evaluation of finished runs."]
    parts.append("Filled: the policy's mean action; open squares: actions sampled from it.")
    parts += [_evaluation(comparison, "of other start states for each"), f"Intervals: {_interval(comparison)}."]
    return " ".join([*parts, *_missing(comparison)])


def theory_caption(comparison: Comparison, what: str, bands: bool = True) -> str:
    """Return the caption of a figure of what the theory asks to be measured."""
    parts = [_subject(comparison), what, *_without_offline(comparison, True)]
    shown = f"{DASHES}. Bands: {_interval(comparison)}, pointwise." if bands else "Single evaluations, no intervals."
    return " ".join([*parts, shown, *_missing(comparison)])


def _first_updates(comparison: Comparison) -> list[str]:
    """Say when actors begin to learn online, as what happens to their score before that has other reasons.

    Nothing of those that learn from the start, in full updates before the first step (``pretrain_updates``).
    """
    cells = [cell for cell in comparison.cells if comparison.first_actor_step(cell)]
    if not cells:
        return []
    steps = " or ".join(f"{step:,}" for step in sorted({comparison.first_actor_step(cell) for cell in cells}))
    sciences = {repr(all_but(spec, "alpha")) for cell in cells if (spec := comparison.spec_of(cell)) is not None}
    same = "; until then methods that differ in the penalty alone are one run" if len(sciences) < len(cells) else ""
    return [f"Online updates of the actor begin at step {steps}{same}."]


def _without_offline(comparison: Comparison, offline: bool) -> list[str]:
    names = _offline(comparison)
    return [f"Without {names}: no environment steps."] if offline and names else []


def _subject(comparison: Comparison) -> str:
    size = f"Suite {comparison.suite}, scale {comparison.scale}, {comparison.budget:,} environment steps."
    return f"{size} {_seeds(comparison)}."


def _seeds(comparison: Comparison) -> str:
    """Return the number of runs that are finished, for each algorithm."""
    counts = [len(comparison.finished(cell)) for cell in comparison.cells]
    few, most = min(counts), max(counts)
    return f"n = {few if few == most else f'{few} to {most}'} finished seeds each"


def _evaluation(comparison: Comparison, action: str = "the policy's mean action") -> str:
    specs = [comparison.specs[run_id] for run_id in comparison.runs["run_id"] if run_id]
    episodes = sorted({str(spec.evaluation.get("episodes", "?")) for spec in specs})
    noun = "episode" if episodes == ["1"] else "episodes"
    return f"Each evaluation: {' or '.join(episodes)} {noun}, {action}."


def _offline(comparison: Comparison) -> str:
    return ", ".join(cell.label for cell in comparison.cells if comparison.is_offline(cell))


def _interval(comparison: Comparison) -> str:
    fewest = min(len(comparison.finished(cell)) for cell in comparison.cells)
    none = f", with fewer than {FEWEST_RUNS} none" if fewest < FEWEST_RUNS else ""
    few = f" (with \N{LESS-THAN OR EQUAL TO}{FEW_SEEDS} seeds optimistic{none})" if fewest <= FEW_SEEDS else ""
    return f"95 % stratified bootstrap over seeds{few}"


def _missing(comparison: Comparison) -> list[str]:
    """Return sentences on runs that are not finished, on those left out, and on what makes lines incomparable."""
    parts, never = [], []
    for cell in comparison.cells:
        runs = comparison.runs_of(cell)
        for state, group in runs[runs["state"] != "done"].groupby("state"):
            noun = "seed" if len(group) == 1 else "seeds"
            seeds = f"{cell.label} {noun} {_ranges(group['seed'])}"
            if state == "missing":
                never.append(seeds)
            else:
                parts.append(f"{seeds} {state}")
    sentences = [f"Not finished: {'; '.join(parts)}."] if parts else []
    sentences += [f"Not run: {'; '.join(never)}."] if never else []
    if comparison.superseded:
        noun = "run" if comparison.superseded == 1 else "runs"
        sentences.append(f"Left out: {comparison.superseded} {noun} of older configurations.")
    if comparison.unlike:
        sentences.append(f"Not comparable: the lines differ in {', '.join(comparison.unlike)}.")
    return sentences


def _ranges(seeds: Iterable[int]) -> str:
    """Return for example ``0, 3 to 9, 12``; two in a row are no range."""
    streaks: list[list[int]] = []
    for seed in sorted(seeds):
        if streaks and seed == streaks[-1][-1] + 1:
            streaks[-1].append(seed)
        else:
            streaks.append([seed])
    written = [f"{streak[0]} to {streak[-1]}" if len(streak) > 2 else ", ".join(map(str, streak)) for streak in streaks]
    return ", ".join(written)
