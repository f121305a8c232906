"""The whole update: which gradients flow and which stop, and what each switch changes."""

import dataclasses
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from algorithms import objectives
from algorithms.agent import Agent
from algorithms.config import PRESETS, AgentConfig
from algorithms.imagination import imagine
from algorithms.methods import METHODS
from algorithms.policy import LatentPolicy
from algorithms.replay import Batch

ACTIONS = 3
SMALL = PRESETS["smoke"] | {"sequence_length": 6, "imagination_starts": None, "disc_pairs": None}


def config(**changes: Any) -> AgentConfig:
    return AgentConfig.from_settings(SMALL | changes)


def batch(settings: AgentConfig, seed: int = 0) -> Batch:
    rng = np.random.default_rng(seed)
    shape = (settings.sequence_length, settings.batch_size)
    frames = rng.integers(0, 256, (*shape, 32, 32, 12), dtype=np.uint8)
    actions = rng.uniform(-1, 1, (*shape, ACTIONS)).astype(np.float32)
    expert_rows = settings.expert_rows
    begins = torch.zeros(frames.shape[1], dtype=torch.bool)
    return Batch(torch.from_numpy(frames), torch.from_numpy(actions), expert_rows, begins)


def trained(settings: AgentConfig, updates: int = 2) -> tuple[Agent, list[dict[str, float]]]:
    agent = Agent(settings, 64, ACTIONS, seed=1)
    expert = None if settings.demo_batch_fraction else dataclasses.replace(batch(settings, 99), expert_rows=0)
    metrics = []
    for update in range(updates):
        step = agent.update if settings.adversarial else lambda b, e: agent.clone(b, e, 1.0)
        metrics.append(step(batch(settings, update), expert))
    return agent, metrics


def parameters(agent: Agent) -> dict[str, Tensor]:
    state = agent.state_dict()["modules"]
    return {f"{module}.{name}": tensor for module in state for name, tensor in state[module].items()}


def test_vmail_is_the_conservative_method_with_alpha_zero_bit_for_bit() -> None:
    settings = {"imagination_starts": 8, "disc_pairs": 16}
    vmail, vmail_metrics = trained(METHODS["vmail"].configure("smoke", own=settings), 4)
    zero, zero_metrics = trained(METHODS["conservative"].configure("smoke", own=settings | {"alpha": 0.0}), 4)
    assert vmail_metrics == zero_metrics
    assert all(torch.equal(a, b) for a, b in zip(parameters(vmail).values(), parameters(zero).values(), strict=True))
    penalised, _ = trained(METHODS["conservative"].configure("smoke", own=settings), 4)
    assert not all(
        torch.equal(a, b) for a, b in zip(parameters(vmail).values(), parameters(penalised).values(), strict=True)
    )


@pytest.mark.parametrize("method", METHODS)
def test_every_method_updates_with_finite_numbers(method: str) -> None:
    own = {"bc_pretrain": 1, "horizon": 3, "ensemble_size": METHODS[method].settings.get("ensemble_size", 3)}
    agent, metrics = trained(METHODS[method].configure("smoke", own=own))
    assert all(np.isfinite(value) for row in metrics for value in row.values())
    assert all(torch.isfinite(tensor).all() for tensor in parameters(agent).values())


@pytest.mark.parametrize("alpha", [0.0, 5.0])
@pytest.mark.parametrize("members", [1, 3])
def test_coinciding_members_poison_nothing(members: int, alpha: float) -> None:
    settings = config(ensemble_size=members, alpha=alpha)
    agent = Agent(settings, 64, ACTIONS, seed=0)
    heads = agent.model.rssm.prior_heads
    with torch.no_grad():
        for parameter in heads.parameters():
            parameter.copy_(parameter[:1].expand_as(parameter))
    metrics = agent.update(batch(settings), None)
    assert all(np.isfinite(value) for value in metrics.values())
    assert all(torch.isfinite(tensor).all() for tensor in parameters(agent).values())
    if members == 1:
        assert metrics["disagreement/imagined_max"] == 0.0


def changed(before: dict[str, Tensor], after: dict[str, Tensor]) -> set[str]:
    return {name.split(".")[0] for name in before if not torch.equal(before[name], after[name])}


@pytest.mark.parametrize("loss", ["model", "discriminator", "actor", "critics"])
def test_each_loss_trains_its_own_module_and_no_other(loss: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Let one optimiser at a time step, and look at both the gradients and the parameters."""
    settings = config()
    agent = Agent(settings, 64, ACTIONS, seed=0)
    before = {name: tensor.clone() for name, tensor in parameters(agent).items()}
    take_step = agent._step
    monkeypatch.setattr(
        agent, "_step", lambda name, *args, **kw: take_step(name, *args, **kw) if name == loss else None
    )
    agent.update(batch(settings), None)
    assert changed(before, parameters(agent)) == {loss}
    for name, module in agent._modules.items():
        has_gradient = any(p.grad is not None and p.grad.abs().sum() > 0 for p in module.parameters())
        assert has_gradient == (name == loss), name


def rollout_gradients(target: str) -> dict[str, Tensor | None]:
    """Gradient, at an action in the middle of a rollout, of what the actor maximises."""
    settings = config(horizon=3)
    agent = Agent(settings, 64, ACTIONS, seed=0)
    posterior = agent.model.observe(batch(settings).frames, batch(settings).actions, agent.generator)
    start = posterior.state.detach().select(torch.arange(4))
    rollout = imagine(settings, agent.model.rssm, agent.actor, start, agent.generator)
    pairs = agent.discriminator.pairs(rollout.features[:-1], rollout.actions[:-1])
    objective = {
        "reward": agent.discriminator(pairs, agent.generator).sum(),
        "penalty": rollout.disagreement.sum(),
        "critic": agent.critics.value(rollout.features, rollout.actions).sum(),
        "state": rollout.features[-1].sum(),
    }[target]
    gradients = torch.autograd.grad(objective, [*agent.actor.parameters()], allow_unused=True)
    return dict(zip([name for name, _ in agent.actor.named_parameters()], gradients, strict=True))


@pytest.mark.parametrize("target", ["reward", "penalty", "critic", "state"])
def test_actor_hears_reward_penalty_critic_and_dynamics(target: str) -> None:
    for name, gradient in rollout_gradients(target).items():
        assert gradient is not None, name
        assert gradient.abs().sum() > 0, name


def test_every_ensemble_member_shapes_the_penalty_gradient() -> None:
    settings = config(horizon=1, ensemble_size=3)
    agent = Agent(settings, 64, ACTIONS, seed=0)
    start = agent.model.rssm.initial(4)
    rollout = imagine(settings, agent.model.rssm, agent.actor, start, agent.generator)
    heads = agent.model.rssm.prior_heads
    (gradient,) = torch.autograd.grad(rollout.disagreement.sum(), heads.bias2)
    means = gradient[:, 0, : settings.stoch]
    assert (means.abs().sum(-1) > 0).all()


def test_policy_reads_its_state_without_gradient() -> None:
    settings = config(horizon=2)
    agent = Agent(settings, 64, ACTIONS, seed=0)
    start = agent.model.rssm.initial(4)
    start.stoch.requires_grad_(True)
    rollout = imagine(settings, agent.model.rssm, agent.actor, start, agent.generator)
    assert torch.autograd.grad(rollout.actions[0].sum(), start.stoch, allow_unused=True)[0] is None
    assert torch.autograd.grad(rollout.features[1].sum(), start.stoch, allow_unused=True)[0] is not None


def test_one_member_predicts_a_whole_time_step_and_is_redrawn() -> None:
    settings = config(ensemble_size=5)
    agent = Agent(settings, 64, ACTIONS, seed=0)
    draws = agent.model.rssm.draw_members((5000,), agent.generator)
    counts = torch.bincount(draws, minlength=5).float()
    assert (counts - 1000).abs().max() < 150
    assert (draws[1:] == draws[:-1]).float().mean().item() == pytest.approx(0.2, abs=0.03)
    _, posterior, _ = agent.model.loss(batch(settings).frames, batch(settings).actions, agent.generator)
    deter = posterior.state.deter
    chosen, _ = agent.model.rssm.prior(deter, torch.tensor([0, 1, 2, 3, 4, 0]))
    every = agent.model.rssm.prior_means(deter)
    for step, member in enumerate([0, 1, 2, 3, 4, 0]):
        torch.testing.assert_close(chosen[step], every[step, :, member])


@pytest.mark.parametrize("weighted", [False, True])
def test_losses_of_actor_and_critics_are_the_formulas_step_by_step(weighted: bool) -> None:
    """Eq. 5 to 7 by explicit loops over steps and rollouts, with the entropy bonus, cloning and discount^t."""
    settings = config(horizon=3, entropy=0.3, bc_scale=0.7, discount_weights=weighted, data_critic_loss=False)
    agent = Agent(settings, 64, ACTIONS, seed=0)
    count, horizon = 4, settings.horizon
    rollout = imagine(settings, agent.model.rssm, agent.actor, agent.model.rssm.initial(count), agent.generator)
    rewards = torch.randn(horizon, count)
    features, actions = torch.randn(5, agent.model.feature_size), torch.rand(5, ACTIONS) - 0.5
    values = agent.critics.value(rollout.features, rollout.actions).detach()
    targets = agent.critics.target_value(rollout.features, rollout.actions, torch.Generator()).detach()
    q = agent.critics(rollout.features[:-1], rollout.actions[:-1]).detach()

    def lambda_return(worth: Tensor, step: int, row: int) -> float:
        if step == horizon:
            return worth[step, row].item()
        later = (1 - settings.lam) * worth[step + 1, row].item()
        later += settings.lam * lambda_return(worth, step + 1, row)
        return rewards[step, row].item() + settings.discount * later

    actor, model = [], []
    for step in range(horizon):
        weight = settings.discount**step if weighted else 1.0
        for row in range(count):
            goal = settings.lam * lambda_return(values, step, row) + (1 - settings.lam) * values[step, row].item()
            actor.append(-weight * (goal - settings.entropy * rollout.log_prob[step, row].item()))
            errors = q[:, step, row] - lambda_return(targets, step, row)
            model.append(weight * errors.square().mean().item())
    cloning = -agent.actor(features).log_prob(actions).mean().item()
    metrics = agent._update_actor(rollout, rewards, features, actions, train=False)
    assert metrics["actor/loss"].item() == pytest.approx(np.mean(actor) + settings.bc_scale * cloning, rel=1e-4)
    none: Any = None
    metrics = agent._update_critics(none, none, none, rollout, rewards)
    assert metrics["critic/model_loss"].item() == pytest.approx(np.mean(model), rel=1e-4)


@pytest.mark.parametrize("regularizer", ["gp_input", "noise"])
def test_data_loss_pairs_each_state_with_the_action_that_left_it(regularizer: str) -> None:
    """Eq. 8 by explicit loops over time and rows, from the update's own pieces; its reward is read without noise."""
    settings = config(horizon=2, disc_regularizer=regularizer)
    agent = Agent(settings, 64, ACTIONS, seed=0)
    data = batch(settings)
    _, posterior, _ = agent.model.loss(data.frames, data.actions, agent.generator)
    length, rows = settings.sequence_length, settings.batch_size
    starts = torch.arange(length * rows)
    values, returns = torch.randn(length * rows), torch.randn(length * rows)
    actual = agent._critic_data_loss(data, posterior, starts, values, returns).item()
    losses = []
    for j in range(length - 1):
        for row in range(rows):
            state = posterior.state.features[j, row]
            action = data.actions[j + 1, row]
            logit = agent.discriminator.clean(agent.discriminator.pairs(state, action))
            means = agent.model.rssm.prior_means(posterior.state.deter[j + 1, row][None])[0]
            reward = logit - settings.alpha * objectives.disagreement(means)
            index = (j + 1) * rows + row
            target = reward + settings.discount * ((1 - settings.lam) * values[index] + settings.lam * returns[index])
            losses.append((agent.critics(state, action) - target).square().mean().item())
    assert actual == pytest.approx(np.mean(losses), rel=1e-4)


def test_targets_follow_the_critics_at_the_configured_pace() -> None:
    hard = Agent(config(target_every=2, target_tau=1.0), 64, ACTIONS, seed=0)
    for update in range(2):
        gap = sum(
            (a - b).abs().sum()
            for a, b in zip(hard.critics.online.parameters(), hard.critics.target.parameters(), strict=True)
        )
        assert (gap == 0) == (update == 0)
        hard.update(batch(hard.config, update), None)
        if update == 0:
            continue
        for a, b in zip(hard.critics.online.parameters(), hard.critics.target.parameters(), strict=True):
            torch.testing.assert_close(a, b)


SWITCHES: dict[str, tuple[Any, set[str]]] = {
    # switch: (value, modules that may differ after one update)
    "alpha": (9.0, {"actor", "critics"}),
    "reward_form": ("prob", {"actor", "critics"}),
    "disagreement": ("sum", {"actor", "critics"}),
    "penalize_data_reward": (False, {"critics"}),
    "data_critic_loss": (False, {"critics"}),
    "bootstrap": (False, {"actor", "critics"}),
    "lam": (0.5, {"actor", "critics"}),
    "discount": (0.5, {"actor", "critics"}),
    "discount_weights": (True, {"actor", "critics"}),
    "bc_scale": (10.0, {"actor"}),
    "model_bc_scale": (10.0, {"model", "discriminator", "actor", "critics"}),
    "entropy": (1.0, {"actor"}),
    "target_reduce": ("random", {"critics"}),
    "disc_negatives": ("replay", {"discriminator", "actor", "critics"}),
    "disc_penalty": (9.0, {"discriminator", "actor", "critics"}),
    "disc_penalty_target": (1.0, {"discriminator", "actor", "critics"}),
    "disc_regularizer": ("gp_param", {"discriminator", "actor", "critics"}),
    "disc_action_scale": (3.0, {"discriminator", "actor", "critics"}),
    "kl_scale": (3.0, {"model", "discriminator", "actor", "critics"}),
    "kl_balance": (None, {"model", "discriminator", "actor", "critics"}),
    "free_nats": (5.0, {"model", "discriminator", "actor", "critics"}),
    "member_per_row": (True, {"model", "discriminator", "actor", "critics"}),
}


@pytest.mark.parametrize("switch", SWITCHES)
def test_a_switch_changes_what_it_says_and_nothing_else(switch: str) -> None:
    value, may_differ = SWITCHES[switch]
    # The gradient clip is lifted so that a larger loss is not scaled back to the same step.
    base = config(grad_clip=1e9, free_nats=0.0, target_tau=0.5, target_every=1, n_critics=2)
    assert getattr(base, switch) != value
    plain, _ = trained(base, 1)
    switched, _ = trained(dataclasses.replace(base, **{switch: value}), 1)
    assert changed(parameters(plain), parameters(switched)) == may_differ


@pytest.mark.parametrize("fraction", [0.0, 0.5, 1.0])
def test_expert_rows_or_an_expert_batch_serve_alike(fraction: float) -> None:
    _, metrics = trained(config(demo_batch_fraction=fraction))
    assert 0 <= metrics[-1]["discriminator/accuracy_expert"] <= 1
    assert metrics[-1]["disagreement/expert"] > 0


def test_missing_expert_data_is_an_error() -> None:
    settings = config(demo_batch_fraction=0.0)
    with pytest.raises(ValueError, match="expert batch"):
        Agent(settings, 64, ACTIONS, seed=0).update(batch(settings), None)


def test_frozen_actor_stays_while_its_judges_learn() -> None:
    settings = config()
    agent = Agent(settings, 64, ACTIONS, seed=0)
    before = {name: tensor.clone() for name, tensor in parameters(agent).items()}
    agent.update(batch(settings), None, train_actor=False)
    assert changed(before, parameters(agent)) == {"model", "discriminator", "critics"}


def frames(count: int) -> Iterator[np.ndarray]:
    rng = np.random.default_rng(5)
    for _ in range(count):
        yield rng.integers(0, 256, (64, 64, 3), dtype=np.uint8)


def test_policy_restored_in_mid_episode_acts_alike_and_learning_is_undisturbed() -> None:
    agent = Agent(config(), 64, ACTIONS, seed=0)
    untouched = agent.generator.get_state()
    policy = LatentPolicy(agent, True, torch.Generator().manual_seed(3))
    for image in frames(3):
        policy.act(image)
    state = policy.state_dict()
    ahead = [policy.act(image) for image in frames(4)]
    restored = LatentPolicy(agent, True, torch.Generator())
    restored.load_state_dict(state)
    assert all((a == b).all() for a, b in zip(ahead, [restored.act(image) for image in frames(4)], strict=True))
    assert torch.equal(untouched, agent.generator.get_state())
    assert all((np.abs(action) <= 1).all() for action in ahead)


def test_mean_actions_are_deterministic_and_nobody_explores_unless_told_to() -> None:
    agent = Agent(config(), 64, ACTIONS, seed=0)
    image = next(frames(1))

    def act(sample: bool, noise: float | None, seed: int = 3) -> np.ndarray:
        policy = LatentPolicy(agent, sample, torch.Generator().manual_seed(seed))
        if noise is not None:
            policy.noise = noise
        return policy.act(image)

    assert (act(False, None) == act(False, 0.0)).all()
    assert not (act(False, 0.5) == act(False, 0.0)).any()
    assert (act(True, None) == act(True, 0.0)).all()
    assert not (act(True, 0.5) == act(True, 0.0)).any()
    assert not (act(True, 0.0, seed=3) == act(True, 0.0, seed=4)).any()


def test_discriminator_asked_for_clean_logits_adds_no_instance_noise() -> None:
    settings = config(disc_regularizer="noise")
    agent = Agent(settings, 64, ACTIONS, seed=0)
    pairs = agent.discriminator.pairs(torch.randn(5, agent.model.feature_size), torch.randn(5, ACTIONS))
    assert torch.equal(agent.discriminator.clean(pairs), agent.discriminator.clean(pairs))
    assert not torch.equal(agent.discriminator(pairs, agent.generator), agent.discriminator(pairs, agent.generator))


@pytest.mark.parametrize("image_size", [64, 84, 128])
def test_every_image_size_is_learned_from(image_size: int) -> None:
    settings = config(sequence_length=3)
    agent = Agent(settings, image_size, ACTIONS, seed=0)
    small = batch(settings)
    frames = torch.zeros(3, settings.batch_size, image_size // 2, image_size // 2, 12, dtype=torch.uint8)
    assert np.isfinite(agent.clone(dataclasses.replace(small, frames=frames), None, 1.0)["model/loss"])
