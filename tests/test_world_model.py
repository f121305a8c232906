from dataclasses import replace

import numpy as np
import pytest
import torch
from scipy.stats import spearmanr

from algorithms.agent import Agent
from algorithms.config import PRESETS, AgentConfig
from algorithms.diagnostics import calibration
from algorithms.discriminator import Discriminator
from algorithms.frames import fold, scale, shift
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
    return Batch(torch.from_numpy(fold(images)), torch.from_numpy(actions), rows, torch.ones(rows, dtype=torch.bool))


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


def test_centred_model_sees_and_draws_differences_to_the_background() -> None:
    """A model without centring that is shown the difference itself computes the same."""
    batch = moving_squares(4, 10, seed=1)
    agents = [Agent(replace(SMALL, center_frames=centered), 64, 1, seed=0) for centered in (True, False)]
    centered, plain = (agent.model for agent in agents)
    centered.center(batch.frames.flatten(0, 1).double().mean(0))
    mean = scale(batch.frames).mean((0, 1))
    torch.testing.assert_close(centered.background, mean)

    class Difference(torch.nn.Module):
        def __init__(self, encoder: torch.nn.Module) -> None:
            super().__init__()
            self.encoder = encoder

        def forward(self, frames: torch.Tensor) -> torch.Tensor:
            return self.encoder(frames - mean)

    plain.encoder = Difference(plain.encoder)  # type: ignore[assignment]
    (_, _, own), (_, other, metrics) = (
        model.loss(batch.frames, batch.actions, torch.Generator().manual_seed(3)) for model in (centered, plain)
    )
    drawn = plain.decoder(other.state.features)
    error = (drawn - (scale(batch.frames) - mean)).square().sum() / (2 * 40)
    torch.testing.assert_close(own["model/reconstruction"], error)
    torch.testing.assert_close(own["model/kl"], metrics["model/kl"])


def test_shift_moves_every_sequence_by_its_own_offset_and_lets_zeros_in() -> None:
    frames = torch.rand(3, 4, 2, 8, 8)
    offsets = torch.tensor([[1, 0, -2, 3], [-2, 0, 5, 9]])
    moved = shift(frames, offsets)
    for row, (down, right) in enumerate(offsets.T.tolist()):
        for y in range(8):
            for x in range(8):
                inside = 0 <= y - down < 8 and 0 <= x - right < 8
                expected = frames[:, row, :, y - down, x - right] if inside else torch.zeros(3, 2)
                torch.testing.assert_close(moved[:, row, :, y, x], expected, rtol=0, atol=0)


def test_training_sees_and_draws_shifted_sequences_and_acting_sees_what_is_there() -> None:
    """What the encoder is given is a shift by whole folded pixels, the same for all frames of a sequence."""
    batch = moving_squares(16, 5, seed=1)
    agents = [Agent(replace(SMALL, random_shift=pixels), 64, 1, seed=0) for pixels in (4, 0)]
    seen: list[torch.Tensor] = []
    for agent in agents:
        agent.model.encoder.register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0].clone()))
    for agent in agents:
        agent.model.loss(batch.frames, batch.actions, torch.Generator().manual_seed(3))
        agent.model.observe(batch.frames, batch.actions, torch.Generator().manual_seed(3))
    shifted, acting, plain, _ = seen
    torch.testing.assert_close(acting, plain, rtol=0, atol=0)
    candidates = {
        (y, x): shift(plain, torch.tensor([[y], [x]]).expand(2, 16)) for y in range(-2, 3) for x in range(-2, 3)
    }
    found = set()
    for row in range(16):
        matches = {at for at, moved in candidates.items() if torch.equal(moved[:, row], shifted[:, row])}
        assert matches, f"row {row} is no shift of its sequence"
        found |= matches
    assert len(found) > 5


def test_background_travels_with_the_networks() -> None:
    batch = moving_squares(2, 5, seed=1)
    agent, other = (Agent(replace(SMALL, center_frames=True), 64, 1, seed) for seed in (0, 1))
    agent.model.center(batch.frames.flatten(0, 1).double().mean(0))
    other.load_networks(agent.state_dict())
    torch.testing.assert_close(other.model.background, agent.model.background)
    assert other.model.background.std() > 0


def test_imagined_squares_move_as_the_actions_say(
    fitted: tuple[Agent, Batch, list[dict[str, float]]],
) -> None:
    """Open loop from the first three frames, the decoder must follow the actions, not stand still."""
    agent, batch, _ = fitted
    rssm = agent.model.rssm
    with torch.no_grad():
        state = agent.model.observe(batch.frames[:3], batch.actions[:3], agent.generator).state
        current = state.select(torch.arange(8, 12))
        for time in range(3, 7):
            noise = torch.zeros(4, rssm.stoch)
            current, _ = rssm.imagine(current, batch.actions[time], torch.tensor(0), noise)
        image = agent.model.decoder(current.features)
    truth = scale(batch.frames[6])
    still = scale(batch.frames[2])
    assert (image - truth).square().mean() < 0.5 * (image - still).square().mean()


def test_calibration_compares_disagreement_with_the_error_of_the_next_latent(
    fitted: tuple[Agent, Batch, list[dict[str, float]]],
) -> None:
    agent, batch, _ = fitted
    result = calibration(agent, batch.frames, batch.actions, torch.Generator().manual_seed(0))
    generator = torch.Generator().manual_seed(0)
    errors, spreads = [], []
    with torch.no_grad():
        for row in range(batch.frames.shape[1]):
            frames, actions = batch.frames[:, row : row + 1], batch.actions[:, row : row + 1]
            posterior = agent.model.observe(frames, actions, generator)
            for time in range(1, len(frames)):
                members = agent.model.rssm.prior_means(posterior.state.deter[time])[0].numpy()
                truth = posterior.mean[time, 0].numpy()
                errors.append(np.sqrt(np.mean((members.mean(0) - truth) ** 2)))
                spreads.append(members.std(0).mean())
    assert result["model/one_step_error"] == pytest.approx(np.mean(errors), rel=1e-4)
    assert result["disagreement/fresh"] == pytest.approx(np.mean(spreads), rel=1e-4)
    assert result["disagreement/calibration"] == pytest.approx(spearmanr(spreads, errors).statistic, abs=1e-2)
    order = np.argsort(spreads)
    highest = np.array(errors)[order[-(len(order) // 4) :]].mean()
    assert result["model/one_step_error_high_disagreement"] == pytest.approx(highest, rel=1e-3)


def test_calibration_of_a_single_member_is_zero_and_not_nan() -> None:
    settings = AgentConfig.from_settings(PRESETS["smoke"] | {"ensemble_size": 1})
    agent, batch = Agent(settings, 64, 1, seed=0), moving_squares(2, 5, seed=3)
    result = calibration(agent, batch.frames, batch.actions, agent.generator)
    assert result["disagreement/fresh"] == 0
    assert result["disagreement/calibration"] == 0


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
