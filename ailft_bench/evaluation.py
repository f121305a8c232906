"""Evaluation: episodes of a policy that nothing learns from, and their averages."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from statistics import fmean

import numpy as np
import torch

from ailft_bench.envs.base import ImitationEnv
from ailft_bench.score import EpisodeScore
from ailft_bench.seeding import branch_seed
from algorithms.learner import Learner


class Stopped(Exception):
    """The process was asked to stop in the middle of an evaluation; nothing of it was recorded."""


@dataclass(frozen=True)
class EvaluatedEpisode:
    """One episode: its metrics, frames (T+1, S, S, 3) and actions (T+1, A), the first of them zero."""

    metrics: dict[str, float]
    images: np.ndarray
    actions: np.ndarray


def evaluate(
    agent: Learner,
    env: ImitationEnv,
    episodes: int,
    seed: int,
    occasion: str,
    sample: bool,
    should_stop: Callable[[], bool] = lambda: False,
) -> list[EvaluatedEpisode]:
    """Play ``episodes`` episodes with the policy's mean or sampled actions.

    Start states and noise are branches of ``seed`` named by ``occasion``, so all methods meet the same ones
    and no training stream is touched.

    Raises:
        Stopped: ``should_stop`` turned true.
    """
    played = []
    for index in range(episodes):
        names = ("eval", occasion, "sampled" if sample else "mean", str(index))
        generator = torch.Generator(agent.device).manual_seed(branch_seed(seed, *names, "policy"))
        policy = agent.policy(sample, generator)
        image, _ = env.reset(seed=branch_seed(seed, *names, "env"))
        images, actions, score = [image], [np.zeros(agent.action_size, np.float32)], EpisodeScore()
        done = False
        while not done:
            if should_stop():
                raise Stopped
            action = policy.act(image)
            image, reward, terminated, truncated, info = env.step(action)
            done = terminated or truncated
            score.add(float(reward), info)
            images.append(image)
            actions.append(action)
        played.append(EvaluatedEpisode(score.metrics(), np.stack(images), np.stack(actions)))
    return played


def averages(rows: Iterable[dict[str, float]]) -> dict[str, float]:
    """Return the mean of every metric over episodes."""
    rows = list(rows)
    return {name: fmean(row[name] for row in rows) for name in rows[0]}
