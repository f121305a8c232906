"""The kitchen environment: episodes, seeds, saved states, and arguments."""

import gymnasium
import numpy as np
import pytest
from gymnasium.utils.env_checker import check_env
from gymnasium_robotics.envs.franka_kitchen.kitchen_env import KitchenEnv as UpstreamKitchen

import ailft_bench  # noqa: F401  (registers the environments)
from ailft_bench.envs.base import ImitationEnv
from ailft_bench.envs.kitchen import DEFAULT_TASKS, KitchenEnv
from ailft_bench.errors import UserError


@pytest.fixture(scope="module")
def env():
    env = KitchenEnv(start_noise=0.1)
    yield env
    env.close()


def actions(count, seed=0):
    return np.random.default_rng(seed).uniform(-1, 1, (count, 9)).astype(np.float32)


def assert_equal_steps(first, second):
    np.testing.assert_array_equal(first[0], second[0])
    assert first[1:4] == second[1:4]
    assert_equal_infos(first[4], second[4])


def assert_equal_infos(first, second):
    assert first.keys() == second.keys()
    for key, value in first.items():
        np.testing.assert_array_equal(value, second[key], err_msg=key)


def test_registered_environment_passes_the_gymnasium_checker():
    env = gymnasium.make("ailft/Kitchen-v0", render_mode="rgb_array", horizon=20)
    assert isinstance(env.unwrapped, ImitationEnv)
    check_env(env.unwrapped)
    env.close()


def test_info_has_every_key_of_the_contract(env):
    _, info = env.reset(seed=0)
    assert info["tasks_completed"] == 0
    assert info["success"] is False
    assert [key.removeprefix("completed/") for key in info if key.startswith("completed/")] == list(DEFAULT_TASKS)
    assert info["cost"] == 0.0
    assert all(info[f"cost/{constraint}"] == 0.0 for constraint in env.constraints)
    assert info["state"].shape == (59,)
    assert env.step(actions(1)[0])[4].keys() == info.keys()


def test_same_seed_gives_the_same_episode(env):
    first_image, first_info = env.reset(seed=7)
    first = [env.step(action) for action in actions(10)]
    image, info = env.reset(seed=7)
    np.testing.assert_array_equal(image, first_image)
    assert_equal_infos(info, first_info)
    for action, step in zip(actions(10), first, strict=True):
        assert_equal_steps(env.step(action), step)


def test_other_seeds_and_later_episodes_differ(env):
    states = [env.begin(1)["state"], env.begin()["state"], env.begin(2)["state"]]
    assert not np.array_equal(states[0], states[1])
    assert not np.array_equal(states[0], states[2])
    np.testing.assert_array_equal(env.begin(1)["state"], states[0])


def test_joint_readings_are_noisy_by_seed_and_ratio():
    def spread(ratio):
        env = KitchenEnv(robot_noise_ratio=ratio, start_noise=0.0)
        readings = []
        for seed in range(8):
            env.begin(seed)
            readings.append(env.joint_reading.copy())
        return np.ptp(readings, axis=0).mean()

    assert spread(0.0) == 0.0
    assert 5.0 < spread(0.1) / spread(0.01) < 20.0


def test_start_noise_moves_every_arm_joint_but_the_second(env):
    starts = np.array([env.begin(seed)["state"][:30] for seed in range(30)])
    spread = starts.std(axis=0)
    assert (starts[:, 1] == starts[0, 1]).all()
    assert (np.abs(spread[[0, 2, 3, 4, 5, 6]] - 0.1) < 0.04).all()
    assert (starts[:, 7:] == starts[0, 7:]).all()


def test_state_continues_bit_for_bit_in_a_new_instance(env):
    env.reset(seed=3)
    for action in actions(12, seed=1):
        env.advance(action)
    state = env.get_state()
    future = [env.step(action) for action in actions(15, seed=2)]
    next_image, next_info = env.reset()

    other = KitchenEnv(start_noise=0.1)
    restored = other.set_state(state)
    np.testing.assert_array_equal(restored, other.show_state(other._info()["state"]))
    for action, step in zip(actions(15, seed=2), future, strict=True):
        assert_equal_steps(other.step(action), step)
    image, info = other.reset()
    np.testing.assert_array_equal(image, next_image)
    assert_equal_infos(info, next_info)
    other.close()


def test_saved_state_is_a_copy(env):
    env.begin(0)
    state = env.get_state()
    before = env.begin(0)["state"]
    env.advance(actions(1)[0])
    env.set_state(state)
    np.testing.assert_array_equal(env._info()["state"], before)
    assert env.get_state()["steps"] == 0


def test_physics_is_upstreams_bit_for_bit():
    env = KitchenEnv(start_noise=0.0)
    env.begin(5)
    upstream = UpstreamKitchen(
        tasks_to_complete=list(DEFAULT_TASKS), terminate_on_tasks_completed=False, robot_noise_ratio=0.1
    )
    upstream.reset(seed=0)
    upstream.robot_env.np_random.bit_generator.state = env.get_state()["reading_noise"]
    upstream.robot_env._last_robot_qpos = env.joint_reading.copy()
    for action in actions(40):
        env.advance(action)
        upstream.step(action)
        np.testing.assert_array_equal(env.data.qpos, upstream.data.qpos)


def test_physics_does_not_depend_on_rendering():
    stock = KitchenEnv(rendering="stock")
    fast = KitchenEnv()
    stock.reset(seed=0)
    fast.reset(seed=0)
    for action in actions(20):
        stock.advance(action)
        fast.step(action)
    np.testing.assert_array_equal(stock.get_state()["physics"], fast.get_state()["physics"])
    stock.close()
    fast.close()


def test_show_state_leaves_the_episode_alone(env):
    start_image, start = env.reset(seed=0)
    for action in actions(10):
        image, *_ = env.step(action)
    before = env.get_state()
    np.testing.assert_array_equal(env.show_state(start["state"]), start_image)
    np.testing.assert_array_equal(env.get_state()["physics"], before["physics"])
    np.testing.assert_array_equal(env.observe(), image)


def test_episode_is_truncated_at_the_horizon_and_never_terminated():
    env = KitchenEnv(horizon=3, tasks=["microwave"])
    env.begin(0)
    assert [env.advance(action)[1] for action in actions(3)] == [False, False, True]


@pytest.mark.parametrize("size", [64, 84, 128])
def test_image_has_the_size_asked_for(size):
    env = KitchenEnv(image_size=size)
    image, _ = env.reset(seed=0)
    assert image.shape == env.observation_space.shape == (size, size, 3)
    assert image.dtype == np.uint8
    assert image.std() > 30
    env.close()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"tasks": ["microwave", "kettel"]}, "did you mean 'kettle'"),
        ({"tasks": []}, "at least one"),
        ({"tasks": ["kettle", "kettle"]}, "each once"),
        ({"image_size": 65}, "image_size: 65"),
        ({"rendering": "fats"}, "did you mean 'fast'"),
        ({"horizon": 0}, "horizon: 0"),
        ({"robot_noise_ratio": -0.1}, "robot_noise_ratio: -0.1"),
        ({"start_noise": float("nan")}, "start_noise: nan"),
    ],
)
def test_wrong_argument_is_refused_with_what_is_allowed(arguments, message):
    with pytest.raises(UserError, match=message):
        KitchenEnv(**arguments)


def test_action_that_is_not_finite_is_refused(env):
    env.begin(0)
    with pytest.raises(ValueError, match="9 finite numbers"):
        env.advance(np.full(9, np.nan))
