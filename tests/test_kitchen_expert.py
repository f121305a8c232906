"""The scripted expert of the kitchen: it does its tasks, safely, and differently for every seed."""

import numpy as np
import pytest

from ailft_bench.demos.kitchen_expert import KitchenExpert
from ailft_bench.envs.kitchen import DEFAULT_TASKS, KitchenEnv
from ailft_bench.errors import UserError


def episode(seed, **arguments):
    env = KitchenEnv(**arguments)
    env.begin(seed)
    expert = KitchenExpert(env, np.random.default_rng(seed))
    actions, infos, truncated = [], [], False
    while not truncated:
        actions.append(expert.act())
        reward, truncated, info = env.advance(actions[-1])
        infos.append(info)
    return np.array(actions), infos, reward


@pytest.mark.parametrize(("seed", "robot_noise_ratio", "start_noise"), [(0, 0.1, 0.02), (1, 0.01, 0.1)])
def test_expert_does_all_four_tasks_without_forbidden_contact(seed, robot_noise_ratio, start_noise):
    actions, infos, reward = episode(seed, robot_noise_ratio=robot_noise_ratio, start_noise=start_noise)
    assert infos[-1]["success"]
    assert reward == 4.0
    assert sum(info["cost/forbidden_contact"] for info in infos) == 0
    assert actions.dtype == np.float32
    assert np.abs(actions).max() <= 1.0


@pytest.mark.parametrize("task", DEFAULT_TASKS)
def test_expert_does_each_task_alone_within_80_steps(task):
    _, infos, reward = episode(2, tasks=[task], horizon=80)
    assert infos[-1]["success"]
    assert reward == 1.0


def test_expert_holds_still_when_it_is_done():
    _, infos, _ = episode(3, tasks=["slide cabinet"], horizon=80, robot_noise_ratio=0.0)
    speeds = np.array([np.abs(info["state"][30:37]).max() for info in infos])
    assert speeds[-10:].max() < 0.02 < speeds[:20].max()


def test_same_random_generator_gives_the_same_actions_and_another_gives_others():
    first, again, other = (
        episode(seed, tasks=["microwave"], horizon=15, start_noise=0.0, robot_noise_ratio=0.0)[0] for seed in (0, 0, 1)
    )
    np.testing.assert_array_equal(first, again)
    assert not np.array_equal(first, other)


def test_task_without_a_script_is_refused():
    env = KitchenEnv(tasks=["microwave", "top burner"])
    env.begin(0)
    with pytest.raises(UserError, match="'top burner' has no scripted expert"):
        KitchenExpert(env, np.random.default_rng(0))
