"""Cells: the expansion of a suite at one scale into runs, and the identity of a run."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from ailft_bench.envs import all_arguments, environment_class
from ailft_bench.errors import UserError, nearest
from ailft_bench.store import SCHEMA_VERSION, RunSpec
from ailft_bench.suite import Suite
from algorithms.config import LATER

#: What one update costs, in environment steps: to weigh the two in displays and estimates.
UPDATE_IN_STEPS = 40


def expand(suite: Suite, scale: str, algorithms: Sequence[str] = (), seeds: Sequence[int] = ()) -> list[RunSpec]:
    """Return the runs of ``suite`` at ``scale``, seed by seed, so that an early stop leaves whole seeds.

    Args:
        suite: a loaded suite.
        scale: the name of one of its scales.
        algorithms: the algorithms to keep; all when empty.
        seeds: the seeds to run; the suite's own when empty.

    Raises:
        UserError: an unknown algorithm, or demonstrations that are not there.
    """
    from ailft_bench.demos.collection import SCRIPTED, demonstrations_checksum

    for name in algorithms:
        if name not in suite.algorithms:
            raise UserError(f"--algorithms {name}: not in suite {suite.name}; {nearest(name, suite.algorithms)}")
    resolved = suite.at(scale)
    env_id = resolved.environment.id
    env_kwargs = all_arguments(env_id, resolved.environment.kwargs)
    environment = {"id": env_id, "version": environment_class(env_id).version, **env_kwargs}
    demonstrations = resolved.demonstrations.model_dump()
    if demonstrations["source"] != SCRIPTED:
        demonstrations["source"] = str(Path(demonstrations["source"]).resolve())
    try:
        checksum = demonstrations_checksum(env_id, env_kwargs, **demonstrations)
    except UserError as error:
        where = f"suite {suite.name}, scale {scale}: demonstrations.source"
        hint = "" if demonstrations["source"] == SCRIPTED else f"; allowed: {SCRIPTED}, or a directory of episodes"
        raise UserError(f"{where}: {error}{hint}") from error
    size = suite.scales[scale]
    cells = []
    for seed in seeds or suite.seeds:
        for algorithm in algorithms or suite.algorithms:
            for variant in suite.variants_of(algorithm):
                spec = RunSpec(
                    run_id="",
                    suite=suite.name,
                    scale=scale,
                    algorithm=algorithm,
                    variant=variant,
                    method=suite.method_of(algorithm),
                    seed=seed,
                    environment=environment,
                    demonstrations={**demonstrations, "checksum": checksum},
                    env_steps=size.env_steps,
                    evaluation=resolved.evaluation.model_dump(),
                    checkpoint_every=size.checkpoint_every or resolved.evaluation.every,
                    agent=suite.agent(scale, algorithm, variant).as_dict(),
                )
                cells.append(spec.model_copy(update={"run_id": identity(spec)}))
    return cells


def identity(spec: RunSpec) -> str:
    """Return the run's id: a hash of the scientific configuration.

    Labels, checkpoints, provenance and the place of the demonstrations do not count: the same science has
    the same id whatever it is called and wherever it runs.
    """
    science = {
        "schema": SCHEMA_VERSION,
        "environment": spec.environment,
        "demonstrations": spec.demonstrations["checksum"],
        "method": spec.method,
        "agent": decided(spec.agent),
        "env_steps": spec.env_steps,
        "evaluation": spec.evaluation,
        "seed": spec.seed,
    }
    text = json.dumps(_canonical(science), sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def decided(agent: Mapping[str, Any]) -> dict[str, Any]:
    """Return an agent's settings without those that came later and have the value of before; see ``LATER``."""
    return {name: value for name, value in agent.items() if name not in LATER or value != LATER[name]}


def planned_updates(spec: RunSpec) -> int:
    """Return how many updates the run makes in all."""
    agent = spec.agent
    updates = agent["pretrain_updates"] + agent["bc_pretrain"]
    if agent["online"]:
        every = agent["train_every"]
        ticks = max(0, spec.env_steps // every - agent["prefill_steps"] // every)
        updates += adapting_updates(spec) + ticks * agent["updates_per_train"]
    return updates


def adapting_updates(spec: RunSpec) -> int:
    """Return how many cloning updates follow the run's prefill."""
    agent = spec.agent
    # Runs of before there were such updates have no such setting.
    return int(agent.get("adapt_updates", 0)) if agent["online"] and spec.env_steps > agent["prefill_steps"] else 0


def first_actor_step(agent: Mapping[str, Any]) -> int:
    """Return the environment step of the first online update in which the actor learns."""
    ticks = agent.get("actor_frozen_updates", 0) // agent["updates_per_train"] + 1
    return (agent["prefill_steps"] // agent["train_every"] + int(ticks)) * int(agent["train_every"])


def planned_work(spec: RunSpec) -> float:
    """Return the run's size in environment steps, an update counting as ``UPDATE_IN_STEPS``."""
    steps = spec.env_steps if spec.agent["online"] else 0
    return max(1.0, steps + UPDATE_IN_STEPS * planned_updates(spec))


def fraction_done(spec: RunSpec, env_step: int, updates: int) -> float:
    """Return how much of the run's work is done, 0 to 1."""
    return min(1.0, (env_step + UPDATE_IN_STEPS * updates) / planned_work(spec))


def _canonical(value: Any) -> Any:
    """Let 1 and 1.0 be the same number, and tuples the same as lists."""
    if isinstance(value, dict):
        return {str(key): _canonical(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_canonical(item) for item in value]
    if isinstance(value, float) and value.is_integer():
        return int(value)
    return value
