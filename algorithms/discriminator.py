"""The discriminator of state-action pairs (eq. 3) and its regularisers."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from algorithms.config import AgentConfig
from algorithms.networks import mlp
from algorithms.objectives import discriminator_loss
from algorithms.precision import float32

Metrics = dict[str, Tensor]


class Discriminator(nn.Module):
    """One logit a pair: positive where the pair looks like the expert's."""

    def __init__(self, config: AgentConfig, feature_size: int, action_size: int) -> None:
        super().__init__()
        self.config = config
        self.layers = mlp(feature_size + action_size, config.disc_units, config.disc_layers, 1)

    def pairs(self, features: Tensor, actions: Tensor) -> Tensor:
        """Return the network's input [s, a]: (..., F), (..., A) -> (..., F + A)."""
        return torch.cat([features, self.config.disc_action_scale * actions], -1)

    def clean(self, pairs: Tensor) -> Tensor:
        """Return logits without instance noise, as the reward of replayed data is read: (..., F + A) -> (...)."""
        return self.layers(pairs).squeeze(-1).float()

    def forward(self, pairs: Tensor, generator: torch.Generator) -> Tensor:
        """Return logits (..., F + A) -> (...), through instance noise where that is the regulariser."""
        if self.config.disc_regularizer == "noise":
            noise = torch.randn(pairs.shape, generator=generator, device=pairs.device)
            pairs = pairs + self.config.disc_noise * noise
        return self.clean(pairs)

    def loss(self, expert: Tensor, policy: Tensor, generator: torch.Generator) -> tuple[Tensor, Metrics]:
        """Return eq. 3 plus the regulariser for detached pairs (N, F + A) and (M, F + A).

        The metrics hold both accuracies, and what they imply for the first term of eq. 1: the total variation
        between the two distributions is at least the sum of the accuracies minus one, and their Jensen-Shannon
        divergence at least log 2 - loss / 2 (nats).
        """
        expert_logits, policy_logits = self(expert, generator), self(policy, generator)
        loss = discriminator_loss(expert_logits, policy_logits)
        with float32():
            penalty = self._penalty(expert, policy, generator)
        accuracy_expert = (expert_logits > 0).float().mean()
        accuracy_policy = (policy_logits <= 0).float().mean()
        metrics = {
            "discriminator/loss": loss,
            "discriminator/penalty": penalty,
            "discriminator/accuracy_expert": accuracy_expert,
            "discriminator/accuracy_policy": accuracy_policy,
            "discriminator/logit_expert": expert_logits.mean(),
            "discriminator/logit_policy": policy_logits.mean(),
            "discriminator/total_variation": (accuracy_expert + accuracy_policy - 1).clamp(min=0),
            "discriminator/jensen_shannon": (0.6931471805599453 - loss / 2).clamp(min=0),
        }
        return loss + self.config.disc_penalty * penalty, metrics

    def _penalty(self, expert: Tensor, policy: Tensor, generator: torch.Generator) -> Tensor:
        """Return mean (|gradient| - target)^2 at interpolates, by input or (VMAIL) by parameters."""
        if self.config.disc_regularizer not in ("gp_input", "gp_param"):
            return expert.new_zeros(())
        count = min(len(expert), len(policy))
        mix = torch.rand(count, 1, generator=generator, device=expert.device)
        between = mix * expert[:count] + (1 - mix) * policy[:count]
        if self.config.disc_regularizer == "gp_input":
            between.requires_grad_(True)
            (gradient,) = torch.autograd.grad(self.layers(between).sum(), between, create_graph=True)
            norm = gradient.norm(dim=-1)
        else:
            gradients = torch.autograd.grad(
                self.layers(between).mean(),
                [*self.layers.parameters()],
                create_graph=True,
                materialize_grads=True,
            )
            norm = torch.cat([gradient.flatten() for gradient in gradients]).norm()
        return (norm - self.config.disc_penalty_target).square().mean()
