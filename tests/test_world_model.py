import numpy as np
import pytest
import torch

from algorithms.agent import Agent
from algorithms.config import PRESETS, AgentConfig
from algorithms.discriminator import Discriminator
from algorithms.diagnostics import calibration
from algorithms.replay import Batch

SMALL = AgentConfig.from_settings(
    PRESETS["smoke"] | {"depth": 8, "model_lr": 1e-3, "actor_lr": 1e-3, "demo_batch_fraction": 1.0, "bc_scale": 1.0}
)


def moving_squares(rows: int, length: int, seed: int) -> Batch:
    """A bright square that the action moves sideways on a dark ground."""
    rng = np.random.default_rng(seed)
    images = np.zeros((length, rows, 64, 64, 3), np.uint8)
    actions = rng.choice([-1.0, 1.0], (length, rows, 1)).astype(np.float32)
    for row in range(rows):
        position = 28
        for time in range(length):
            position = int(np.clip(position + (6 * actions[time, row, 0] if time else 0), 0, 52))
            images[time, row, 24:36, position : position + 12] = 255
    return Batch(torch.from_numpy(images), torch.from_numpy(actions), rows)


@pytest.fixture(scope="module")
def fitted() -> tuple[Agent, Batch, list[dict[str, float]]]:
    agent = Agent(SMALL, 64, 1, seed=0)
    batch = moving_squares(4, 10, seed=1)
    return agent, batch, [agent.clone(batch, None, 1.0) for _ in range(250)]


def test_world_model_overfits_a_handful_of_sequences(
    fitted: tuple[Agent, Batch, list[dict[str, float]]],
) -> None:
    _, _, metrics = fitted
    assert metrics[-1]["model/reconstruction"] < 0.1 * metrics[0]["model/reconstruction"]


def test_imagined_squares_move_as_the_actions_say(fitted: tuple[Agent, Batch, list[dict[str, float]]]) -> None:
    """Open loop from the first three frames, the decoder must follow the actions, not stand still."""
    agent, batch, _ = fitted
    rssm = agent.model.rssm
    with torch.no_grad():
        state = agent.model.observe(batch.images[:3], batch.actions[:3], agent.generator).state
        current = state.select(torch.arange(8, 12))
        for time in range(3, 7):
            noise = torch.zeros(4, rssm.stoch)
            current, _ = rssm.imagine(current, batch.actions[time], torch.tensor(0), noise)
        image = agent.model.decoder(current.features)
    truth = batch.images[6].movedim(-1, -3).float() / 255 - 0.5
    still = batch.images[2].movedim(-1, -3).float() / 255 - 0.5
    assert (image - truth).square().mean() < 0.5 * (image - still).square().mean()


def test_calibration_is_measured_in_the_latent_space(fitted: tuple[Agent, Batch, list[dict[str, float]]]) -> None:
    agent, batch, _ = fitted
    known = calibration(agent, batch.images, batch.actions, torch.Generator().manual_seed(0))
    noise = torch.randint(0, 256, batch.images.shape, generator=torch.Generator().manual_seed(0), dtype=torch.uint8)
    strange = calibration(agent, noise, batch.actions, torch.Generator().manual_seed(0))
    assert strange["model/one_step_error"] > known["model/one_step_error"]
    for result in (known, strange):
        assert -1 <= result["disagreement/calibration"] <= 1
        assert result["disagreement/fresh"] > 0


@pytest.mark.parametrize("regularizer", ["gp_input", "gp_param", "noise", "none"])
def test_discriminator_separates_experts_from_noise(regularizer: str) -> None:
    settings = AgentConfig.from_settings(
        PRESETS["smoke"] | {"disc_regularizer": regularizer, "disc_noise": 0.5, "disc_penalty": 0.1}
    )
    torch.manual_seed(0)
    generator = torch.Generator().manual_seed(0)
    discriminator = Discriminator(settings, 4, 2)
    optimizer = torch.optim.Adam(discriminator.parameters(), 1e-2)
    metrics = {}
    for _ in range(300):
        features = torch.randn(64, 4, generator=generator)
        expert = discriminator.pairs(features, features[:, :2].tanh())
        policy = discriminator.pairs(features, torch.rand(64, 2, generator=generator) * 2 - 1)
        loss, metrics = discriminator.loss(expert, policy, generator)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    floor = 0.65 if regularizer == "noise" else 0.75
    assert metrics["discriminator/accuracy_expert"] > floor
    assert metrics["discriminator/accuracy_policy"] > floor
    assert metrics["discriminator/total_variation"] > 2 * floor - 1
    assert 0 < metrics["discriminator/jensen_shannon"] <= np.log(2)


def test_gradient_penalty_holds_the_discriminator_back() -> None:
    def slope(weight: float) -> float:
        settings = AgentConfig.from_settings(PRESETS["smoke"] | {"disc_penalty": weight})
        torch.manual_seed(0)
        generator = torch.Generator().manual_seed(0)
        discriminator = Discriminator(settings, 2, 1)
        optimizer = torch.optim.Adam(discriminator.parameters(), 1e-2)
        expert, policy = torch.randn(256, 3) + 1, torch.randn(256, 3) - 1
        for _ in range(200):
            loss, _ = discriminator.loss(expert, policy, generator)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
        middle = torch.zeros(1, 3, requires_grad=True)
        return torch.autograd.grad(discriminator(middle, generator).sum(), middle)[0].norm().item()

    assert slope(10.0) < 0.5 * slope(0.0)
