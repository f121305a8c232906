"""What the paper's theory asks to be measured on fresh episodes: is disagreement an honest error bar?"""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import Tensor

from algorithms import objectives

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


def _rank_correlation(x: Tensor, y: Tensor) -> float:
    """Return Spearman's correlation, 0 where one of the two is constant (as with a single member)."""
    if (x == x[0]).all() or (y == y[0]).all():
        return 0.0
    ranks = torch.stack([values.argsort().argsort().double() for values in (x, y)])
    return torch.corrcoef(ranks)[0, 1].item()
