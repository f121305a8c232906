"""What the method rests on, measured: is disagreement an honest error bar, and where do the gradients point?"""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import Tensor
from torch.nn import functional as F

from algorithms import objectives
from algorithms.imagination import imagine
from algorithms.rssm import Latent

if TYPE_CHECKING:
    from algorithms.agent import Agent


@torch.no_grad()
def calibration(agent: Agent, frames: Tensor, actions: Tensor, generator: torch.Generator) -> dict[str, float]:
    """Compare disagreement with the true one-step latent error on episodes that no update has seen.

    The second term of eq. 1 is the model's error under the policy's own states; eq. 4 replaces it by the
    ensemble's disagreement. That is sound only where the two go together: ``disagreement/calibration`` is
    their rank correlation (Spearman) over all steps, 1 where disagreement orders errors perfectly.

    Judged is the model that learns and imagines, whose ensemble the penalty reads, not an average that acts.

    Args:
        agent: whose model is judged.
        frames: folded uint8 (T, B, S/2, S/2, 12).
        actions: (T, B, A); each led to its frame.
        generator: for the posterior samples.

    Returns:
        The mean disagreement and the mean one-step error (root mean square over latent dimensions, between
        the ensemble's mean prediction and the posterior mean), the latter also for the quarters of the steps
        with the lowest and the highest disagreement, and the correlation.
    """
    errors, spreads = [], []
    for column in range(frames.shape[1]):  # one episode at a time bounds the memory of the encoder
        rows = slice(column, column + 1)
        posterior = agent.model.observe(frames[:, rows].to(agent.device), actions[:, rows].to(agent.device), generator)
        means = agent.model.rssm.prior_means(posterior.state.deter[1:])
        errors.append((means.mean(-2) - posterior.mean[1:]).square().mean(-1).sqrt())
        spreads.append(objectives.disagreement(means, agent.config.disagreement))
    error, spread = torch.cat(errors).flatten(), torch.cat(spreads).flatten()
    ordered = error[spread.argsort()]
    quarter = max(1, len(ordered) // 4)
    return {
        "disagreement/fresh": spread.mean().item(),
        "disagreement/calibration": _rank_correlation(spread, error),
        "model/one_step_error": error.mean().item(),
        "model/one_step_error_low_disagreement": ordered[:quarter].mean().item(),
        "model/one_step_error_high_disagreement": ordered[-quarter:].mean().item(),
    }


def directions(agent: Agent, frames: Tensor, actions: Tensor, generator: torch.Generator) -> dict[str, float]:
    """Compare where each term of the actor's objective pulls its action with where the expert's action lies.

    From the states of demonstrations the policy is rolled out as in an update. The gradient of each term of the
    first return (eq. 5) by the first action is set against the direction from that action to the expert's:
    a cosine of 1 says that the term teaches what cloning would, 0 that it knows nothing about it. What is random in
    the expert's action, no term can know.

    A first action drawn from the policy is beside its mean, and all that pulls it back there points to an expert whom
    the mean has nearly reached; from the mean itself it is seen what the policy would learn of the expert.

    Args:
        agent: whose rollouts, discriminator, ensemble and critics these are.
        frames: folded uint8 (T, B, S/2, S/2, 12) of demonstrations.
        actions: (T, B, A); each led to its frame.
        generator: for everything that is drawn.

    Returns:
        For ``reward`` (the discriminator's along the rollout), ``penalty`` (alpha times the disagreement, subtracted)
        and ``critics`` (the value that ends the return), as far as the objective has them: the mean cosine and the
        mean norm of the gradient by a drawn action (``cosine``, ``norm``) and by the policy's mean action
        (``mean_cosine``, ``mean_norm``).
    """
    with torch.no_grad():
        posterior = agent.model.observe(frames.to(agent.device), actions.to(agent.device), generator).state
        start = Latent(posterior.stoch[:-1].flatten(0, 1), posterior.deter[:-1].flatten(0, 1))
        policy = agent.actor(start.features)
        drawn, mean = policy.rsample(generator)[0], policy.mode()
    expert = actions[1:].flatten(0, 1).to(agent.device)
    measured = {}
    for of, first in (("", drawn), ("mean_", mean)):
        for name, gradient in _gradients(agent, start, first, generator).items():
            cosines = F.cosine_similarity(gradient, expert - first, dim=-1)
            measured[f"gradient/{name}_{of}cosine"] = cosines.mean().item()
            measured[f"gradient/{name}_{of}norm"] = gradient.norm(dim=-1).mean().item()
    return measured


def _gradients(agent: Agent, start: Latent, first: Tensor, generator: torch.Generator) -> dict[str, Tensor]:
    """Return the gradient (N, A) of each term of the first return by the first actions (N, A) from ``start``."""
    config = agent.config
    first = first.clone().requires_grad_(True)
    rollout = imagine(config, agent.model.rssm, agent.actor, start, generator, first)
    logits = agent.discriminator(agent.discriminator.pairs(rollout.features[:-1], rollout.actions[:-1]), generator)
    nothing = torch.zeros_like(rollout.disagreement)
    values = config.bootstrap * agent.critics.value(rollout.features, rollout.actions)
    rewards = {
        "reward": objectives.imitation_reward(logits, nothing, 0.0, config.reward_form),
        "penalty": -config.alpha * rollout.disagreement,
        "critics": nothing,
    }
    gradients = {}
    for name, reward in rewards.items():
        if (name == "penalty" and not config.alpha) or (name == "critics" and not config.bootstrap):
            continue
        own_values = values if name == "critics" else torch.zeros_like(values)
        returns = objectives.lambda_returns(reward, own_values, config.discount, config.lam)[0]
        (gradients[name],) = torch.autograd.grad(returns.sum(), first, retain_graph=True)
    return gradients


def _rank_correlation(x: Tensor, y: Tensor) -> float:
    """Return Spearman's correlation, 0 where one of the two is constant (as with a single member)."""
    if (x == x[0]).all() or (y == y[0]).all():
        return 0.0
    ranks = torch.stack([values.argsort().argsort().double() for values in (x, y)])
    return torch.corrcoef(ranks)[0, 1].item()
