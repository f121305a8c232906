"""A run's specification for tests of the harness, and a suite file."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from ailft_bench.cells import identity
from ailft_bench.store import RunSpec
from algorithms.config import AgentConfig

SUITE = """\
name: toy
description: a suite of the tests
environment: {id: ailft/Push-v0, image_size: 64, start_noise: 0.02}
demonstrations: {episodes: 2}
settings: {discount: 0.98}
algorithms:
  conservative:
  vmail: {}
  k1: {method: conservative, ensemble_size: 1}
variants:
  mild: {alpha: 1, only: [conservative]}
seeds: 2
evaluation: {episodes: 2, every: 100}
scales:
  smoke:
    preset: smoke
    env_steps: 200
    settings: {discount: 0.9}
    environment: {start_noise: 0.01}
  cpu: {preset: cpu, env_steps: 1000, checkpoint_every: 50}
"""


def write_suite(folder: Path, text: str = SUITE) -> Path:
    path = folder / "toy.yaml"
    path.write_text(text)
    return path


def make_spec(**changes: Any) -> RunSpec:
    fields: dict[str, Any] = {
        "run_id": "",
        "suite": "toy",
        "scale": "smoke",
        "algorithm": "conservative",
        "variant": "default",
        "method": "conservative",
        "seed": 0,
        "environment": {"id": "ailft/Push-v0", "version": 1, "image_size": 64},
        "demonstrations": {"source": "scripted", "episodes": 2, "seed": 0, "checksum": "c0ffee"},
        "env_steps": 200,
        "evaluation": {"episodes": 2, "every": 100},
        "checkpoint_every": 50,
        "agent": AgentConfig().as_dict(),
    }
    spec = RunSpec(**{**fields, **changes})
    return spec.model_copy(update={"run_id": identity(spec)})
