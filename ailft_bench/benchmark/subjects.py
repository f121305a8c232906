"""Subjects: what is measured, set up as a worker has it, warmed up, and ready to be done once more.

Each is a function that returns the operation and what is known of it. The task is the kitchen: 64 x 64 pixels,
nine joint velocities.
"""

from __future__ import annotations

import io
import os
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch.nn import functional as F

from ailft_bench.benchmark.plain import PlainAgent
from ailft_bench.benchmark.updates import ACTIONS, IMAGE_SIZE, SETTINGS, batches, count_gflop, phases
from algorithms.agent import Agent
from algorithms.config import AgentConfig
from algorithms.precision import Precision
from algorithms.replay import Replay

Subject = tuple[Callable[[], object], dict[str, Any]]

_KITCHEN = "ailft/Kitchen-v0"
_PRODUCT = 1024


def frame(rendering: str) -> Subject:
    """One image of the kitchen, ``fast`` or ``stock``."""
    from ailft_bench.envs.kitchen import KitchenEnv
    from ailft_bench.envs.kitchen_renderer import KitchenRenderer

    renderer, qpos = KitchenRenderer(IMAGE_SIZE, rendering), KitchenEnv().begin(0)["state"][:30]
    renderer.render(qpos)
    return lambda: renderer.render(qpos), {}


def env_step(image: bool) -> Subject:
    """One step of the kitchen under random actions, with its ``image`` or physics and safety costs alone."""
    import gymnasium

    env: Any = gymnasium.make(_KITCHEN, disable_env_checker=True).unwrapped
    rng = np.random.default_rng(0)
    env.reset(seed=0)

    def step() -> None:
        action = rng.uniform(-1, 1, ACTIONS)
        if (env.step(action)[3] if image else env.advance(action)[1]) and image:
            env.reset()

    return step, {}


def act(preset: str) -> Subject:
    """One action of the policy, its filter included."""
    agent = Agent(AgentConfig.from_settings(SETTINGS[preset]), IMAGE_SIZE, ACTIONS, 0, _device())
    policy = agent.policy(True, torch.Generator(agent.device).manual_seed(0))
    image = np.random.default_rng(0).integers(0, 256, (IMAGE_SIZE, IMAGE_SIZE, 3), dtype=np.uint8)
    policy.act(image)
    return lambda: policy.act(image), {}


def replay_batch(preset: str, frames: int) -> Subject:
    """One batch out of a replay of ``frames`` frames."""
    config, rng = AgentConfig.from_settings(SETTINGS[preset]), np.random.default_rng(0)
    replay, folder = filled_replay(frames)

    def sample(_: object = folder) -> None:
        replay.sample(rng, config.batch_size, 0, config.sequence_length, False)

    return sample, {"frames": frames}


def update(preset: str, precision: Precision, plain: bool = False, profile: bool = False) -> Subject:
    """One full update; ``plain``: without the fast paths."""
    config = AgentConfig.from_settings(SETTINGS[preset])
    agent = (PlainAgent if plain else Agent)(config, IMAGE_SIZE, ACTIONS, 0, _device(), precision)
    batch, expert = batches(config, folded=not plain)
    facts: dict[str, Any] = {"gflop": count_gflop(lambda: agent.update(batch, expert))}
    if profile:
        facts["phases"] = phases(agent, batch, expert)
    return lambda: agent.update(batch, expert), facts


def product(precision: Precision) -> Subject:
    """One product of square matrices: what this machine can do at best."""
    kind = torch.bfloat16 if precision == "bfloat16" else torch.float32
    matrix = torch.randn(_PRODUCT, _PRODUCT, device=_device()).to(kind)

    def multiply() -> None:
        F.linear(matrix, matrix)
        if matrix.is_cuda:
            torch.cuda.synchronize()

    multiply()
    return multiply, {"gflop": 2 * _PRODUCT**3 / 1e9}


def checkpoint(preset: str) -> Subject:
    """One checkpoint of an agent, forced to the disk."""
    agent = Agent(AgentConfig.from_settings(SETTINGS[preset]), IMAGE_SIZE, ACTIONS, 0, _device())
    agent.update(*batches(agent.config))  # optimisers have no state before
    buffer = io.BytesIO()
    torch.save(agent.state_dict(), buffer)
    file = tempfile.TemporaryFile()  # noqa: SIM115 - as long as the subject

    def save() -> None:
        file.seek(0)
        torch.save(agent.state_dict(), file)
        file.flush()
        os.fsync(file.fileno())

    return save, {"bytes": buffer.tell()}


def worker(preset: str, frames: int, precision: Precision) -> Subject:
    """A whole worker's share of a step: environment, action, replay, and an update after every few."""
    import gymnasium

    config, rng = AgentConfig.from_settings(SETTINGS[preset]), np.random.default_rng(0)
    env: Any = gymnasium.make(_KITCHEN, disable_env_checker=True).unwrapped
    agent = Agent(config, IMAGE_SIZE, ACTIONS, 0, _device(), precision)
    replay, folder = filled_replay(frames, spare=100_000)
    policy = agent.policy(True, torch.Generator(agent.device).manual_seed(0))
    image, _ = env.reset(seed=0)

    def steps(_: object = folder) -> None:
        nonlocal image
        for _step in range(config.train_every):
            action = policy.act(image)
            image, _reward, _terminated, done, _info = env.step(action)
            replay.add(image, action, first=False)
            if done:
                image, _ = env.reset()
                policy.reset()
        for _update in range(config.updates_per_train):
            agent.update(replay.sample(rng, config.batch_size, config.expert_rows, config.sequence_length, False), None)

    for _ in range(5):
        steps()
    return steps, {"env_steps": config.train_every, "frames": frames, **_memory()}


def filled_replay(frames: int, spare: int = 0) -> tuple[Replay, tempfile.TemporaryDirectory[str]]:
    """Return a replay with a demonstration and ``frames`` frames of noise in all, and the folder that it lives in."""
    folder = tempfile.TemporaryDirectory()
    replay = Replay(Path(folder.name), frames + spare, IMAGE_SIZE, ACTIONS)
    rng, action, length = np.random.default_rng(0), np.zeros(ACTIONS, np.float32), min(280, frames // 2)
    images = rng.integers(0, 256, (length, IMAGE_SIZE, IMAGE_SIZE, 3), dtype=np.uint8)
    replay.add_demonstration(images, np.zeros((length, ACTIONS), np.float32))
    for index in range(frames - length):
        replay.add(images[index % length], action, first=index % length == 0)
    return replay, folder


def _device() -> str:
    return "cuda" if torch.cuda.is_available() else "cpu"


def _memory() -> dict[str, float]:
    """Return this process's peak and present memory in GiB; of the latter, the share that is no file's cache."""
    try:
        lines = dict(line.split(":", 1) for line in Path("/proc/self/status").read_text().splitlines())
    except OSError:
        return {}
    keys = {"peak_gib": "VmHWM", "own_gib": "RssAnon", "mapped_gib": "RssFile"}
    return {name: int(lines[key].split()[0]) / 2**20 for name, key in keys.items()}


SUBJECTS: dict[str, Callable[..., Subject]] = {
    function.__name__: function
    for function in (frame, env_step, act, replay_batch, update, product, checkpoint, worker)
}
