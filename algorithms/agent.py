"""The agent: one update of equations 2 to 9, in the order in which the gradients may flow.

Gradient map. The model's loss (with a cloning term where ``model_bc_scale`` says so) trains encoder, RSSM and
decoder only. The discriminator's trains the discriminator only. The actor's trains the policy only, through the
reward (discriminator and every ensemble member), the critics, the GRU, the chosen members and earlier actions, all
of them frozen. The critics' loss trains the critics only; their inputs and targets are constants.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from copy import deepcopy
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from algorithms import objectives
from algorithms.actor import Actor
from algorithms.config import AgentConfig
from algorithms.critics import Critics
from algorithms.discriminator import Discriminator
from algorithms.imagination import Rollout, imagine
from algorithms.precision import Precision, float32, products_in
from algorithms.replay import Batch
from algorithms.rssm import Latent, Posterior
from algorithms.world_model import Metrics, WorldModel


class Agent:
    """World model, discriminator, critics and actor with their optimisers and one random generator.

    ``acting_model`` and ``acting_actor`` are what a policy acts with: the trained networks themselves, or with
    ``average_decay`` their averages over the updates. ``precision`` is that of products and convolutions in updates
    (see ``algorithms.precision``); it may be changed between them.
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
        self.config = config
        self.device = torch.device(device)
        self.precision = precision
        self.generator = torch.Generator(self.device).manual_seed(seed)
        self.action_size = action_size
        self.updates = 0
        with torch.random.fork_rng():
            # Not the seed of the generator above: its first draws would be the very bits of the first weights.
            torch.manual_seed(int(np.random.SeedSequence([seed, 1]).generate_state(1)[0]))
            self.model = WorldModel(config, image_size, action_size).to(self.device)
            size = self.model.feature_size
            self.discriminator = Discriminator(config, size, action_size).to(self.device)
            self.critics = Critics(config, size, action_size).to(self.device)
            self.actor = Actor(config, size, action_size).to(self.device)
        self._modules: dict[str, nn.Module] = {
            "model": self.model,
            "discriminator": self.discriminator,
            "critics": self.critics,
            "actor": self.actor,
        }
        self._start_averages()
        rates = (config.model_lr, config.disc_lr, config.critic_lr, config.actor_lr)
        self._rates = dict(zip(self._modules, rates, strict=True))
        self._optimizers = {
            name: torch.optim.AdamW(
                [parameter for parameter in module.parameters() if parameter.requires_grad],
                lr=self._rates[name],
                eps=config.adam_eps,
                # A share of the weight in each step, as in the authors' code: AdamW multiplies it by the rate.
                weight_decay=config.weight_decay / self._rates[name] if self._rates[name] else 0.0,
                fused=True,
            )
            for name, module in self._modules.items()
        }

    def center(self, frame: Tensor) -> None:
        """Take a mean frame as the background; see ``WorldModel.center``."""
        self.model.center(frame)
        self.acting_model.background.copy_(self.model.background)

    def settle(self) -> None:
        """Let the trained networks go on from their averages, where there are any."""
        for name, average in self._averages.items():
            self._modules[name].load_state_dict(average.state_dict())

    def clone(self, batch: Batch, expert: Batch | None, bc_scale: float, lr_scale: float = 1.0) -> dict[str, float]:
        """Update the model on ``batch`` (eq. 2) and the actor by ``bc_scale`` x behaviour cloning, no more.

        ``lr_scale`` multiplies both learning rates.
        """
        with products_in(self.precision, self.device):
            metrics = self._clone(*self._to_device(batch, expert), bc_scale, lr_scale)
        self.updates += 1
        self._average()
        return _to_floats(metrics)

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
        self.updates += 1
        self._average()
        if self.updates % self.config.target_every == 0:
            self.critics.update_targets()
        return _to_floats(metrics)

    def compile(self, backend: str = "inductor") -> None:
        """Compile what holds no random numbers (``torch.compile``); the first updates then take minutes.

        Raises:
            RuntimeError: at the first update, where there is no compiler.
        """
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
        values = config.bootstrap * self.critics.value(rollout.features, rollout.actions)
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

    def _step(self, name: str, loss: Tensor, metrics: Metrics, lr_scale: float = 1.0) -> None:
        optimizer, module = self._optimizers[name], self._modules[name]
        for group in optimizer.param_groups:
            group["lr"] = lr_scale * self._rates[name]
        optimizer.zero_grad(set_to_none=True)
        with float32():  # backward computes in the types of forward by itself
            loss.backward()
            norm = nn.utils.clip_grad_norm_(module.parameters(), self.config.grad_clip)
            optimizer.step()
        metrics[f"{name.removesuffix('s')}/grad_norm"] = norm

    def _start_averages(self) -> None:
        self.acting_model, self.acting_actor = self.model, self.actor
        self._averages: dict[str, nn.Module] = {}
        if self.config.average_decay:
            self.acting_model = deepcopy(self.model).requires_grad_(False)
            self.acting_actor = deepcopy(self.actor).requires_grad_(False)
            self._averages = {"model": self.acting_model, "actor": self.acting_actor}

    @torch.no_grad()
    def _average(self) -> None:
        """Move the averages towards the networks, at first faster: the first weights are nothing to remember."""
        decay = min(self.config.average_decay, (1 + self.updates) / (10 + self.updates))
        for name, average in self._averages.items():
            module = self._modules[name]
            for slow, fast in zip(average.parameters(), module.parameters(), strict=True):
                slow.lerp_(fast, 1 - decay)
            for kept, current in zip(average.buffers(), module.buffers(), strict=True):
                kept.copy_(current)

    def _to_device(self, batch: Batch, expert: Batch | None) -> tuple[Batch, Batch | None]:
        return batch.to(self.device), expert and expert.to(self.device)

    def state_dict(self) -> dict[str, Any]:
        """Return everything the next update depends on, random generator included."""
        return {
            "updates": self.updates,
            "generator": self.generator.get_state(),
            "modules": {name: module.state_dict() for name, module in self._modules.items()},
            "averages": {name: module.state_dict() for name, module in self._averages.items()},
            "optimizers": {name: optimizer.state_dict() for name, optimizer in self._optimizers.items()},
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Restore what ``state_dict`` returned, on the same kind of device: random streams differ between kinds.

        Raises:
            ValueError: the state is of another kind of device.
        """
        if state["generator"].numel() != self.generator.get_state().numel():
            raise ValueError(f"saved on another kind of device than {self.device.type}; go on where it began")
        self.load_networks(state)
        self.updates = state["updates"]
        self.generator.set_state(state["generator"].cpu())
        for name, optimizer in self._optimizers.items():
            optimizer.load_state_dict(state["optimizers"][name])

    def load_networks(self, state: dict[str, Any]) -> None:
        """Restore the networks alone, from any device: enough to act and to be evaluated."""
        for name, module in self._modules.items():
            module.load_state_dict(state["modules"][name])
        for name, module in self._averages.items():
            module.load_state_dict(state["averages"][name])


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


def _to_floats(metrics: Metrics) -> dict[str, float]:
    """Bring all diagnostics to the host in one transfer."""
    values = torch.stack([value.detach().float() for value in metrics.values()]).tolist()
    return dict(zip(metrics, values, strict=True))
