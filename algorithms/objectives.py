"""The paper's equations as pure functions on tensors: no networks, no state, no random numbers.

Time comes first: H is the horizon, T a sequence's length, B any trailing batch shape, K the ensemble's
members, D the latent size. Everything is differentiable, works in float32 and float64, and is finite, as
are its gradients, where ensemble members coincide.
"""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor
from torch.nn import functional as F

Reduction = Literal["mean", "sum", "l2"]
RewardForm = Literal["logit", "prob", "gail"]


def gaussian_kl(mean_q: Tensor, std_q: Tensor, mean_p: Tensor, std_p: Tensor) -> Tensor:
    """Return KL(q || p) of diagonal Gaussians in nats, summed over the last dimension (eq. 2): (..., D) -> (...)."""
    ratio = (std_q / std_p).square()
    distance = ((mean_q - mean_p) / std_p).square()
    return 0.5 * (ratio + distance - 1 - ratio.log()).sum(-1)


def discriminator_loss(expert_logits: Tensor, policy_logits: Tensor) -> Tensor:
    """Return eq. 3, -mean log D(expert) - mean log(1 - D(policy)), from logits of any shapes: a scalar."""
    return F.softplus(-expert_logits).mean() + F.softplus(policy_logits).mean()


def disagreement(means: Tensor, reduction: Reduction = "mean") -> Tensor:
    """Return the ensemble's disagreement (..., K, D) -> (...), the penalty's statistic in eq. 4.

    The population standard deviation (divisor K) of the members' predicted means, reduced over latent
    dimensions by ``mean``, ``sum`` or ``l2`` norm. Exactly zero, with zero gradient, where members coincide.
    """
    variance = means.var(-2, correction=0)
    if reduction == "l2":
        return _safe_sqrt(variance.sum(-1))
    std = _safe_sqrt(variance)
    return std.mean(-1) if reduction == "mean" else std.sum(-1)


def _safe_sqrt(x: Tensor) -> Tensor:
    """Return the square root with gradient zero, not NaN, at zero (0 x NaN would poison even alpha = 0)."""
    positive = x > 0
    return torch.where(positive, torch.where(positive, x, torch.ones_like(x)).sqrt(), torch.zeros_like(x))


def imitation_reward(logits: Tensor, disagreement: Tensor, alpha: float, form: RewardForm = "logit") -> Tensor:
    """Return eq. 4: the discriminator's reward minus ``alpha`` times the disagreement; shapes (...) alike.

    Forms: ``logit`` is the paper's log D - log(1 - D), which is the logit itself; ``prob`` is D (VMAIL and
    the authors' later code); ``gail`` is -log(1 - D).
    """
    if form == "logit":
        reward = logits
    elif form == "prob":
        reward = logits.sigmoid()
    else:
        reward = F.softplus(logits)
    return reward - alpha * disagreement


def lambda_returns(rewards: Tensor, values: Tensor, discount: float, lam: float) -> Tensor:
    """Return the TD(lambda) returns of eq. 5: (H, B), (H+1, B) -> (H, B).

    ``rewards[t]`` is r(s^t, a^t), the reward for arriving at t+1, and ``values[t]`` is V_0(s^t); the last
    value bootstraps. Recursively R^t = r^t + discount ((1 - lam) V_0(s^{t+1}) + lam R^{t+1}).
    """
    if values.shape[0] != rewards.shape[0] + 1:
        raise ValueError(f"values must have one step more than rewards, got {values.shape} and {rewards.shape}")
    returns = []
    following = values[-1]
    for reward, value in zip(reversed(rewards.unbind(0)), reversed(values[1:].unbind(0)), strict=True):
        following = reward + discount * ((1 - lam) * value + lam * following)
        returns.append(following)
    return torch.stack(returns[::-1])


def actor_loss(returns: Tensor, values: Tensor, lam: float) -> Tensor:
    """Return eq. 6, -mean[lam V(s^t) + (1 - lam) V_0(s^t)]: (H, B), (H, B) -> scalar."""
    return -(lam * returns + (1 - lam) * values).mean()


def critic_model_loss(q: Tensor, targets: Tensor) -> Tensor:
    """Return eq. 7 for one critic, the mean squared error on imagined pairs: (H, B), (H, B) -> scalar."""
    return (q - targets).square().mean()


def critic_data_targets(
    rewards: Tensor, next_values: Tensor, next_returns: Tensor, discount: float, lam: float
) -> Tensor:
    """Return the targets of eq. 8 on consecutive replay states, each argument (T-1, B) -> (T-1, B).

    ``rewards[j]`` is r(s_j, a_j) with the stored action; ``next_values[j]`` and ``next_returns[j]`` are the
    target critics' V_0(s_{j+1}) and the lambda-return of the rollout that starts at s_{j+1}.
    """
    return rewards + discount * ((1 - lam) * next_values + lam * next_returns)


def critic_data_loss(q: Tensor, targets: Tensor) -> Tensor:
    """Return eq. 8 for one critic, the mean squared error on replayed pairs: (T-1, B), (T-1, B) -> scalar."""
    return (q - targets).square().mean()
