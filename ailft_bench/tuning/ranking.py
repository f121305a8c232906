"""Ranking: which settings go on to the next block of seeds, and which trials are given up. Pure functions."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from ailft_bench.tuning.objective import Objective
from ailft_bench.tuning.trials import Scores, Trial, mean

#: Settings that are run again on the second block.
CANDIDATES = 3
#: No trial is given up before this share of all trials has finished.
PRUNE_AFTER_TRIALS = 0.25


def candidates(trials: Sequence[Trial], objective: Objective, count: int = CANDIDATES) -> list[Trial]:
    """Return the finished trials that are run again, best first, each setting once.

    With one objective the best by their means, feasible ones first; with two the ends and the middle of the Pareto
    front.
    """
    distinct = {trial.variant: trial for trial in reversed(trials) if trial.state == "done"}
    done = sorted(distinct.values(), key=lambda trial: trial.number)
    if len(objective.names) == 1:
        return sorted(done, key=lambda trial: merit(trial.scores, objective), reverse=True)[:count]
    front = pareto_front({trial.number: trial.scores for trial in done}, objective)
    by_score = sorted(
        (trial for trial in done if trial.number in front), key=lambda t: t.mean(objective.primary), reverse=True
    )
    if len(by_score) <= count:
        return by_score
    return [by_score[round(place * (len(by_score) - 1) / (count - 1))] for place in range(count)]


def choose(scores: Mapping[int, Scores], objective: Objective) -> list[int]:
    """Return the number of the best candidate on the second block; with two objectives all of its front."""
    if len(objective.names) == 1:
        return [max(scores, key=lambda number: merit(scores[number], objective))]
    return [number for number in scores if number in pareto_front(scores, objective)]


def merit(scores: Scores, objective: Objective) -> tuple[float, float]:
    """Return what settings are ranked by, higher is better: what exceeds the allowed cost, then the score."""
    means = {name: mean(scores, name) for name in objective.measures}
    return -max(0.0, objective.violation(means)), means[objective.primary]


def feasible(scores: Scores, objective: Objective) -> bool:
    """Whether settings cost no more than is allowed."""
    return merit(scores, objective)[0] == 0


def pareto_front(scores: Mapping[int, Scores], objective: Objective) -> set[int]:
    """Return the settings than which no other is as good in both objectives and better in one."""
    signs = [-1.0 if name == "cost" else 1.0 for name in objective.names]
    points = {
        number: [sign * mean(own, name) for sign, name in zip(signs, objective.names, strict=True)]
        for number, own in scores.items()
    }

    def beats(a: Sequence[float], b: Sequence[float]) -> bool:
        return a != b and all(x >= y for x, y in zip(a, b, strict=True))

    return {number for number, own in points.items() if not any(beats(other, own) for other in points.values())}


def rival(finished: Sequence[Trial], objective: Objective, budget: int) -> Trial | None:
    """Return the trial that others must not lose to on every seed: the last one that would be run again.

    None as long as less than ``PRUNE_AFTER_TRIALS`` of the ``budget``, or fewer than would be run again, have
    finished: an early lead is luck. None too where that one costs more than is allowed: whatever is feasible goes
    before it, and a score decides nothing.
    """
    best = candidates(finished, objective)
    enough = sum(trial.state == "done" for trial in finished) >= PRUNE_AFTER_TRIALS * budget
    return best[-1] if enough and len(best) == CANDIDATES and feasible(best[-1].scores, objective) else None


def loses_every_pair(scores: Scores, other: Scores, measure: str) -> bool:
    """Whether a trial is worse than another one on each of its seeds so far, the same seeds of both."""
    return all(own[measure] < other[seed][measure] for seed, own in scores.items())
