"""The fast paths and the small precision learn what the plain update learns: whole curves on the small environment."""

import copy
from pathlib import Path

import numpy as np
import pytest
import torch
from test_bench import with_weights_of
from torch import nn

from ailft_bench.benchmark.plain import PlainAgent
from ailft_bench.demos.collection import provide
from algorithms.config import PRESETS, AgentConfig
from algorithms.frames import fold
from algorithms.replay import Batch, Replay

UPDATES, WINDOW = 120, 20
COMPARED = ("model/reconstruction", "model/kl", "actor/demo_mse", "actor/demo_nll", "discriminator/loss")


def unfolded(batch: Batch) -> Batch:
    """Return the batch with images (T, B, 64, 64, 3) in place of frames."""
    blocks = batch.frames.unflatten(-1, (2, 2, 3)).movedim(-3, -4)
    return Batch(blocks.reshape(*batch.frames.shape[:2], 64, 64, 3), batch.actions, batch.expert_rows, batch.begins)


def test_unfolding_is_the_inverse_of_folding() -> None:
    images = np.random.default_rng(0).integers(0, 256, (3, 2, 64, 64, 3), dtype=np.uint8)
    batch = Batch(torch.from_numpy(fold(images)), torch.zeros(3, 2, 2), 1, torch.zeros(2, dtype=torch.bool))
    assert np.array_equal(unfolded(batch).frames.numpy(), images)


class Unfolded(nn.Module):
    """A decoder of folded frames, as one of images: merging its first layers is no rounding, but other parameters."""

    def __init__(self, decoder: nn.Module) -> None:
        super().__init__()
        self.decoder = decoder

    def forward(self, features: torch.Tensor) -> torch.Tensor:
        blocks = self.decoder(features).unflatten(-3, (2, 2, 3))
        return blocks.movedim((-5, -4), (-3, -1)).flatten(-4, -3).flatten(-2, -1)


@pytest.mark.slow
def test_learning_curves_agree_with_the_plain_update_and_with_bfloat16(tmp_path: Path) -> None:
    """Cloning, then full updates, from the same weights on the same batches; rounding may differ, the curve may not."""
    demonstrations = provide("ailft/Push-v0", {}, "scripted", 4, 0, tmp_path / "demos")
    replay = Replay(tmp_path / "replay", 1000, 64, 2)
    for episode in demonstrations.episodes:
        replay.add_demonstration(episode.image, episode.action)
    rates = {"model_lr": 1e-3, "actor_lr": 1e-3, "disc_lr": 1e-3, "free_nats": 3.0, "model_bc_scale": 10.0}
    config = AgentConfig.from_settings(PRESETS["smoke"] | rates | {"batch_size": 8, "random_shift": 4, "bc_scale": 0.3})
    plain = PlainAgent(config, 64, 2, 1)
    fast, rounded = with_weights_of(plain, config), with_weights_of(plain, config)
    plain.model.decoder = Unfolded(copy.deepcopy(fast.model.decoder))  # type: ignore[assignment]
    plain.use_plain_optimizers()
    rounded.precision = "bfloat16"
    agents = {"plain": plain, "fast": fast, "bfloat16": rounded}
    curves: dict[str, list[dict[str, float]]] = {name: [] for name in agents}
    rng = np.random.default_rng(0)
    for update in range(UPDATES):
        batch = replay.sample(rng, config.batch_size, config.expert_rows, config.sequence_length, own_only=False)
        for name, agent in agents.items():
            given = unfolded(batch) if name == "plain" else batch
            cloning = update < UPDATES // 2
            curves[name].append(agent.clone(given, None, 1.0) if cloning else agent.update(given, None))

    def smooth(name: str, metric: str) -> np.ndarray:
        values = [row[metric] for row in curves[name] if metric in row]
        return np.reshape(values, (-1, WINDOW)).mean(1)

    for metric in COMPARED:
        expected = smooth("plain", metric)
        for name in ("fast", "bfloat16"):
            assert smooth(name, metric) == pytest.approx(expected, rel=0.1), f"{metric}, {name}"
    first, last = smooth("plain", "model/reconstruction")[[0, -1]]
    assert last < 0.5 * first, "a curve that goes nowhere says nothing"
