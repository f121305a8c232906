"""The world model: encoder, RSSM and decoder, fitted to sequences by the evidence lower bound (eq. 2)."""

from __future__ import annotations

import math

import torch
from torch import Tensor
from torch.nn import functional as F

from algorithms.config import AgentConfig
from algorithms.frames import FrameScaling
from algorithms.learner import Metrics
from algorithms.networks import Decoder, Encoder
from algorithms.objectives import gaussian_kl
from algorithms.rssm import RSSM, Latent, Posterior


class WorldModel(FrameScaling):
    """Learns latent states from frames and actions; no reward head, no discount head."""

    def __init__(self, config: AgentConfig, image_size: int, action_size: int) -> None:
        super().__init__(image_size, config.center_frames, config.random_shift)
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

    def observe(self, frames: Tensor, actions: Tensor, generator: torch.Generator, augment: bool = False) -> Posterior:
        """Filter folded uint8 frames (T, B, S/2, S/2, 12); ``actions[t]`` (T, B, A) led to ``frames[t]``.

        ``augment`` shifts each sequence at random, as training does, where ``random_shift`` says so.
        """
        scaled = self.scaled(frames)
        if augment:
            scaled = self.shifted(scaled, generator)
        return self.rssm.observe(self.encoder(scaled), actions, generator)

    def loss(self, frames: Tensor, actions: Tensor, generator: torch.Generator) -> tuple[Tensor, Posterior, Metrics]:
        """Return the negative ELBO a frame, in nats, and the posterior it was computed from.

        The frame's log probability is summed over pixels; the KL is balanced and has free nats on its mean
        over the batch, by configuration. Seen and drawn are the shifted frames, where ``random_shift`` says so.
        """
        config, scaled = self.config, self.shifted(self.scaled(frames), generator)
        posterior = self.rssm.observe(self.encoder(scaled), actions, generator)
        shape = (len(frames),) if not config.member_per_row else tuple(frames.shape[:2])
        prior_mean, prior_std = self.rssm.prior(posterior.state.deter, self.rssm.draw_members(shape, generator))
        error = F.mse_loss(self.decoder(posterior.state.features), scaled, reduction="sum")
        reconstruction = 0.5 * error / (scaled.shape[0] * scaled.shape[1])
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

    def step(self, state: Latent, action: Tensor, frame: Tensor, generator: torch.Generator) -> Latent:
        """Filter one folded uint8 frame (B, S/2, S/2, 12), given the state before it and the action that led to it."""
        rssm = self.rssm
        deter = rssm.advance(state, action)
        mean, std = rssm.infer(deter, rssm.posterior_embedding(self.encoder(self.scaled(frame))))
        noise = torch.randn(mean.shape, generator=generator, device=mean.device)
        return Latent(mean + std * noise, deter)
