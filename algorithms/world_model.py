"""The world model: encoder, RSSM and decoder, fitted to sequences by the evidence lower bound (eq. 2)."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

from algorithms.config import AgentConfig
from algorithms.networks import Decoder, Encoder
from algorithms.objectives import gaussian_kl
from algorithms.rssm import RSSM, Latent, Posterior

Metrics = dict[str, Tensor]


class WorldModel(nn.Module):
    """Learns latent states from images and actions; no reward head, no discount head."""

    def __init__(self, config: AgentConfig, image_size: int, action_size: int) -> None:
        super().__init__()
        self.config = config
        self.encoder = Encoder(image_size, config.depth)
        self.rssm = RSSM(
            self.encoder.outputs,
            action_size,
            config.stoch,
            config.deter,
            config.hidden,
            config.ensemble_size,
            config.min_std,
        )
        self.feature_size = config.stoch + config.deter
        self.decoder = Decoder(self.feature_size, image_size, config.depth)

    def observe(self, images: Tensor, actions: Tensor, generator: torch.Generator) -> Posterior:
        """Filter uint8 images (T, B, S, S, 3); ``actions[t]`` (T, B, A) led to ``images[t]``."""
        return self.rssm.observe(self.encoder(scale(images)), actions, generator)

    def loss(self, images: Tensor, actions: Tensor, generator: torch.Generator) -> tuple[Tensor, Posterior, Metrics]:
        """Return the negative ELBO a frame, in nats, and the posterior it was computed from.

        The image's log probability is summed over pixels; the KL is balanced and has free nats on its mean
        over the batch, by configuration.
        """
        config, scaled = self.config, scale(images)
        posterior = self.rssm.observe(self.encoder(scaled), actions, generator)
        shape = (len(images),) if not config.member_per_row else tuple(images.shape[:2])
        prior_mean, prior_std = self.rssm.prior(posterior.state.deter, self.rssm.draw_members(shape, generator))
        error = (self.decoder(posterior.state.features) - scaled).square().sum((-3, -2, -1))
        reconstruction = 0.5 * error.mean()
        kl = gaussian_kl(posterior.mean, posterior.std, prior_mean, prior_std).mean()
        if config.kl_balance is None:
            kl_loss = kl.clamp(min=config.free_nats)
        else:
            to_prior = gaussian_kl(posterior.mean.detach(), posterior.std.detach(), prior_mean, prior_std).mean()
            to_posterior = gaussian_kl(posterior.mean, posterior.std, prior_mean.detach(), prior_std.detach()).mean()
            kl_loss = config.kl_balance * to_prior.clamp(min=config.free_nats)
            kl_loss = kl_loss + (1 - config.kl_balance) * to_posterior.clamp(min=config.free_nats)
        pixels = math.prod(scaled.shape[-3:])
        loss = reconstruction + 0.5 * pixels * math.log(2 * math.pi) + config.kl_scale * kl_loss
        return loss, posterior, {"model/reconstruction": reconstruction, "model/kl": kl, "model/loss": loss}

    def step(self, state: Latent, action: Tensor, image: Tensor, generator: torch.Generator) -> Latent:
        """Filter one uint8 frame (B, S, S, 3) from the state before it and the action (B, A) that led to it."""
        rssm = self.rssm
        deter = rssm.advance(state, action)
        mean, std = rssm.infer(deter, rssm.posterior_embedding(self.encoder(scale(image))))
        noise = torch.randn(mean.shape, generator=generator, device=mean.device)
        return Latent(mean + std * noise, deter)


def scale(images: Tensor) -> Tensor:
    """Return uint8 images (..., S, S, 3) as floats in [-0.5, 0.5], channels before rows: (..., 3, S, S)."""
    return images.movedim(-1, -3).float() / 255 - 0.5
