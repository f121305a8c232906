"""Counterfactuals: does the world model know what another action would have changed?

An actor that learns through a model can only learn what the model knows about actions. On demonstrations alone, where
the action follows from the state, a model may predict every frame well and yet ignore the action; no error on the
policy's own episodes shows that. So the environment is asked: from one moment, with the same noise, what does another
action change?
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import torch

from ailft_bench.envs.base import ImitationEnv
from ailft_bench.evaluation import Stopped
from ailft_bench.seeding import branch, branch_seed
from algorithms.frames import fold
from algorithms.learner import Learner

_EPISODES = 2
_MOMENTS = 14  # an episode
_STEPS = 4  # for which the actions differ: about as far as rollouts go
_SPREAD = 0.3  # standard deviation of the difference


def action_effect(
    agent: Learner,
    env: ImitationEnv,
    seed: int,
    occasion: str,
    should_stop: Callable[[], bool] = lambda: False,
) -> dict[str, float]:
    """Compare what other actions change in the image four steps later with what the world model says they would.

    In episodes of the policy's mean actions, at regular moments, the environment goes back four steps and takes the
    same actions again, all moved by one draw of Gaussian noise (0.3), with the same random numbers.

    Returns:
        ``model/action_effect``, the mean cosine of the two differences of images, the true one and the model's
        (1: it knows in which direction actions move the world; 0: it does not know), and
        ``model/action_effect_size``, the model's difference in units of the true one (norms, over all moments).
        The model is the one that acts, which with ``average_decay`` is an average of the one that imagines. Empty
        where the agent has no world model, or where no action changed a pixel.

    Raises:
        Stopped: ``should_stop`` turned true.
    """
    rng = np.random.default_rng(branch(seed, "eval", occasion, "counterfactual"))
    cosines, true_size, believed_size = [], 0.0, 0.0
    for index in range(_EPISODES):
        names = ("eval", occasion, "counterfactual", str(index))
        policy = agent.policy(False, torch.Generator(agent.device).manual_seed(branch_seed(seed, *names, "policy")))
        image, _ = env.reset(seed=branch_seed(seed, *names, "env"))
        moments = min(_MOMENTS, env.horizon // _STEPS)
        for _ in range(moments):
            if should_stop():
                raise Stopped
            for _ in range(env.horizon // moments - _STEPS):
                image = env.step(policy.act(image))[0]
            actions = [policy.act(image)]
            past, belief = env.get_state(), policy.state_dict()
            image = env.step(actions[0])[0]
            for _ in range(_STEPS - 1):
                actions.append(policy.act(image))
                image = env.step(actions[-1])[0]
            offset = _SPREAD * rng.standard_normal(agent.action_size)
            others = [(action + offset).clip(-1, 1).astype(np.float32) for action in actions]
            expected = agent.foresee(belief, np.stack([actions, others], axis=1))
            if expected is None:
                return {}
            now = env.get_state()
            env.set_state(past)
            for action in others:
                env.advance(action)
            other_image = env.observe()
            env.set_state(now)
            truth = (fold(other_image).astype(np.float64) - fold(image)) / 255
            believed = (expected[1] - expected[0]).astype(np.float64)
            sizes = float(np.linalg.norm(truth)), float(np.linalg.norm(believed))
            if sizes[0] > 0:
                cosines.append((truth * believed).sum() / (sizes[0] * sizes[1]) if sizes[1] > 0 else 0.0)
                true_size, believed_size = true_size + sizes[0], believed_size + sizes[1]
    if not cosines:
        return {}
    return {"model/action_effect": float(np.mean(cosines)), "model/action_effect_size": believed_size / true_size}
