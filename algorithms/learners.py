"""Which learner a configuration asks for: the agent with its world model, or plain cloning."""

from __future__ import annotations

from algorithms.agent import Agent
from algorithms.cloner import Cloner
from algorithms.config import AgentConfig
from algorithms.learner import Learner
from algorithms.precision import Precision

_LEARNERS: dict[str, type[Agent] | type[Cloner]] = {"latent": Agent, "image": Cloner}


def build(
    config: AgentConfig,
    image_size: int,
    action_size: int,
    seed: int,
    device: str = "cpu",
    precision: Precision = "float32",
) -> Learner:
    """Return a new learner for ``config.policy``; arguments as ``Agent``'s."""
    return _LEARNERS[config.policy](config, image_size, action_size, seed, device, precision)
