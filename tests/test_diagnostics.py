"""What is measured about gradients and about the world model's idea of actions."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
import torch
from test_agent import ACTIONS, batch, config

from ailft_bench.counterfactual import action_effect
from ailft_bench.demos.recording import make_env
from ailft_bench.envs.base import ImitationEnv
from ailft_bench.seeding import branch_seed
from algorithms import objectives
from algorithms.agent import Agent
from algorithms.frames import fold
from algorithms.learners import build
from algorithms.methods import METHODS
from algorithms.rssm import Latent


class Linear(torch.nn.Module):
    """A discriminator whose logit is linear in the action alone."""

    def __init__(self, slope: torch.Tensor) -> None:
        super().__init__()
        self.slope = slope

    def pairs(self, features: torch.Tensor, actions: torch.Tensor) -> torch.Tensor:
        return actions

    def forward(self, pairs: torch.Tensor, generator: torch.Generator) -> torch.Tensor:
        return pairs @ self.slope


class Bowl(Linear):
    """A discriminator whose logit falls with the squared distance of the action from ``slope``."""

    def forward(self, pairs: torch.Tensor, generator: torch.Generator) -> torch.Tensor:
        return -(pairs - self.slope).square().sum(-1)


def test_reward_that_is_linear_in_the_action_points_along_its_slope() -> None:
    settings = config(horizon=3, bootstrap=False, lam=1.0)
    agent, demonstrations = Agent(settings, 64, ACTIONS, seed=0), batch(settings, 1)
    slope = torch.tensor([0.3, -1.2, 0.4])
    agent.discriminator = Linear(slope)  # type: ignore[assignment]
    measured = agent.directions(demonstrations, torch.Generator().manual_seed(5))
    assert measured["gradient/reward_norm"] == pytest.approx(slope.norm().item(), rel=1e-5)

    generator = torch.Generator().manual_seed(5)
    state = agent.model.observe(demonstrations.frames, demonstrations.actions, generator).state
    with torch.no_grad():
        policy = agent.actor(Latent(state.stoch[:-1], state.deter[:-1]).features)
        firsts = {"cosine": policy.rsample(generator)[0].numpy(), "mean_cosine": policy.mode().numpy()}
    for name, first in firsts.items():
        cosines = []
        for time in range(first.shape[0]):
            for row in range(first.shape[1]):
                way = demonstrations.actions[time + 1, row].numpy() - first[time, row]
                cosines.append(way @ slope.numpy() / np.linalg.norm(way) / slope.norm().item())
        assert measured[f"gradient/reward_{name}"] == pytest.approx(np.mean(cosines), abs=1e-4)


def test_term_that_pulls_drawn_actions_back_to_the_mean_is_not_taken_for_one_that_knows_the_expert() -> None:
    settings = config(horizon=1, bootstrap=False, lam=1.0)
    agent, demonstrations = Agent(settings, 64, ACTIONS, seed=0), batch(settings, 1)
    # A policy of mean zero in every state; the expert and what the term likes are next to it, 60 degrees apart.
    torch.nn.init.zeros_(agent.actor.layers[-1].weight)
    torch.nn.init.zeros_(agent.actor.layers[-1].bias)
    demonstrations.actions[1:] = 1e-3 * torch.tensor([1.0, 0.0, 0.0])
    agent.discriminator = Bowl(1e-3 * torch.tensor([0.5, math.sqrt(0.75), 0.0]))  # type: ignore[assignment]
    measured = agent.directions(demonstrations, torch.Generator().manual_seed(5))
    assert measured["gradient/reward_cosine"] > 0.99
    assert measured["gradient/reward_mean_cosine"] == pytest.approx(0.5, abs=1e-3)
    assert measured["gradient/reward_mean_norm"] == pytest.approx(2e-3, rel=1e-3)


def test_penalty_points_down_the_slope_of_the_disagreement() -> None:
    """With one step, its gradient is that of minus alpha times the disagreement, by finite differences."""
    settings = config(horizon=1, alpha=7.0, bootstrap=False, lam=1.0)
    agent, demonstrations = Agent(settings, 64, ACTIONS, seed=0), batch(settings, 1)
    measured = agent.directions(demonstrations, torch.Generator().manual_seed(5))

    generator = torch.Generator().manual_seed(5)
    rssm = agent.model.rssm
    with torch.no_grad():
        state = agent.model.observe(demonstrations.frames, demonstrations.actions, generator).state
        start = Latent(state.stoch[:-1].flatten(0, 1), state.deter[:-1].flatten(0, 1))
        first = agent.actor(start.features).rsample(generator)[0]

        def penalty(actions: torch.Tensor) -> torch.Tensor:
            return 7.0 * objectives.disagreement(rssm.prior_means(rssm.advance(start, actions)))

        step = 1e-2
        slopes = [(penalty(first + step * e) - penalty(first - step * e)) / (2 * step) for e in torch.eye(ACTIONS)]
        gradient = -torch.stack(slopes, dim=-1)
    assert measured["gradient/penalty_norm"] == pytest.approx(gradient.norm(dim=-1).mean().item(), rel=1e-2)
    way = demonstrations.actions[1:].flatten(0, 1) - first
    cosine = torch.nn.functional.cosine_similarity(gradient, way, dim=-1).mean().item()
    assert measured["gradient/penalty_cosine"] == pytest.approx(cosine, abs=1e-2)


@pytest.mark.parametrize(
    ("changes", "terms"),
    [
        ({"alpha": 0.0, "bootstrap": False}, {"reward"}),
        ({"alpha": 1.0, "bootstrap": False}, {"reward", "penalty"}),
        ({"alpha": 1.0, "bootstrap": True}, {"reward", "penalty", "critics"}),
    ],
)
def test_only_terms_of_the_objective_are_measured(changes: dict[str, Any], terms: set[str]) -> None:
    settings = config(**changes)
    agent = Agent(settings, 64, ACTIONS, seed=0)
    before = {name: value.clone() for name, value in agent.model.state_dict().items()}
    measured = agent.directions(batch(settings), torch.Generator().manual_seed(0))
    kinds = ("cosine", "norm", "mean_cosine", "mean_norm")
    assert measured.keys() == {f"gradient/{term}_{kind}" for term in terms for kind in kinds}
    assert all(np.isfinite(value) for value in measured.values())
    assert all(torch.equal(before[name], value) for name, value in agent.model.state_dict().items())
    assert all(parameter.grad is None for parameter in agent.actor.parameters())


class Knowing:
    """A policy whose belief is the simulation itself."""

    def __init__(self, env: ImitationEnv) -> None:
        self.env, self.rng, self.seen = env, np.random.default_rng(0), []

    def act(self, image: np.ndarray) -> np.ndarray:
        self.seen.append(image)
        return self.rng.uniform(-0.5, 0.5, 2).astype(np.float32)

    def state_dict(self) -> dict[str, Any]:
        return {"simulation": self.env.get_state()}


class Oracle(Agent):
    """Expects what the simulation would do, times ``sign``."""

    sign = 1.0

    def __init__(self, env: ImitationEnv) -> None:
        super().__init__(config(), 64, 2, seed=0)
        self.env, self.policies = env, []

    def policy(self, sample: bool, generator: torch.Generator) -> Any:
        self.policies.append(Knowing(self.env))
        return self.policies[-1]

    def foresee(self, belief: dict[str, Any], actions: np.ndarray) -> np.ndarray:
        now, images = self.env.get_state(), []
        for column in range(actions.shape[1]):
            self.env.set_state(belief["simulation"])
            for action in actions[:, column]:
                image = self.env.step(action)[0]
            images.append(self.sign * fold(image))
        self.env.set_state(now)
        return np.stack(images)


def test_who_knows_the_simulation_knows_what_actions_do() -> None:
    env = make_env("ailft/Push-v0", {"image_size": 64})
    oracle = Oracle(env)
    assert action_effect(oracle, env, 0, "0")["model/action_effect"] == pytest.approx(1.0)
    oracle.sign = -2.0
    mirrored = action_effect(oracle, env, 0, "0")
    assert mirrored["model/action_effect"] == pytest.approx(-1.0)
    assert mirrored["model/action_effect_size"] == pytest.approx(2.0 * 255)  # of images from 0 to 255


def test_going_back_leaves_the_episode_as_it_would_have_been() -> None:
    env = make_env("ailft/Push-v0", {"image_size": 64})
    oracle = Oracle(env)
    action_effect(oracle, env, 0, "0")
    assert [len(policy.seen) for policy in oracle.policies] == [48, 48]  # twelve moments, four steps apart
    for index, policy in enumerate(oracle.policies):
        again = Knowing(env)
        image, _ = env.reset(seed=branch_seed(0, "eval", "0", "counterfactual", str(index), "env"))
        for seen in policy.seen:
            assert np.array_equal(image, seen)
            image = env.step(again.act(image))[0]


@pytest.mark.parametrize("decay", [0.0, 0.9])
def test_agent_foresees_what_the_acting_model_predicts_action_by_action(decay: float) -> None:
    settings = config(average_decay=decay)
    agent = Agent(settings, 64, ACTIONS, seed=0)
    agent.clone(batch(settings), batch(settings, 2), 1.0)
    rng = np.random.default_rng(0)
    policy = agent.policy(False, torch.Generator().manual_seed(0))
    policy.act(rng.integers(0, 256, (64, 64, 3), dtype=np.uint8))
    actions = rng.uniform(-1, 1, (3, 2, ACTIONS)).astype(np.float32)
    foreseen = agent.foresee(policy.state_dict(), actions)
    assert foreseen.shape == (2, 32, 32, 12)
    model = agent.acting_model
    assert (model is agent.model) == (decay == 0)
    for column in range(2):
        belief = policy.state_dict()
        state = Latent(belief["stoch"], belief["deter"])
        with torch.no_grad():
            for action in actions[:, column]:
                deter = model.rssm.advance(state, torch.from_numpy(action)[None])
                members = model.rssm.prior_means(deter)[0].numpy()
                state = Latent(torch.from_numpy(members.mean(0))[None], deter)
            image = model.decoder(state.features)[0].numpy()
        for channel in range(12):
            np.testing.assert_allclose(foreseen[column, :, :, channel], image[channel], atol=1e-5)


def test_plain_cloning_expects_nothing() -> None:
    env = make_env("ailft/Push-v0", {"image_size": 64})
    cloner = build(METHODS["bc_cnn"].configure("smoke", own={}), 64, 2, 0)
    assert action_effect(cloner, env, 0, "0") == {}
    assert cloner.directions(batch(cloner.config), torch.Generator()) == {}
