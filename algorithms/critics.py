"""The critics: m Q-functions (or state values), their target copies, and how several become one value."""

from __future__ import annotations

import copy

import torch
from torch import Tensor, nn

from algorithms.config import AgentConfig
from algorithms.networks import mlp


class Critics(nn.Module):
    """Online and target networks; the targets follow by hard copies or Polyak averaging."""

    def __init__(self, config: AgentConfig, feature_size: int, action_size: int) -> None:
        super().__init__()
        self.config = config
        inputs = feature_size + (action_size if config.critic == "Q" else 0)
        self.online = nn.ModuleList(mlp(inputs, config.units, config.critic_layers, 1) for _ in range(config.n_critics))
        self.target = copy.deepcopy(self.online).requires_grad_(False)

    def forward(self, features: Tensor, actions: Tensor) -> Tensor:
        """Return Q_i(s, a) of the online critics: (..., F), (..., A) -> (m, ...)."""
        return self._evaluate(self.online, features, actions)

    def value(self, features: Tensor, actions: Tensor) -> Tensor:
        """Return V_0(s) = min_i Q_i(s, a) by the online critics, the actor's bootstrap (eq. 5)."""
        return self(features, actions).amin(0)

    @torch.no_grad()
    def target_value(self, features: Tensor, actions: Tensor, generator: torch.Generator) -> Tensor:
        """Return V_0(s) by the target critics: their minimum, or one of them drawn for the whole call."""
        values = self._evaluate(self.target, features, actions)
        drawn = torch.randint(len(values), (1,), generator=generator, device=values.device)
        return values.amin(0) if self.config.target_reduce == "min" else values.index_select(0, drawn)[0]

    @torch.no_grad()
    def update_targets(self) -> None:
        """Move the targets towards the online critics by ``target_tau``."""
        for target, online in zip(self.target.parameters(), self.online.parameters(), strict=True):
            target.lerp_(online, self.config.target_tau)

    def _evaluate(self, networks: nn.ModuleList, features: Tensor, actions: Tensor) -> Tensor:
        inputs = torch.cat([features, actions], -1) if self.config.critic == "Q" else features
        return torch.stack([network(inputs).squeeze(-1) for network in networks]).float()
