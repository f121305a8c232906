"""Estimates for a dry run: how long the missing cells take, and what they leave on the disk."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import chain
from pathlib import Path
from typing import Any

from ailft_bench import pretraining
from ailft_bench.cells import adapting_updates, planned_updates
from ailft_bench.found_runs import found_run
from ailft_bench.store import RunSpec, runs
from algorithms.config import AgentConfig

#: Seconds of an environment step with its picture and action, on one core of a recent processor.
ENV_STEP_S = {"ailft/Kitchen-v0": 0.012, "ailft/Push-v0": 0.003}
#: Seconds until a worker has imported everything and opened its environments.
START_S = 10
_HORIZON = 280


@dataclass(frozen=True)
class Estimate:
    """Seconds of work and bytes on the disk of a set of cells, and where the seconds come from.

    ``kept_bytes`` stay of all cells when they are done; the largest of them needs ``working_bytes`` more while it
    runs: its replay, and a second checkpoint as long as the next one is written.
    """

    work_s: float
    kept_bytes: int
    working_bytes: int
    basis: str

    def peak_bytes(self, at_once: int) -> int:
        """Return the most that can be in use with so many workers at once."""
        return self.kept_bytes + at_once * self.working_bytes


def estimate(specs: Sequence[RunSpec], results: Path) -> Estimate:
    """Estimate ``specs``: what they are planned to do, at the pace of finished runs of the suite and scale if any.

    ``work_s`` is for one worker after another; a pretraining that several cells can share counts once.
    """
    measured: dict[str, list[tuple[float, float]]] = {}
    for suite, scale in {(spec.suite, spec.scale) for spec in specs}:
        for run in map(found_run, runs(results, suite, scale)):
            if run.spec is not None and (seconds := run.directory.wall_time_s) is not None:
                measured.setdefault(run.spec.method, []).append((seconds, expected_seconds(run.spec)))
    everything = list(chain.from_iterable(measured.values()))
    total, pretrained_bytes = 0.0, 0
    begun = set()
    for spec in specs:
        # Of the same method if possible; of others what this machine is like.
        seconds = expected_seconds(spec) * _pace(measured.get(spec.method, everything))
        if beginning := pretraining.science(spec):
            key = json.dumps(beginning, sort_keys=True)
            if key in begun:
                seconds *= 1 - _pretraining_share(spec)
            else:
                begun.add(key)
                pretrained_bytes += _checkpoint_bytes(spec.agent)
        total += seconds
    count = f"{len(everything)} finished run{'s' if len(everything) > 1 else ''}"
    basis = f"at the pace of {count}" if everything else "rough: one core, nothing measured here yet"
    kept = sum(_checkpoint_bytes(spec.agent) for spec in specs) + pretrained_bytes
    working = max((_replay_bytes(spec) + _checkpoint_bytes(spec.agent) for spec in specs), default=0)
    return Estimate(total, kept, working, basis)


def _pace(measured: Sequence[tuple[float, float]]) -> float:
    """Return how many times as long as the built-in estimate runs (seconds, estimate) took; 1 if there are none."""
    return sum(seconds for seconds, _ in measured) / sum(expected for _, expected in measured) if measured else 1.0


def expected_seconds(spec: RunSpec) -> float:
    """Return how long a run takes one core of a recent processor, roughly; to weigh runs against each other."""
    agent = {**AgentConfig().as_dict(), **spec.agent}  # a run of an older version may lack some
    evaluations = 1 + (spec.env_steps // spec.evaluation["every"] if agent["online"] else 0)
    acting = _env_step_seconds(spec) * spec.env_steps if agent["online"] else 0.0
    updates, full = planned_updates(spec), 0
    if agent["adversarial"]:
        full = updates - agent["bc_pretrain"] - adapting_updates(spec)
    acting += evaluations * _evaluation_seconds(spec)
    return START_S + acting + updates * _model_update_seconds(agent) + full * _adversarial_update_seconds(agent)


def _pretraining_share(spec: RunSpec) -> float:
    """Return the share of a run that its pretraining and the evaluation after it take."""
    seconds = spec.agent["bc_pretrain"] * _model_update_seconds(spec.agent) + _evaluation_seconds(spec)
    return float(seconds / expected_seconds(spec))


def _evaluation_seconds(spec: RunSpec) -> float:
    """Return what one evaluation takes: episodes of mean and of sampled actions, and two that ask what actions do."""
    return 2 * (spec.evaluation["episodes"] + 1) * _horizon(spec) * _env_step_seconds(spec)


def _env_step_seconds(spec: RunSpec) -> float:
    return ENV_STEP_S.get(spec.environment["id"], max(ENV_STEP_S.values()))


def _model_update_seconds(agent: dict[str, Any]) -> float:
    """Return what a frame costs in the convolutions, fitted to depths of 8 to 32 on one core, times the frames."""
    if agent["policy"] == "image":  # the first convolution alone sees the whole stack, and nothing is decoded
        frames = agent["batch_size"] * (2 + agent["frame_stack"]) / 3
    else:
        frames = agent["batch_size"] * agent["sequence_length"]
    return float(0.03 + 1e-3 * frames * (0.02 * agent["depth"] + 0.005 * agent["depth"] ** 2))


def _adversarial_update_seconds(agent: dict[str, Any]) -> float:
    """Return what rollouts and those that learn from them cost, fitted to the presets on one core."""
    every = agent["batch_size"] * agent["sequence_length"]
    steps = agent["horizon"] * min(agent["imagination_starts"] or every, every)
    return float(0.02 + 0.01 * agent["horizon"] + 2e-9 * steps * agent["units"] ** 2)


def _replay_bytes(spec: RunSpec) -> int:
    size = spec.environment.get("image_size", 64)
    frames = spec.env_steps if spec.agent["online"] else 0
    frames += spec.demonstrations["episodes"] * _horizon(spec)
    return 3 * size * size * frames


def _checkpoint_bytes(agent: dict[str, Any]) -> int:
    copies = 4 if agent["average_decay"] else 3  # with Adam's two moments
    return copies * 4 * _parameters(agent)


def _horizon(spec: RunSpec) -> int:
    return int(spec.environment.get("horizon", _HORIZON))


def _parameters(agent: dict[str, Any]) -> int:
    """Return the number of parameters to within a factor of two (Adam keeps two more of each)."""
    depth, deter, hidden, units = (agent[name] for name in ("depth", "deter", "hidden", "units"))
    convolutions = 4200 * depth**2
    rssm = 3 * deter * (deter + hidden) + agent["ensemble_size"] * hidden * (deter + 2 * agent["stoch"])
    heads = units**2 * (agent["actor_layers"] + 2 * agent["n_critics"] * agent["critic_layers"])
    return int(convolutions + rssm + heads)
