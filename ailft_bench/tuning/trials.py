"""Trials: settings that were drawn, who works on them, and what became of them.

A trial belongs to the process that holds its lease. Optuna calls it RUNNING until it is told a value; where such a
trial has no live holder, its process has died or was stopped, and the next one that asks for work takes it over. Its
runs go on from their checkpoints.
"""

from __future__ import annotations

import json
import time
import warnings
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, field
from math import isfinite
from statistics import fmean
from typing import TYPE_CHECKING, Any, Literal

from ailft_bench import durable
from ailft_bench.store.lease import Lease, LeaseHeldError
from ailft_bench.tuning.plan import Settings
from ailft_bench.tuning.study import Study

if TYPE_CHECKING:
    import optuna

State = Literal["done", "pruned", "failed", "open"]
#: By seed, each measure of the objective.
Scores = dict[int, dict[str, float]]

_STATES: dict[str, State] = {"COMPLETE": "done", "PRUNED": "pruned", "FAIL": "failed"}
_LOOK_AGAIN_S = 0.5


@dataclass(frozen=True)
class Trial:
    """One trial; ``variant`` names its runs: those of the first trial with the same settings."""

    number: int
    state: State
    settings: Settings
    variant: str
    scores: Scores = field(default_factory=dict)
    reason: str = ""

    def mean(self, measure: str) -> float:
        """Return the mean over seeds."""
        return mean(self.scores, measure)


@dataclass(frozen=True)
class Claim:
    """A trial that this process works on."""

    number: int
    settings: Settings
    variant: str
    handle: optuna.Trial


def mean(scores: Scores, measure: str) -> float:
    """Return the mean of a measure over seeds."""
    return fmean(row[measure] for row in scores.values())


class Trials:
    """The trials of one study, seen from one process."""

    def __init__(self, study: Study) -> None:
        self._study = study
        self._plan = study.plan
        self._leases = study.folder / "leases"

    def read(self) -> list[Trial]:
        """Return all trials that were begun, by number."""
        return _trials(self._begun(self._study.optuna()), self._plan.defaults)

    @contextmanager
    def claim(self, wanted: int) -> Iterator[list[Claim]]:
        """Give up to ``wanted`` trials to this process for the block: abandoned ones first, then new ones.

        None are left when the budget is used up and all others are finished or in the hands of live processes.
        """
        with ExitStack() as leases:
            with self._turn():
                claims = self._take(wanted, leases)
            yield claims

    def finish(self, claim: Claim, scores: Scores) -> None:
        """Tell Optuna the means over seeds, and keep all that they are made of."""
        objective = self._plan.objective
        means = {name: mean(scores, name) for name in objective.measures}
        if not all(map(isfinite, means.values())):
            self.fail(claim, f"not a number: {means}")
            return
        with _unless_finished():
            self._note(claim, scores)
            self._study.optuna().tell(claim.number, [means[name] for name in objective.names], skip_if_finished=True)

    def prune(self, claim: Claim, scores: Scores, reason: str) -> None:
        """Give a trial up after some of its seeds."""
        import optuna

        with _unless_finished():
            self._note(claim, scores, reason)
            claim.handle.report(mean(scores, self._plan.objective.primary), len(scores))
            self._study.optuna().tell(claim.number, state=optuna.trial.TrialState.PRUNED, skip_if_finished=True)

    def fail(self, claim: Claim, reason: str) -> None:
        """Note that a trial's settings cannot be measured."""
        import optuna

        with _unless_finished():
            claim.handle.set_user_attr("reason", reason)
            self._study.optuna().tell(claim.number, state=optuna.trial.TrialState.FAIL, skip_if_finished=True)

    def _note(self, claim: Claim, scores: Scores, reason: str = "") -> None:
        claim.handle.set_user_attr("scores", {str(seed): row for seed, row in scores.items()})
        objective = self._plan.objective
        if objective.max_cost is not None:
            with warnings.catch_warnings():  # that it is set already, by a process that died right after
                warnings.simplefilter("ignore")
                claim.handle.set_constraint("cost", objective.violation({"cost": mean(scores, "cost")}))
        if reason:
            claim.handle.set_user_attr("reason", reason)

    def _take(self, wanted: int, leases: ExitStack) -> list[Claim]:
        import optuna

        study = self._study.optuna()
        self._enqueue_first(study)
        begun = self._begun(study)
        handles: list[optuna.Trial] = []
        for trial in begun:
            if trial.state.is_finished() or len(handles) == wanted:
                continue
            if self._lease(trial.number, leases) and not self._finished_meanwhile(trial.number):
                handles.append(optuna.trial.Trial(self._study.optuna(trial.number), trial._trial_id))
        for number in range(len(begun), min(self._plan.trials, len(begun) + wanted - len(handles))):
            handle = self._study.optuna(number).ask()
            if self._lease(handle.number, leases):
                handles.append(handle)
        settings = {handle.number: self._settings(handle) for handle in handles}
        variants = {trial.number: trial.variant for trial in self.read()}
        return [Claim(handle.number, settings[handle.number], variants[handle.number], handle) for handle in handles]

    def _enqueue_first(self, study: optuna.Study) -> None:
        """See that the defaults and alpha = 0 are the first trials, whoever was killed while doing so."""
        first = self._plan.first_settings[: self._plan.trials]
        for settings in first[len(study.get_trials(deepcopy=False)) :]:
            inside = all(parameter.contains(settings[parameter.name]) for parameter in self._plan.parameters)
            study.enqueue_trial(settings if inside else {}, user_attrs={"settings": settings})

    def _settings(self, handle: optuna.Trial) -> Settings:
        """Return what the trial tries, drawn now if it was not yet."""
        known = handle.user_attrs.get("settings")
        parameters = self._plan.parameters
        if known is None or all(parameter.contains(known[parameter.name]) for parameter in parameters):
            drawn = {parameter.name: parameter.suggest(handle) for parameter in parameters}
            if known is None:
                handle.set_user_attr("settings", drawn)
                return drawn
        return dict(known)

    def _begun(self, study: optuna.Study) -> list[optuna.trial.FrozenTrial]:
        return [trial for trial in study.get_trials(deepcopy=False) if trial.state.name != "WAITING"]

    def _finished_meanwhile(self, number: int) -> bool:
        return self._study.optuna().get_trials(deepcopy=False)[number].state.is_finished()

    def _lease(self, number: int, leases: ExitStack) -> bool:
        """Hold the lease of a trial until ``leases`` ends, if no live process has it."""
        with suppress(LeaseHeldError):
            leases.enter_context(Lease(self._leases / f"trial-{number}.json").hold())
            return True
        return False

    @contextmanager
    def _turn(self) -> Iterator[None]:
        """Take turns: one process at a time counts trials and asks for new ones."""
        with durable.storage_errors(self._leases):
            self._leases.mkdir(exist_ok=True)
        with ExitStack() as turn:
            while True:
                with suppress(LeaseHeldError):
                    turn.enter_context(Lease(self._leases / "turn.json").hold())
                    break
                time.sleep(_LOOK_AGAIN_S)
            yield


def _trials(frozen: list[optuna.trial.FrozenTrial], defaults: Mapping[str, Any]) -> list[Trial]:
    names = {_key(defaults): "default"}
    found = []
    for trial in frozen:
        attributes = trial.user_attrs
        settings = attributes.get("settings", {})
        variant = names.setdefault(_key(settings), f"trial-{trial.number}")
        scores = {int(seed): row for seed, row in attributes.get("scores", {}).items()}
        state = _STATES.get(trial.state.name, "open")
        found.append(Trial(trial.number, state, settings, variant, scores, attributes.get("reason", "")))
    return found


def _key(settings: Mapping[str, Any]) -> str:
    """Return what tells settings apart: 3 and 3.0 are one, 1 and true are not."""

    def plain(value: Any) -> Any:
        return int(value) if isinstance(value, float) and value.is_integer() else value

    return json.dumps({name: plain(value) for name, value in settings.items()}, sort_keys=True)


@contextmanager
def _unless_finished() -> Iterator[None]:
    """A process that was suspended, and taken for dead, finds its trial told by another, from the same runs."""
    from optuna.exceptions import UpdateFinishedTrialError

    with suppress(UpdateFinishedTrialError):
        yield
