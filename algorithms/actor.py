"""The policy network: from a latent state to a distribution over actions."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from algorithms.config import AgentConfig
from algorithms.distributions import ActionDistribution, TanhNormal, TruncatedNormal
from algorithms.networks import mlp


class Actor(nn.Module):
    """An MLP policy; ``trunc_normal`` has its mean inside [-1, 1], ``tanh_normal`` is squashed."""

    def __init__(self, config: AgentConfig, feature_size: int, action_size: int) -> None:
        super().__init__()
        self.config = config
        self.layers = mlp(feature_size, config.units, config.actor_layers, 2 * action_size)
        self._raw_init_std = math.log(math.expm1(config.actor_init_std))

    def forward(self, features: Tensor) -> ActionDistribution:
        """Return pi(. | s) for features (..., F)."""
        mean, raw = self.layers(features).float().chunk(2, -1)
        if self.config.action_distribution == "trunc_normal":
            return TruncatedNormal(mean.tanh(), 2 * (raw / 2).sigmoid() + self.config.actor_min_std)
        # Bounded pre-activations: a saturated tanh has no gradient to come back by (VMAIL).
        return TanhNormal(5 * (mean / 5).tanh(), F.softplus(raw + self._raw_init_std) + self.config.actor_min_std)

    def act(self, features: Tensor, sample: bool, noise: float, generator: torch.Generator) -> Tensor:
        """Return the mean action or a sample, plus Gaussian noise of this standard deviation, without gradient."""
        with torch.no_grad():
            policy = self(features)
            action = policy.rsample(generator)[0] if sample else policy.mode()
            if not noise:
                return action
            drawn = torch.randn(action.shape, generator=generator, device=action.device)
            return (action + noise * drawn).clamp(-1, 1)
