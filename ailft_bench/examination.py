"""An examination: all that one evaluation in training measures of an agent, scores and diagnostics."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import torch

from ailft_bench.counterfactual import action_effect
from ailft_bench.envs.base import ImitationEnv
from ailft_bench.evaluation import averages, evaluate
from ailft_bench.seeding import branch_seed
from algorithms.frames import fold
from algorithms.learner import Learner
from algorithms.replay import Batch

#: The occasion of all evaluations in training: they meet the same start states and noise at every step, so that what
#: differs between two of them is the policy, not the luck of the draw.
IN_TRAINING = "training"


def examine(
    agent: Learner,
    env: ImitationEnv,
    episodes: int,
    seed: int,
    demonstrations: Batch | None,
    should_stop: Callable[[], bool] = lambda: False,
) -> dict[str, float]:
    """Return the averages of ``episodes`` episodes of mean and as many of sampled actions, and the diagnostics.

    Those of sampled actions are named ``sampled/...``. The episodes of mean actions judge what was learned, and
    ``demonstrations`` say where the terms of an adversarial objective point; None: there is none yet. Everything that
    is drawn follows from ``seed``, and nothing of it from training.

    Raises:
        Stopped: ``should_stop`` turned true; nothing is recorded.
    """

    def generator(purpose: str) -> torch.Generator:
        return torch.Generator(agent.device).manual_seed(branch_seed(seed, "eval", IN_TRAINING, purpose))

    mean = evaluate(agent, env, episodes, seed, IN_TRAINING, False, should_stop)
    sampled = evaluate(agent, env, episodes, seed, IN_TRAINING, True, should_stop)
    frames = torch.from_numpy(np.stack([fold(episode.images) for episode in mean], axis=1))
    actions = torch.from_numpy(np.stack([episode.actions for episode in mean], axis=1))
    metrics = averages(episode.metrics for episode in mean)
    metrics |= {f"sampled/{k}": v for k, v in averages(episode.metrics for episode in sampled).items()}
    metrics |= agent.judge(frames, actions, generator("calibration"))
    metrics |= action_effect(agent, env, seed, IN_TRAINING, should_stop)
    if demonstrations is not None:
        metrics |= agent.directions(demonstrations, generator("directions"))
    return metrics
