"""Schedule: the phases of one run, how far it is, and which phase comes next.

The order is that of the authors' code, but for the fourth, which is ours: full updates on the demonstrations, model
and behaviour-cloning updates on them, environment steps without learning, model and behaviour-cloning updates on both,
then updates every few environment steps. A phase with a budget of zero is skipped.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from algorithms.config import AgentConfig

Phase = Literal["pretrain", "clone", "prefill", "adapt", "online", "done"]


@dataclass
class Counters:
    """How far a run is."""

    pretrained: int = 0
    cloned: int = 0
    adapted: int = 0
    online_updates: int = 0
    env_step: int = 0
    episode: int = 0
    ticks: int = 0  # updates outside the online phase and environment steps: the unit of checkpoint_every
    evaluated_at: int = -1
    wall_time_s: float = 0.0


@dataclass(frozen=True)
class Schedule:
    """The budgets of one run: updates of the phases without episodes from ``config``, and ``env_steps``."""

    config: AgentConfig
    env_steps: int

    def phase(self, counters: Counters) -> Phase:
        """Return the phase that a run which is so far goes on with."""
        config = self.config
        if counters.pretrained < config.pretrain_updates:
            return "pretrain"
        if counters.cloned < config.bc_pretrain:
            return "clone"
        if not config.online or counters.env_step >= self.env_steps:
            return "done"
        if counters.env_step < config.prefill_steps:
            return "prefill"
        return "adapt" if counters.adapted < config.adapt_updates else "online"

    def progress(self, phase: Phase, counters: Counters) -> tuple[int, int]:
        """Return how much of ``phase`` is done, and its budget: updates, or environment steps where it takes any."""
        if phase == "pretrain":
            return counters.pretrained, self.config.pretrain_updates
        if phase == "clone":
            return counters.cloned, self.config.bc_pretrain
        if phase == "adapt":
            return counters.adapted, self.config.adapt_updates
        return counters.env_step, self.env_steps
