"""What ``tune`` prints: the plan, its cost, and the figures of the three blocks side by side."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from pathlib import Path

import numpy as np
from rich.console import Console
from rich.table import Table

from ailft_bench import display, provenance, statistics, tables
from ailft_bench.estimate import estimate
from ailft_bench.seeding import branch
from ailft_bench.store import RunSpec
from ailft_bench.tuning import ranking
from ailft_bench.tuning.objective import MEANINGS
from ailft_bench.tuning.plan import PRUNE_AFTER_SEEDS, Block, Plan, Settings, seeds_before_pruning
from ailft_bench.tuning.protocol import Outcome, describe
from ailft_bench.tuning.space import written
from ailft_bench.tuning.study import Study, folder
from ailft_bench.tuning.trials import Scores, mean
from algorithms.config import SettingError

_DEFAULT = 0


def show_plan(out: Console, plan: Plan) -> None:
    """Print what is decided before the first run."""
    for parameter in plan.parameters:
        default = plan.defaults[parameter.name]
        out.print(f"tunes {parameter.label} of {plan.cell.algorithm} in {parameter.range}, now {default}", markup=False)
    for name in plan.objectives:
        limit = f", at most {plan.max_cost:g} violating steps an episode" if plan.max_cost is not None else ""
        out.print(f"objective {name}: {MEANINGS[name]}{limit}", markup=False)
    fresh = len(plan.seeds["select"])
    out.print(
        f"study {plan.name}: {plan.trials} settings on the same {len(plan.seeds['tune'])} seeds, the best "
        f"{ranking.CANDIDATES} again on {fresh} new ones, {_chosen(plan)} and the default on {fresh} more",
        markup=False,
    )
    if plan.prune:
        early = seeds_before_pruning(len(plan.seeds["tune"]))
        out.print(
            f"prunes after {early} seeds ({PRUNE_AFTER_SEEDS:.0%} of a trial's at least) what loses on each of them "
            f"to the third best, once {ranking.PRUNE_AFTER_TRIALS:.0%} of the trials have finished"
        )


def show_cost(out: Console, plan: Plan, results: Path, width: int) -> None:
    """Print an estimate of time and disk for the whole study, as if none of it was done. Writes nothing."""
    specs = planned_runs(plan)
    display.show_estimate(out, estimate(specs, results), len(specs), width)
    home = folder(results, plan.name)
    out.print(f"folder: {home}" + (" (begun already)" if home.exists() else ""), markup=False)


def planned_runs(plan: Plan) -> list[RunSpec]:
    """Return as many runs as the whole study has, on its seeds, of settings that lie evenly in the ranges."""
    firsts = plan.first_settings[: plan.trials]
    reported = 1 if len(plan.objectives) == 1 else ranking.CANDIDATES
    blocks: Mapping[Block, list[Settings]] = {
        "tune": firsts + plan.spread(plan.trials - len(firsts)),
        "select": plan.spread(ranking.CANDIDATES),
        "report": [plan.defaults, *plan.spread(reported)],
    }
    return [
        _planned(plan, settings, number, seed)
        for block, drawn in blocks.items()
        for number, settings in enumerate(drawn)
        for seed in plan.seeds[block]
    ]


def _chosen(plan: Plan) -> str:
    return "the chosen one" if len(plan.objectives) == 1 else "those of the Pareto front"


def _planned(plan: Plan, settings: Settings, number: int, seed: int) -> RunSpec:
    try:
        return plan.spec(settings, f"trial-{number}", seed)
    except SettingError:  # settings that cannot go together; which are drawn is not known, and these cost the most
        return plan.spec(plan.defaults, f"trial-{number}", seed)


def show_stopped(out: Console) -> None:
    """Say how to go on."""
    hidden = any(provenance.masked(word) != word for word in sys.argv)
    missing = " (with the password of its storage)" if hidden else ""
    out.print(f"stopped; the same command goes on{missing}: {provenance.command()}", markup=False)


def show(out: Console, study: Study, outcome: Outcome) -> None:
    """Print what came out, draw the figures, and say what can be done with it."""
    from ailft_bench.figures import tuning as figures

    plan = study.plan
    _show_trials(out, study, outcome)
    for name in plan.objective.measures:
        _show_blocks(out, study, outcome, name)
    for number in outcome.chosen:
        _show_verdict(out, study, outcome, number)
        _show_excess(out, study.plan, outcome, number)
    for path, reason in outcome.failed.items():
        out.print(f"failed: {path}: {reason}", markup=False)
    for path in figures.plot(plan, outcome, study.optuna(), study.folder / "figures"):
        if path.suffix == ".png":
            out.print(f"figure: {path}", markup=False)
    out.print(f"learning curves on the third block: ailft-bench plot --results {study.root('report')}", markup=False)
    out.print(f"in a browser (pip install optuna-dashboard): {study.dashboard_command}", markup=False)


def _show_trials(out: Console, study: Study, outcome: Outcome) -> None:
    measures = study.plan.objective.measures
    table = Table("trial", "settings", *measures, "seeds", "state", "", box=None, pad_edge=False)
    for trial in outcome.trials:
        note = {0: "the suite's own"}.get(trial.number, "")
        note = note or (study.plan.alpha_zero if trial.settings.get("alpha") == 0 else "")
        means = [tables.number(trial.mean(name)) if trial.scores else tables.MISSING for name in measures]
        row = [str(trial.number), describe(study, trial.settings), *means, str(len(trial.scores)), trial.state]
        table.add_row(*row, (note or trial.reason).replace("[", "\\["))
    out.print(table)


def _show_blocks(out: Console, study: Study, outcome: Outcome, name: str) -> None:
    """Print one measure on the three blocks; a dash where a setting was not run."""
    tuned = {trial.number: trial.scores for trial in outcome.trials}
    blocks: dict[Block, Mapping[int, Scores]] = {"tune": tuned, "select": outcome.select, "report": outcome.report}
    counts = [len(study.plan.seeds[block]) for block in blocks]
    heads = [f"{block}, {count} seed{'s' * (count > 1)}" for block, count in zip(blocks, counts, strict=True)]
    table = Table(name, "settings", *heads, box=None, pad_edge=False)
    others = [number for number in outcome.candidates if number not in outcome.chosen]
    for number in dict.fromkeys([*outcome.chosen, *others, _DEFAULT]):
        role = "chosen" if number in outcome.chosen else "default" if number == _DEFAULT else "candidate"
        cells = [_estimate(scores.get(number, {}), name, len(study.plan.seeds[b])) for b, scores in blocks.items()]
        table.add_row(f"{role} (trial {number})", describe(study, outcome.settings(number)), *cells)
    out.print()
    out.print(table)
    for number in outcome.chosen:
        if tuned[number] and outcome.report.get(number):
            before, after = mean(tuned[number], name), mean(outcome.report[number], name)
            out.print(f"selection bias of trial {number}: tune - report = {before - after:+.3f}")


def _show_verdict(out: Console, study: Study, outcome: Outcome, number: int) -> None:
    """Say what the third block says of a chosen setting, and how to use it."""
    plan, settings = study.plan, outcome.settings(number)
    if settings == plan.defaults:
        out.print("the suite's own settings were chosen: nothing to change")
        return
    name = plan.objective.primary
    own, default = outcome.report[number], outcome.report[_DEFAULT]
    pairs = sorted(own.keys() & default.keys())
    if pairs:
        x, y = (np.array([[scores[seed][name]] for seed in pairs]) for scores in (own, default))
        rng = np.random.default_rng(branch(0, "tuning", plan.name, "verdict"))
        difference = tables.interval(float((x - y).mean()), *statistics.paired_interval(x, y, rng))
        p = statistics.sign_flip_test(x, y, rng)
        out.print(
            f"trial {number} - default on the report seeds: {name} {difference} ({len(pairs)} pairs, p = {p:.3f})",
            markup=False,
        )
    entry = f"algorithms.{plan.cell.algorithm}"
    values = " ".join(f"--set {entry}.{key}={written(value)}" for key, value in settings.items())
    out.print(f"to use trial {number}: {values}", markup=False)


def _show_excess(out: Console, plan: Plan, outcome: Outcome, number: int) -> None:
    """Say where a chosen setting costs more than is allowed, and whether any did not."""
    scores, limit = outcome.report[number], plan.max_cost
    if limit is None or not scores or ranking.feasible(scores, plan.objective):
        return
    done = [trial.scores for trial in outcome.trials if trial.state == "done"]
    none = not any(ranking.feasible(own, plan.objective) for own in done)
    out.print(
        f"trial {number} is not within --max-cost {limit:g}: {mean(scores, 'cost'):.3g} violating steps an episode on "
        "the report seeds" + ("; on the tuning seeds no setting was within it" if none else ""),
        markup=False,
    )


def _estimate(scores: Scores, name: str, wanted: int) -> str:
    """Return mean and interval over seeds, and how many there are where some are missing."""
    if not scores:
        return tables.MISSING
    values = np.array([[row[name]] for row in scores.values()])
    rng = np.random.default_rng(branch(0, "tuning", "summary", name))
    shown = tables.interval(float(values.mean()), *statistics.bootstrap_interval(values, statistics.mean, rng))
    return shown if len(scores) == wanted else f"{shown}, {len(scores)}/{wanted} seeds"
