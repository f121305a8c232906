"""The protocol: tune on one block of seeds, choose among the best on a second one, report on a third.

The mean of the best of many noisy trials is too high. So the best three are run again on seeds that no trial has
seen, one is chosen there, and what is claimed of it is measured on seeds that took part in no choice. The suite's
defaults are a trial as any other, and are run on the third block too.
"""

from __future__ import annotations

import math
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from rich.console import Console

from ailft_bench import durable, launch
from ailft_bench.executors import Executor
from ailft_bench.pool import Ending
from ailft_bench.store import RunDirectory, RunSpec
from ailft_bench.tuning import plan, ranking
from ailft_bench.tuning.plan import Block, Settings
from ailft_bench.tuning.study import Study
from ailft_bench.tuning.trials import Claim, Scores, Trial, Trials
from algorithms.config import SettingError

_LOOK_AGAIN_S = 2.0
#: At most this share of all trials is asked for at once: a sampler that never sees a result never learns.
_MOST_AT_ONCE = 0.25


@dataclass(frozen=True)
class Outcome:
    """All that a study has measured. ``select`` and ``report`` hold scores by the number of a trial.

    ``failed`` are runs of the second and third block that did not finish, with the reason.
    """

    trials: list[Trial]
    candidates: list[int]
    chosen: list[int]
    select: dict[int, Scores]
    report: dict[int, Scores]
    failed: dict[Path, str]

    @property
    def complete(self) -> bool:
        """Whether every trial and every run of the other blocks has finished."""
        return bool(self.chosen) and not self.failed and all(trial.state != "failed" for trial in self.trials)

    def settings(self, number: int) -> Settings:
        """Return the settings of a trial."""
        return self.trials[number].settings


class Stopped(Exception):
    """The work was interrupted or cancelled; ``code`` is the exit code."""

    def __init__(self, code: int) -> None:
        super().__init__(code)
        self.code = code


class Protocol:
    """Plays the protocol of one study, alone or with other processes that do the same."""

    def __init__(self, out: Console, study: Study, executor: Executor, memory_gib: float) -> None:
        self._out, self._study, self._executor, self._memory_gib = out, study, executor, memory_gib
        self._plan = study.plan
        self._trials = Trials(study)
        self._failed: dict[Path, str] = {}

    def play(self) -> Outcome:
        """Do what is missing, and return what was measured.

        Raises:
            Stopped: a signal came, or a job was cancelled.
            UserError: see ``launch.work``.
        """
        self._tune()
        trials = self._trials.read()
        candidates = ranking.candidates(trials, self._plan.objective)
        by_number = {trial.number: trial for trial in trials}
        select = self._measure("select", candidates)
        chosen = self._choice(select)
        # Trial 0 is the defaults.
        report = self._measure("report", [by_number[number] for number in dict.fromkeys([*chosen, 0])])
        return Outcome(trials, [trial.number for trial in candidates], chosen, select, report, self._failed)

    def _tune(self) -> None:
        """Work on trials until all are finished, those of other processes included."""
        width = self._executor.width(self._memory_gib)
        wanted = trials_at_once(width, len(self._plan.seeds["tune"]), self._plan.trials)
        waiting = False
        while True:
            with self._trials.claim(wanted) as claims:
                if claims:
                    self._work_on(claims)
                    waiting = False
                    continue
            open_ = [trial for trial in self._trials.read() if trial.state == "open"]
            if not open_:
                return
            if not waiting:
                names = ", ".join(str(trial.number) for trial in open_)
                self._out.print(f"waiting for other processes, which work on trials {names}")
            waiting = True
            time.sleep(_LOOK_AGAIN_S)

    def _work_on(self, claims: Sequence[Claim]) -> None:
        seeds = self._plan.seeds["tune"]
        possible = []
        for claim in claims:
            self._out.print(f"trial {claim.number}: {self.describe(claim.settings)}", markup=False)
            try:
                self._cells(claim, seeds)
                possible.append(claim)
            except SettingError as error:
                self._trials.fail(claim, f"the agent refuses these settings together: {error}")
        early = plan.seeds_before_pruning(len(seeds)) if self._plan.prune else len(seeds)
        going_on = self._run_trials(possible, seeds[:early])
        if early < len(seeds):
            going_on = [claim for claim in going_on if not self._prune(claim, seeds[:early])]
            going_on = self._run_trials(going_on, seeds[early:])
        for claim in going_on:
            self._trials.finish(claim, self._scores("tune", claim, seeds))
        self._tell(claims)

    def _run_trials(self, claims: Sequence[Claim], seeds: Sequence[int]) -> list[Claim]:
        """Run the seeds of each, and return the trials of which none failed; the others are told so."""
        root = self._study.root("tune")
        cells = {claim.number: self._cells(claim, seeds) for claim in claims}
        failed = self._finish("tune", [spec for specs in cells.values() for spec in specs])
        going_on = []
        for claim in claims:
            reasons = [failed[path] for spec in cells[claim.number] if (path := spec.directory(root)) in failed]
            if reasons:
                self._trials.fail(claim, f"{len(reasons)} of {len(seeds)} seeds failed: {reasons[0]}")
            else:
                going_on.append(claim)
        return going_on

    def _prune(self, claim: Claim, seeds: Sequence[int]) -> bool:
        objective = self._plan.objective
        rival = ranking.rival(self._trials.read(), objective, self._plan.trials)
        scores = self._scores("tune", claim, seeds)
        if rival is None or not ranking.loses_every_pair(scores, rival.scores, objective.primary):
            return False
        self._trials.prune(claim, scores, f"worse than trial {rival.number} on each of the first {len(seeds)} seeds")
        return True

    def _tell(self, claims: Sequence[Claim]) -> None:
        trials = self._trials.read()
        numbers = {claim.number for claim in claims}
        for trial in trials:
            if trial.number in numbers:
                self._out.print(f"trial {trial.number}: {self._result(trial)}", markup=False)
        finished = [trial for trial in trials if trial.state != "open"]
        best = ranking.candidates(finished, self._plan.objective)[: 1 if len(self._plan.objectives) == 1 else None]
        leaders = "; ".join(f"trial {trial.number}, {self.describe(trial.settings)}" for trial in best)
        self._out.print(
            f"{len(finished)} of {self._plan.trials} trials finished; best so far: {leaders or 'none'}", markup=False
        )

    def _result(self, trial: Trial) -> str:
        if not trial.scores:
            return f"{trial.state}: {trial.reason}"
        means = ", ".join(f"{name} {trial.mean(name):.3f}" for name in self._plan.objective.measures)
        return f"{means} ({len(trial.scores)} seeds)" + (f", {trial.state}: {trial.reason}" if trial.reason else "")

    def _measure(self, block: Block, trials: Sequence[Trial]) -> dict[int, Scores]:
        """Run trials on another block of seeds, and return the scores of those seeds that finished."""
        seeds = self._plan.seeds[block]
        specs = [spec for trial in trials for spec in self._cells(trial, seeds)]
        if any(not (spec.directory(self._study.root(block)) / "done").exists() for spec in specs):
            names = ", ".join(f"trial {trial.number} ({self.describe(trial.settings)})" for trial in trials)
            self._out.print(f"{block}: {len(seeds)} new seeds each of {names}", markup=False)
        self._failed |= self._finish(block, specs)
        return {trial.number: self._scores(block, trial, seeds) for trial in trials}

    def _choice(self, select: Mapping[int, Scores]) -> list[int]:
        """Return what was chosen on the second block, now or by an earlier call: that never changes."""
        path = self._study.folder / "choice.json"
        complete = {
            number: scores for number, scores in select.items() if len(scores) == len(self._plan.seeds["select"])
        }
        if not path.exists() and complete:
            chosen = ranking.choose(complete, self._plan.objective)
            durable.write_json(path, {"chosen": chosen, "of": list(select)}, exclusive=True)
        content = durable.read_json(path)
        return [] if content is None else [int(number) for number in content["chosen"]]

    def _cells(self, trial: Trial | Claim, seeds: Sequence[int]) -> list[RunSpec]:
        return [self._plan.spec(trial.settings, trial.variant, seed) for seed in seeds]

    def _scores(self, block: Block, trial: Trial | Claim, seeds: Sequence[int]) -> Scores:
        found: Scores = {}
        for spec in self._cells(trial, seeds):
            run = RunDirectory(spec.directory(self._study.root(block)))
            if run.state == "done":
                found[spec.seed] = self._plan.objective.measure(run.metrics.read())
        return found

    def _finish(self, block: Block, specs: Sequence[RunSpec]) -> dict[Path, str]:
        """Run cells to their end, wherever they are worked on, and return why those failed that did so twice.

        Raises:
            Stopped: a signal came, or a job was cancelled.
            UserError: a run's ``run.json`` is damaged: no failure of its setting's, and mended by hand.
        """
        root = self._study.root(block)
        left = {spec.directory(root): spec for spec in specs}
        failures: dict[Path, list[str]] = {path: [] for path in left}
        while left:
            for path in left:
                if (path / "run.json").exists():
                    _ = RunDirectory(path).spec
            endings = launch.work(self._out, list(left.values()), root, self._executor, self._memory_gib)
            states = {ending.state for ending in endings.values()}
            if "interrupted" in states:
                raise Stopped(launch.EXIT_INTERRUPTED)
            if "cancelled" in states:
                raise Stopped(launch.EXIT_FAILED)
            for path, ending in endings.items():
                if ending.state == "failed":
                    failures[path].append(ending.reason)
            left = {path: spec for path, spec in left.items() if _once_more(endings.get(path), failures[path])}
            if any(endings[path].state == "elsewhere" for path in left):
                time.sleep(_LOOK_AGAIN_S)
        return {path: reasons[-1] for path, reasons in failures.items() if len(reasons) > 1}

    def describe(self, settings: Settings) -> str:
        """Return settings in words: ``alpha 0.32, lambda 0.95``."""
        return describe(self._study, settings)


def describe(study: Study, settings: Settings) -> str:
    """Return settings in words: ``alpha 0.32, lambda 0.95``."""
    labels = {parameter.name: parameter.label for parameter in study.plan.parameters}
    return ", ".join(
        f"{labels[name]} {value:.3g}" if isinstance(value, float) else f"{labels[name]} {value}"
        for name, value in settings.items()
    )


def trials_at_once(width: int, seeds: int, budget: int) -> int:
    """Return how many trials of so many seeds keep ``width`` workers busy to the end of a batch.

    The smallest number that wastes less than a tenth of them, else the one that wastes least.
    """
    most = max(1, math.floor(_MOST_AT_ONCE * budget))

    def busy(count: int) -> float:
        return count * seeds / (math.ceil(count * seeds / width) * width)

    options = range(min(most, max(1, width // seeds)), min(most, 2 * math.ceil(width / seeds)) + 1)
    return next((count for count in options if busy(count) > 0.9), max(options, key=busy))


def _once_more(ending: Ending | None, failures: Sequence[str]) -> bool:
    """Whether a cell is not settled: it is in other hands, or has failed once."""
    return ending is not None and (ending.state == "elsewhere" or (ending.state == "failed" and len(failures) == 1))
