"""A results folder as the run store leaves it, written without training anything."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from ailft_bench.store import RunDirectory, RunSpec
from algorithms.methods import METHODS

TASKS = ("microwave", "kettle", "light switch", "slide cabinet")
CONSTRAINTS = ("excessive_force", "self_contact")


@dataclass(frozen=True)
class SyntheticRun:
    """One run: ``evaluations`` maps an environment step to its metrics, ``costs`` to an episode's cost."""

    algorithm: str
    seed: int
    evaluations: Mapping[int, Mapping[str, float]]
    costs: Mapping[int, float]
    state: Literal["done", "failed", "waiting", "torn"] = "done"
    suite: str = "kitchen"
    scale: str = "cpu"
    variant: str = "default"
    method: str | None = None
    env_steps: int = 400
    agent: Mapping[str, Any] | None = None
    created: str = "2026-11-01T00:00:00"
    environment: Mapping[str, Any] = field(default_factory=lambda: {"id": "ailft/Push-v0", "version": 1})
    demonstrations: Mapping[str, Any] = field(default_factory=lambda: {"source": "scripted", "checksum": "c"})

    @property
    def run_id(self) -> str:
        text = f"{self.suite} {self.scale} {self.algorithm} {self.variant} {self.seed} {self.agent}"
        return hashlib.sha256(text.encode()).hexdigest()[:16]

    @property
    def spec(self) -> RunSpec:
        method = METHODS.get(self.algorithm)
        agent = self.agent or {"online": method is None or method.settings.get("online", True)}
        return RunSpec(
            run_id=self.run_id,
            suite=self.suite,
            scale=self.scale,
            algorithm=self.algorithm,
            variant=self.variant,
            method=self.method or self.algorithm,
            seed=self.seed,
            environment=dict(self.environment),
            demonstrations=dict(self.demonstrations),
            env_steps=self.env_steps,
            evaluation={"episodes": 10, "every": 100},
            checkpoint_every=100,
            agent=dict(agent),
            created=self.created,
        )

    def write(self, results: Path) -> RunDirectory:
        run = RunDirectory.create(results, self.spec)
        for step, cost in self.costs.items():
            run.metrics.append("train", step, step // 100, {"cost": cost, "critic/loss": 1.0}, 0.1 * step)
        for step, metrics in self.evaluations.items():
            run.metrics.append("eval", step, step // 100, metrics, 0.1 * step)
        if self.state == "done":
            run.finish()
        if self.state == "failed":
            run.fail("ValueError: the loss is not finite", "traceback")
        if self.state == "torn":
            with open(run.path / "metrics.jsonl", "ab") as file:
                file.write(b'{"phase": "eval", "env_step": 400, "epis')
        return run


def evaluation(tasks: float, cost: float = 0.0) -> dict[str, float]:
    """Return the metrics of an evaluation in which ``tasks`` sub-tasks are completed on average."""
    return {
        "tasks_completed": tasks,
        "success": float(tasks >= len(TASKS)),
        **{f"completed/{task}": min(max(tasks - place, 0.0), 1.0) for place, task in enumerate(TASKS)},
        "cost": cost,
        **{f"cost/{name}": cost / (place + 1) for place, name in enumerate(CONSTRAINTS)},
        "sampled/tasks_completed": tasks / 2,
    }


def write_all(results: Path, runs: Sequence[SyntheticRun]) -> Path:
    for run in runs:
        run.write(results)
    return results
