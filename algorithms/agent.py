"""The agent: one update of equations 2 to 9, in the order in which the gradients may flow.

Gradient map. The model's loss (with a cloning term where ``model_bc_scale`` says so) trains encoder, RSSM and
decoder only. The discriminator's trains the discriminator only. The actor's trains the policy only, through the
reward (discriminator and every ensemble member), the critics, the GRU, the chosen members and earlier actions, all
of them frozen. The critics' loss trains the critics only; their inputs and targets are constants.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, cast

import numpy as np
import torch
from torch import Tensor, nn

from algorithms import objectives
from algorithms.actor import Actor
from algorithms.config import AgentConfig
from algorithms.critics import Critics
from algorithms.diagnostics import calibration, directions
from algorithms.discriminator import Discriminator
from algorithms.imagination import Rollout, imagine
from algorithms.learner import Learner, Metrics, to_floats
from algorithms.policy import LatentPolicy
from algorithms.precision import Precision, products_in
from algorithms.replay import Batch
from algorithms.rssm import Latent, Posterior
from algorithms.world_model import WorldModel


class Agent(Learner):
    """World model, discriminator, critics and actor.

    ``acting_model`` and ``acting_actor`` are what a policy acts with: the trained networks themselves, or with
    ``average_decay`` their averages over the updates.
    """

    def __init__(
        self,
        config: AgentConfig,
        image_size: int,
        action_size: int,
        seed: int,
        device: str = "cpu",
        precision: Precision = "float32",
    ) -> None:
        super().__init__(config, action_size, seed, device, precision)
        with self._first_weights(seed):
            self.model = WorldModel(config, image_size, action_size)
            size = self.model.feature_size
            self.discriminator = Discriminator(config, size, action_size)
            self.critics = Critics(config, size, action_size)
            self.actor = Actor(config, size, action_size)
        self._take(
            {
                "model": (self.model, config.model_lr),
                "discriminator": (self.discriminator, config.disc_lr),
                "critics": (self.critics, config.critic_lr),
                "actor": (self.actor, config.actor_lr),
            },
            averaged=("model", "actor"),
        )

    @property
    def acting_model(self) -> WorldModel:
        """The world model that filters for a policy."""
        return cast(WorldModel, self._acting("model"))

    @property
    def acting_actor(self) -> Actor:
        """The actor that acts for a policy."""
        return cast(Actor, self._acting("actor"))

    def center(self, frame: Tensor) -> None:
        """Take a mean frame as the background; see ``FrameScaling.center``."""
        self.model.center(frame)
        self.acting_model.center(frame)

    def policy(self, sample: bool, generator: torch.Generator) -> LatentPolicy:
        """Return a policy that acts in one environment; see ``LatentPolicy``."""
        return LatentPolicy(self, sample, generator)

    def judge(self, frames: Tensor, actions: Tensor, generator: torch.Generator) -> dict[str, float]:
        """Return what fresh episodes say of the model; see ``diagnostics.calibration``."""
        return calibration(self, frames, actions, generator)

    @torch.no_grad()
    def foresee(self, belief: dict[str, Any], actions: np.ndarray) -> np.ndarray:
        """See ``Learner.foresee``: the ensemble's mean predictions by the model that acts, drawn by its decoder."""
        model = self.acting_model
        given = torch.from_numpy(actions).to(self.device)
        state = Latent(*(belief[name].expand(given.shape[1], -1) for name in ("stoch", "deter")))
        for action in given:
            deter = model.rssm.advance(state, action)
            state = Latent(model.rssm.prior_means(deter).mean(-2), deter)
        return model.decoder(state.features).movedim(-3, -1).cpu().numpy()

    def directions(self, demonstrations: Batch, generator: torch.Generator) -> dict[str, float]:
        """Return where the terms of the actor's objective point on demonstrations; see ``diagnostics.directions``."""
        return directions(self, demonstrations.frames, demonstrations.actions, generator)

    def clone(self, batch: Batch, expert: Batch | None, bc_scale: float, lr_scale: float = 1.0) -> dict[str, float]:
        """Update the model on ``batch`` (eq. 2) and the actor by ``bc_scale`` x behaviour cloning, no more.

        ``lr_scale`` multiplies both learning rates.
        """
        with products_in(self.precision, self.device):
            metrics = self._clone(*self._to_device(batch, expert), bc_scale, lr_scale)
        self._count_update()
        return to_floats(metrics)

    def update(self, batch: Batch, expert: Batch | None, train_actor: bool = True) -> dict[str, float]:
        """Do one full update: model, discriminator, actor, critics, all from the same rollouts.

        Args:
            batch: replayed sequences; the first ``batch.expert_rows`` rows are expert ones.
            expert: expert sequences, needed where ``batch`` has no expert rows.
            train_actor: False leaves the policy as it is, while everything that judges it learns.

        Returns:
            Diagnostics by their names in the results' schema.
        """
        with products_in(self.precision, self.device):
            metrics = self._update(*self._to_device(batch, expert), train_actor)
        self._count_update()
        if self.updates % self.config.target_every == 0:
            self.critics.update_targets()
        return to_floats(metrics)

    def compile(self, backend: str = "inductor") -> None:
        """Compile encoder, decoder, actor, critics and the steps of the RSSM; see ``Learner.compile``."""
        for module in (self.model.encoder, self.model.decoder, self.actor.layers, *self.critics.online):
            module.compile(backend=backend)
        for name in ("advance", "infer", "imagine"):
            setattr(self.model.rssm, name, torch.compile(getattr(self.model.rssm, name), backend=backend))

    def _clone(self, batch: Batch, expert: Batch | None, bc_scale: float, lr_scale: float) -> Metrics:
        posterior, metrics = self._update_model(batch, lr_scale)
        features, actions = self._expert_pairs(batch, posterior, expert, metrics)
        loss, cloning_metrics = self._cloning_loss(features, actions)
        if bc_scale > 0:
            self._step("actor", bc_scale * loss, cloning_metrics, lr_scale)
        return metrics | cloning_metrics

    def _update(self, batch: Batch, expert: Batch | None, train_actor: bool) -> Metrics:
        posterior, metrics = self._update_model(batch)
        expert_features, expert_actions = self._expert_pairs(batch, posterior, expert, metrics)
        starts = self._draw_starts(batch.frames.shape[0], batch.frames.shape[1])
        with _frozen(self.model, self.critics):
            rollout = imagine(
                self.config,
                self.model.rssm,
                self.actor,
                posterior.state.detach().select(starts),
                self.generator,
            )
            metrics |= self._update_discriminator(batch, posterior, expert_features, expert_actions, rollout)
            with _frozen(self.discriminator):
                rewards, reward_metrics = self._rewards(rollout)
                metrics |= reward_metrics
                metrics |= self._update_actor(rollout, rewards, expert_features, expert_actions, train_actor)
        return metrics | self._update_critics(batch, posterior, starts, rollout, rewards.detach())

    def _update_model(self, batch: Batch, lr_scale: float = 1.0) -> tuple[Posterior, Metrics]:
        loss, posterior, metrics = self.model.loss(batch.frames, batch.actions, self.generator)
        if self.config.model_bc_scale > 0:
            rows = slice(batch.expert_rows)
            with _frozen(self.actor):
                cloning, _ = self._cloning_loss(posterior.state.features[:-1, rows], batch.actions[1:, rows])
            loss = loss + self.config.model_bc_scale * cloning
        self._step("model", loss, metrics, lr_scale)
        detached = Posterior(posterior.state.detach(), posterior.mean.detach(), posterior.std.detach())
        if batch.expert_rows < batch.frames.shape[1]:
            metrics["disagreement/replay"] = self._mean_disagreement(detached.state.deter[:, batch.expert_rows :])
        return detached, metrics

    def _expert_pairs(
        self, batch: Batch, posterior: Posterior, expert: Batch | None, metrics: Metrics
    ) -> tuple[Tensor, Tensor]:
        """Return expert states and the actions taken there: (T-1, R, F), (T-1, R, A)."""
        if batch.expert_rows:
            rows = slice(batch.expert_rows)
            state = Latent(posterior.state.stoch[:, rows], posterior.state.deter[:, rows])
            actions = batch.actions[:, rows]
        elif expert is not None:
            with torch.no_grad():
                state = self.model.observe(expert.frames, expert.actions, self.generator, augment=True).state
            actions = expert.actions
        else:
            raise ValueError("a batch without expert rows needs an expert batch beside it")
        metrics["disagreement/expert"] = self._mean_disagreement(state.deter)
        return state.features[:-1], actions[1:]

    @torch.no_grad()
    def _mean_disagreement(self, deter: Tensor) -> Tensor:
        """Return the ensemble's mean disagreement about the states (T, B, H) that follow the first ones."""
        return objectives.disagreement(self.model.rssm.prior_means(deter[1:]), self.config.disagreement).mean()

    def _draw_starts(self, length: int, rows: int) -> Tensor:
        """Return flat positions (time x row) of the states that rollouts start from.

        All of them, or a subset drawn among those that have a predecessor, which eq. 8 needs.
        """
        count = self.config.imagination_starts
        if count is None or count >= length * rows:
            return torch.arange(length * rows, device=self.device)
        order = torch.randperm((length - 1) * rows, generator=self.generator, device=self.device)
        return rows + order[:count]

    def _update_discriminator(
        self,
        batch: Batch,
        posterior: Posterior,
        expert_features: Tensor,
        expert_actions: Tensor,
        rollout: Rollout,
    ) -> Metrics:
        config, pairs = self.config, self.discriminator.pairs
        positives = pairs(expert_features, expert_actions).flatten(0, 1)
        imagined = pairs(rollout.features[:-1].detach(), rollout.actions[:-1].detach()).flatten(0, 1)
        own = slice(batch.expert_rows if batch.expert_rows < batch.frames.shape[1] else 0, None)
        replayed = pairs(posterior.state.features[:-1, own], batch.actions[1:, own]).flatten(0, 1)
        negatives = {"model": imagined, "replay": replayed, "both": torch.cat([imagined, replayed])}
        metrics: Metrics = {}
        for _ in range(config.disc_steps):
            expert = self._subset(positives)
            policy = self._subset(negatives[config.disc_negatives])
            loss, metrics = self.discriminator.loss(expert, policy, self.generator)
            self._step("discriminator", loss, metrics)
        return metrics

    def _subset(self, pairs: Tensor) -> Tensor:
        """Return ``disc_pairs`` of the pairs (N, ...) in random order, or all of them."""
        order = torch.randperm(len(pairs), generator=self.generator, device=self.device)
        return pairs[order[: self.config.disc_pairs]]

    def _rewards(self, rollout: Rollout) -> tuple[Tensor, Metrics]:
        """Return eq. 4 along the rollouts (H, N)."""
        config = self.config
        logits = self.discriminator(
            self.discriminator.pairs(rollout.features[:-1], rollout.actions[:-1]), self.generator
        )
        rewards = objectives.imitation_reward(logits, rollout.disagreement, config.alpha, config.reward_form)
        return rewards, {
            "disagreement/imagined": rollout.disagreement.mean(),
            "disagreement/imagined_max": rollout.disagreement.max(),
            "disagreement/penalty": config.alpha * rollout.disagreement.mean(),
            "actor/reward": rewards.mean(),
            "actor/logit_magnitude": logits.abs().mean(),
        }

    def _update_actor(
        self, rollout: Rollout, rewards: Tensor, expert_features: Tensor, expert_actions: Tensor, train: bool
    ) -> Metrics:
        """Eq. 6, with the entropy bonus and the behaviour-cloning term where configured."""
        config = self.config
        if config.bootstrap:
            values = self.critics.value(rollout.features, rollout.actions)
        else:  # nothing would read them; the critics' own targets ask all the same, for the number drawn there
            values = rollout.actions.new_zeros(rollout.actions.shape[:-1])
        returns = objectives.lambda_returns(rewards, values, config.discount, config.lam)
        weights = self._weights(returns)
        loss = objectives.actor_loss(weights * returns, weights * values[:-1], config.lam)
        loss = loss + config.entropy * (weights * rollout.log_prob).mean()
        cloning, metrics = self._cloning_loss(expert_features, expert_actions)
        if config.bc_scale > 0:
            loss = loss + config.bc_scale * cloning
        metrics |= {
            "actor/loss": loss,
            "actor/return": returns.mean(),
            "actor/entropy": -rollout.log_prob.mean(),
            "actor/saturation": (rollout.actions.abs() > 0.97).float().mean(),
        }
        if train:
            self._step("actor", loss, metrics)
        return metrics

    def _cloning_loss(self, features: Tensor, actions: Tensor) -> tuple[Tensor, Metrics]:
        """Return -log pi(a_E | s_E), and how far the mean action is from the expert's."""
        policy = self.actor(features)
        loss = -policy.log_prob(actions).mean()
        error = (policy.mode() - actions).square().mean()
        return loss, {"actor/demo_nll": loss, "actor/demo_mse": error}

    def _update_critics(
        self, batch: Batch, posterior: Posterior, starts: Tensor, rollout: Rollout, rewards: Tensor
    ) -> Metrics:
        """Eq. 7 on the rollouts and eq. 8 on the replayed transitions that lead to their first states."""
        config = self.config
        features, actions = rollout.features.detach(), rollout.actions.detach()
        values = config.bootstrap * self.critics.target_value(features, actions, self.generator)
        targets = objectives.lambda_returns(rewards, values, config.discount, config.lam)
        weights = self._weights(targets).sqrt()
        q = self.critics(features[:-1], actions[:-1])
        model_loss = torch.stack([objectives.critic_model_loss(weights * qi, weights * targets) for qi in q]).mean()
        metrics = {"critic/model_loss": model_loss, "critic/value": q.mean(), "critic/target": targets.mean()}
        loss = model_loss
        if config.data_critic_loss:
            data_loss = self._critic_data_loss(batch, posterior, starts, values[0], targets[0])
            metrics["critic/data_loss"] = data_loss
            loss = loss + data_loss
        self._step("critics", loss, metrics)
        return metrics

    def _critic_data_loss(
        self, batch: Batch, posterior: Posterior, starts: Tensor, values: Tensor, returns: Tensor
    ) -> Tensor:
        """Eq. 8 for the transitions s_j, a_j -> s_{j+1} whose s_{j+1} is a rollout's first state.

        ``values`` and ``returns`` (N,) belong to the rollouts' first states at flat positions ``starts``.
        """
        config, rows = self.config, batch.frames.shape[1]
        # Drawn starts all have a predecessor (see _draw_starts); of all of them, the first rows have none.
        first = rows if len(starts) == batch.frames.shape[0] * rows else 0
        after = starts[first:]
        features = posterior.state.select(after - rows).features
        actions = batch.actions.flatten(0, 1)[after]
        with torch.no_grad():
            logits = self.discriminator.clean(self.discriminator.pairs(features, actions))
            means = self.model.rssm.prior_means(posterior.state.select(after).deter)
            penalty = objectives.disagreement(means, config.disagreement)
            alpha = config.alpha if config.penalize_data_reward else 0.0
            rewards = objectives.imitation_reward(logits, penalty, alpha, config.reward_form)
            targets = objectives.critic_data_targets(
                rewards, values[first:], returns[first:], config.discount, config.lam
            )
        return torch.stack([objectives.critic_data_loss(qi, targets) for qi in self.critics(features, actions)]).mean()

    def _weights(self, like: Tensor) -> Tensor:
        """Return the weight of each step (H, 1): one, or discount^t."""
        steps = torch.arange(len(like), device=like.device, dtype=like.dtype)[:, None]
        return self.config.discount**steps if self.config.discount_weights else torch.ones_like(steps)

    def _to_device(self, batch: Batch, expert: Batch | None) -> tuple[Batch, Batch | None]:
        return batch.to(self.device), expert and expert.to(self.device)


@contextmanager
def _frozen(*modules: nn.Module) -> Iterator[None]:
    """Let gradients pass through the modules without reaching their parameters."""
    parameters = [parameter for module in modules for parameter in module.parameters() if parameter.requires_grad]
    for parameter in parameters:
        parameter.requires_grad_(False)
    try:
        yield
    finally:
        for parameter in parameters:
            parameter.requires_grad_(True)
