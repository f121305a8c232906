"""Action distributions on [-1, 1], reparameterised, with an explicit random generator."""

from __future__ import annotations

import math
from typing import Protocol

import torch
from torch import Tensor
from torch.nn import functional as F

_MARGIN = 1e-6


class ActionDistribution(Protocol):
    """What the actor returns: independent components, densities summed over the last dimension."""

    def rsample(self, generator: torch.Generator) -> tuple[Tensor, Tensor]:
        """Return a differentiable sample (..., A) and its log density (...)."""

    def mode(self) -> Tensor:
        """Return the deterministic action (..., A)."""

    def log_prob(self, action: Tensor) -> Tensor:
        """Return the log density of ``action``: (..., A) -> (...)."""


class TruncatedNormal:
    """A normal on [-1, 1], renormalised; mean inside the interval (the authors' later code)."""

    def __init__(self, mean: Tensor, std: Tensor) -> None:
        self.mean, self.std = mean, std
        self._low = _normal_cdf((-1 - mean) / std)
        self._mass = _normal_cdf((1 - mean) / std) - self._low

    def rsample(self, generator: torch.Generator) -> tuple[Tensor, Tensor]:
        """Sample by the inverse distribution function, so gradients are those of the truncated density."""
        uniform = torch.rand(self.mean.shape, generator=generator, device=self.mean.device, dtype=self.mean.dtype)
        probability = (self._low + uniform * self._mass).clamp(_MARGIN, 1 - _MARGIN)
        action = (self.mean + self.std * torch.special.ndtri(probability)).clamp(-1 + _MARGIN, 1 - _MARGIN)
        return action, self.log_prob(action)

    def mode(self) -> Tensor:
        """Return the mean of the untruncated normal, which is the density's maximum."""
        return self.mean

    def log_prob(self, action: Tensor) -> Tensor:
        """Return the log density, normalised over [-1, 1]."""
        z = (action - self.mean) / self.std
        log_density = -0.5 * z.square() - self.std.log() - 0.5 * math.log(2 * math.pi) - self._mass.log()
        return log_density.sum(-1)


class TanhNormal:
    """A normal squashed by tanh (VMAIL, Dreamer v1)."""

    def __init__(self, mean: Tensor, std: Tensor) -> None:
        self.mean, self.std = mean, std

    def rsample(self, generator: torch.Generator) -> tuple[Tensor, Tensor]:
        """Sample before the squashing and squash; the density is exact however saturated the sample is."""
        noise = torch.randn(self.mean.shape, generator=generator, device=self.mean.device, dtype=self.mean.dtype)
        raw = self.mean + self.std * noise
        return raw.tanh(), self._log_prob_of_raw(raw)

    def mode(self) -> Tensor:
        """Return the squashed mean, which is the median; the density's maximum is nearer to the border."""
        return self.mean.tanh()

    def log_prob(self, action: Tensor) -> Tensor:
        """Return the log density; actions at the border are moved inside by 1e-3."""
        inside = action.clamp(-1 + 1e-3, 1 - 1e-3)
        return self._log_prob_of_raw(torch.atanh(inside))

    def _log_prob_of_raw(self, raw: Tensor) -> Tensor:
        z = (raw - self.mean) / self.std
        log_normal = -0.5 * z.square() - self.std.log() - 0.5 * math.log(2 * math.pi)
        log_slope = 2 * (math.log(2) - raw - F.softplus(-2 * raw))
        return (log_normal - log_slope).sum(-1)


def _normal_cdf(x: Tensor) -> Tensor:
    return 0.5 * (1 + torch.erf(x / math.sqrt(2)))
