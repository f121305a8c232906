"""Scripted experts: what one is, and which environment has one."""

from __future__ import annotations

import importlib
from typing import ClassVar, Protocol

import numpy as np

from ailft_bench.envs import environment_class
from ailft_bench.envs.base import ImitationEnv
from ailft_bench.errors import UserError


class Expert(Protocol):
    """Solves an environment from its simulator's state; made after ``env.reset``, one for each episode."""

    version: ClassVar[int]
    """Raised by hand whenever the same seed would act differently."""

    def __init__(self, env: ImitationEnv, rng: np.random.Generator) -> None:
        """Draw the variations of this episode (jitter, speed) from ``rng``."""

    def act(self) -> np.ndarray:
        """Return the next action, float32 (A,) in [-1, 1]."""


#: Environment id, as suites spell it -> "module:class", imported when asked for. A module that registers an
#: environment of its own may add an entry.
EXPERTS: dict[str, str] = {
    "ailft/Kitchen-v0": "ailft_bench.demos.kitchen_expert:KitchenExpert",
    "ailft/Push-v0": "ailft_bench.demos.push_expert:PushExpert",
}


def expert_for(env_id: str) -> type[Expert]:
    """Return the expert class of an environment, whose own module has its turn to add one first.

    Raises:
        UserError: there is no such environment, or it has no scripted expert.
    """
    known = f"environments with a scripted expert: {', '.join(sorted(EXPERTS))}"
    if env_id not in EXPERTS:
        try:
            environment_class(env_id)
        except LookupError as error:
            raise UserError(f"{error}; {known}") from error
    if env_id not in EXPERTS:
        raise UserError(
            f"{env_id}: no scripted expert; {known}; name a directory of demonstrations as their source, or add an "
            "expert to ailft_bench.demos.experts.EXPERTS"
        )
    module, name = EXPERTS[env_id].split(":")
    return getattr(importlib.import_module(module), name)
