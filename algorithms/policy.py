"""A policy: an agent acting in one environment, and what of it a checkpoint must hold in mid-episode."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Protocol

import numpy as np
import torch

from algorithms.frames import fold
from algorithms.rssm import Latent

if TYPE_CHECKING:
    from algorithms.agent import Agent


class Policy(Protocol):
    """Acts in one environment, and can be saved in mid-episode.

    ``noise`` is the standard deviation of the Gaussian noise on its actions, zero unless set.
    """

    noise: float

    def reset(self) -> None:
        """Forget the episode."""

    def act(self, image: np.ndarray) -> np.ndarray:
        """Return the action (A,) for the next uint8 image (S, S, 3) of the episode."""

    def state_dict(self) -> dict[str, Any]:
        """Return the state in mid-episode, random generator included."""

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Continue an episode where ``state_dict`` left it."""


class LatentPolicy:
    """An agent acting in one environment: the filtered latent state and the last action.

    ``sample`` draws actions from the policy, otherwise its mean action is taken.
    Random numbers come from ``generator``, never from the agent's own: acting leaves learning as it was.
    """

    noise = 0.0

    def __init__(self, agent: Agent, sample: bool, generator: torch.Generator) -> None:
        self._agent, self._sample, self._generator = agent, sample, generator
        self.reset()

    def reset(self) -> None:
        """Forget the episode."""
        self._latent = self._agent.acting_model.rssm.initial(1)
        self._action = torch.zeros(1, self._agent.action_size, device=self._agent.device)

    def act(self, image: np.ndarray) -> np.ndarray:
        """Return the action (A,) for the next uint8 image (S, S, 3) of the episode."""
        frame = torch.from_numpy(fold(image))[None].to(self._agent.device)
        with torch.no_grad():
            self._latent = self._agent.acting_model.step(self._latent, self._action, frame, self._generator)
        self._action = self._agent.acting_actor.act(self._latent.features, self._sample, self.noise, self._generator)
        return self._action[0].cpu().numpy()

    def state_dict(self) -> dict[str, Any]:
        """Return the state in mid-episode, random generator included."""
        return {
            "stoch": self._latent.stoch,
            "deter": self._latent.deter,
            "action": self._action,
            "generator": self._generator.get_state(),
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Continue an episode where ``state_dict`` left it."""
        device = self._agent.device
        self._latent = Latent(state["stoch"].to(device), state["deter"].to(device))
        self._action = state["action"].to(device)
        self._generator.set_state(state["generator"].cpu())
