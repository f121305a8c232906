"""On-policy rollouts inside the world model: what the discriminator, the actor and the critics learn from."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from algorithms import objectives
from algorithms.actor import Actor
from algorithms.config import AgentConfig
from algorithms.rssm import RSSM, Latent


@dataclass(frozen=True)
class Rollout:
    """N rollouts of H steps; everything is differentiable with respect to the policy's parameters.

    Attributes:
        features: states s^0 .. s^H, (H+1, N, F).
        actions: a^0 .. a^H drawn from the policy at each state, (H+1, N, A).
        disagreement: of the ensemble at (s^t, a^t), (H, N).
        log_prob: of a^0 .. a^{H-1}, (H, N).
    """

    features: Tensor
    actions: Tensor
    disagreement: Tensor
    log_prob: Tensor


def imagine(
    config: AgentConfig,
    rssm: RSSM,
    actor: Actor,
    start: Latent,
    generator: torch.Generator,
    first_action: Tensor | None = None,
) -> Rollout:
    """Roll the policy out for ``config.horizon`` steps from ``start`` (N rows).

    The state that the policy reads carries no gradient (VMAIL, Dreamer); the state that the model, the
    reward and the critics read does. ``first_action`` (N, A) takes the place of the policy's first one.
    """
    rows, horizon = len(start.deter), config.horizon
    members = rssm.draw_members((horizon, rows) if config.member_per_row else (horizon,), generator)
    noise = torch.randn(horizon, rows, rssm.stoch, generator=generator, device=start.deter.device)
    state = start
    features, actions, disagreements, log_probs = [], [], [], []
    for step in range(horizon):
        features.append(state.features)
        policy = actor(features[-1].detach())
        action, log_prob = policy.rsample(generator)
        if step == 0 and first_action is not None:
            action, log_prob = first_action, policy.log_prob(first_action)
        log_probs.append(log_prob)
        actions.append(action)
        state, means = rssm.imagine(state, action, members[step], noise[step])
        disagreements.append(objectives.disagreement(means, config.disagreement))
    features.append(state.features)
    actions.append(actor(features[-1].detach()).rsample(generator)[0])
    return Rollout(*(torch.stack(values) for values in (features, actions, disagreements, log_probs)))
