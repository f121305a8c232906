"""Does it learn? The adversarial part on known latent states, the whole agent on the small environment."""

from pathlib import Path
from statistics import fmean

import numpy as np
import pytest
import torch

from ailft_bench.demos.collection import provide
from ailft_bench.demos.recording import make_env
from ailft_bench.evaluation import averages, evaluate
from algorithms.agent import Agent
from algorithms.config import PRESETS, AgentConfig
from algorithms.frames import fold
from algorithms.imagination import Rollout
from algorithms.replay import Batch, Replay
from algorithms.rssm import Latent, Posterior


def test_adversarial_updates_alone_pull_the_policy_to_the_expert() -> None:
    """No cloning term: it fails if the reward's sign, the pairing of actions or the balance of rates is wrong."""
    greedy = {"horizon": 1, "discount": 0.0, "bootstrap": False, "alpha": 0.0, "entropy": 0.0, "bc_scale": 0.0}
    rates = {"disc_lr": 1e-3, "disc_steps": 3, "actor_lr": 1e-3, "disc_action_scale": 3.0, "actor_init_std": 0.3}
    networks = {
        "disc_layers": 2,
        "disc_units": 64,
        "units": 64,
        "disc_pairs": None,
        "action_distribution": "tanh_normal",
    }
    agent = Agent(AgentConfig.from_settings(PRESETS["smoke"] | greedy | rates | networks), 64, 2, seed=0)
    size, rows = agent.model.feature_size, 128
    generator = torch.Generator().manual_seed(2)
    expert_policy = torch.randn(4, 2, generator=torch.Generator().manual_seed(1)) / 3
    batch = Batch(
        torch.zeros(2, rows, 1, 1, 12, dtype=torch.uint8),
        torch.zeros(2, rows, 2),
        rows,
        torch.zeros(rows, dtype=torch.bool),
    )
    nothing = torch.zeros(2, rows, agent.config.stoch)
    posterior = Posterior(Latent(nothing, torch.zeros(2, rows, agent.config.deter)), nothing, nothing)

    def states() -> torch.Tensor:
        return torch.cat([torch.randn(1, rows, 4, generator=generator), torch.zeros(1, rows, size - 4)], -1)

    errors = []
    for _ in range(300):
        expert_states, own_states = states(), states()
        expert_actions = 0.9 * (expert_states[..., :4] @ expert_policy).tanh()
        policy = agent.actor(own_states)
        actions, log_prob = policy.rsample(agent.generator)
        rollout = Rollout(own_states.expand(2, -1, -1), actions.expand(2, -1, -1), nothing[:1, :, 0], log_prob)
        agent._update_discriminator(batch, posterior, expert_states, expert_actions, rollout)
        rewards, _ = agent._rewards(rollout)
        metrics = agent._update_actor(rollout, rewards, expert_states, expert_actions, True)
        errors.append(metrics["actor/demo_mse"].item())
    assert fmean(errors[-20:]) < 0.1 * errors[0]


@pytest.mark.slow
def test_agent_improves_on_the_small_environment(tmp_path: Path) -> None:
    """From demonstrations alone, through pixels, model and latent policy, to episodes of the real environment."""
    arguments: dict[str, object] = {}
    demonstrations = provide("ailft/Push-v0", arguments, "scripted", 10, 0, tmp_path / "demos")
    size = {"depth": 12, "deter": 128, "stoch": 24, "hidden": 128, "units": 128, "batch_size": 8, "sequence_length": 16}
    rates = {"model_lr": 1e-3, "actor_lr": 1e-3, "demo_batch_fraction": 1.0}
    helps = {"center_frames": True, "free_nats": 3.0, "model_bc_scale": 10.0}
    config = AgentConfig.from_settings(PRESETS["smoke"] | size | rates | helps)
    env, agent = make_env("ailft/Push-v0", arguments), Agent(config, 64, 2, seed=0)
    replay, rng = Replay(tmp_path / "replay", 1000, 64, 2), np.random.default_rng(0)
    for episode in demonstrations.episodes:
        replay.add_demonstration(episode.image, episode.action)
    images = np.concatenate([episode.image for episode in demonstrations.episodes])
    agent.model.center(torch.from_numpy(fold(images).mean(0)))

    def score() -> dict[str, float]:
        return averages(played.metrics for played in evaluate(agent, env, 10, 0, "test", sample=False))

    def clone() -> float:
        batch = replay.sample(rng, config.batch_size, config.batch_size, config.sequence_length, own_only=False)
        return agent.clone(batch, None, 1.0)["actor/demo_mse"]

    before = score()
    errors = [clone() for _ in range(300)]
    after = score()
    assert before["tasks_completed"] == 0
    assert after["tasks_completed"] >= 0.5
    assert after["return"] > before["return"] + 5
    actions = np.concatenate([episode.action[1:] for episode in demonstrations.episodes])
    assert fmean(errors[-20:]) < 0.7 * actions.var(0).mean(), "no better than one constant action"
