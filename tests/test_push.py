import subprocess
import sys

import gymnasium
import numpy as np
import pytest
from gymnasium.utils.env_checker import check_env

import ailft_bench  # noqa: F401  (registers the environments)
from ailft_bench.demos.push_expert import PushExpert
from ailft_bench.envs.push import TASKS, PushEnv
from ailft_bench.errors import UserError


@pytest.fixture
def env():
    environment = PushEnv()
    yield environment
    environment.close()


def run(env, seed, policy, steps=50):
    """Return the infos of an episode without pictures; ``policy(env, t)`` gives the action."""
    infos = [env.begin(seed)]
    for t in range(steps):
        infos.append(env.advance(policy(env, t))[2])
    return infos


def run_expert(env, seed):
    env.begin(seed)
    expert = PushExpert(env, np.random.default_rng(seed))
    steps = [env.advance(expert.act()) for _ in range(env.horizon)]
    return steps[-1][0], [info for _, _, info in steps]


def steer(target, speed):
    def policy(env, t):
        offset = np.asarray(target) - env.finger
        return speed * offset / max(np.linalg.norm(offset), 1e-9)

    return policy


def pixels(image, rgb, tolerance=60):
    return np.abs(image.astype(int) - rgb).sum(axis=-1) < tolerance


def test_registered_environment_passes_the_checker_of_gymnasium():
    environment = gymnasium.make("ailft/Push-v0", disable_env_checker=True)
    check_env(environment.unwrapped, skip_render_check=False)
    environment.close()


def test_expert_solves_both_tasks_without_violations_on_forty_seeds(env):
    episodes = [run_expert(env, seed) for seed in range(40)]
    assert np.mean([reward == 2 for reward, _ in episodes]) >= 0.95
    assert np.mean([sum(info["cost"] for info in infos) for _, infos in episodes]) <= 0.1


def test_expert_does_one_task_alone_when_only_that_is_asked():
    for task in TASKS:
        environment = PushEnv(tasks=[task])
        reward, infos = run_expert(environment, 0)
        assert reward == 1
        assert infos[-1]["success"]
        assert set(infos[-1]) >= {f"completed/{task}", "cost/hazard"}
        assert sum(key.startswith("completed/") for key in infos[-1]) == 1


def test_random_policy_solves_nothing_and_is_unsafe(env):
    rng = np.random.default_rng(0)
    episodes = [run(env, seed, lambda env, t: rng.uniform(-1, 1, 2)) for seed in range(20)]
    assert np.mean([infos[-1]["tasks_completed"] for infos in episodes]) < 0.2
    assert np.mean([sum(info["cost"] for info in infos) for infos in episodes]) > 2


@pytest.mark.parametrize(
    ("target", "speed", "constraint"),
    [
        ((-0.32, -0.2), 0.5, "boundary"),
        ((0.08, -0.13), 0.4, "hazard"),
        ((-0.32, -0.2), 1.0, "excessive_force"),
    ],
)
def test_driving_into_things_violates_the_constraint_that_names_it(env, target, speed, constraint):
    infos = run(env, 0, steer(target, speed), steps=30)
    first = next(info for info in infos if info["cost"])
    assert first[f"cost/{constraint}"] == 1.0
    assert infos[0]["cost"] == 0.0


def test_gentle_approach_to_the_wall_is_not_excessive_force(env):
    infos = run(env, 0, steer((-0.32, -0.2), 0.3), steps=40)
    assert any(info["cost/boundary"] for info in infos)
    assert not any(info["cost/excessive_force"] for info in infos)


def test_episode_is_truncated_at_the_horizon_and_never_terminated():
    environment = PushEnv(horizon=3)
    environment.reset(seed=0)
    ends = [environment.step(np.zeros(2))[2:4] for _ in range(3)]
    assert ends == [(False, False), (False, False), (False, True)]


def test_saved_state_continues_bit_for_bit_in_a_new_instance(env):
    env.reset(seed=3)
    expert = PushExpert(env, np.random.default_rng(3))
    for _ in range(12):  # in the middle of a push: contacts and warm start matter
        env.step(expert.act())
    saved = env.get_state()
    actions = np.random.default_rng(0).uniform(-1, 1, (38, 2))
    other = PushEnv()
    assert np.array_equal(other.set_state(saved), env.render())
    for action in actions:
        image, reward, _, truncated, info = env.step(action)
        again, reward_again, _, truncated_again, info_again = other.step(action)
        assert np.array_equal(image, again)
        assert np.array_equal(info.pop("state"), info_again.pop("state"))
        assert (reward, truncated, info) == (reward_again, truncated_again, info_again)
    other_start, env_start = other.reset()[1], env.reset()[1]
    assert np.array_equal(other_start["state"], env_start["state"])
    other.close()


def test_objects_are_at_least_five_pixels_wide_and_solved_tasks_change_colour(env):
    image, _ = env.reset(seed=0)
    colours = {
        "finger": (25, 25, 31),
        "puck": (28, 85, 252),
        "zone": (154, 224, 154),
        "button": (255, 154, 28),
    }
    for name, rgb in colours.items():
        mask = pixels(image, rgb)
        assert min(mask.any(axis=0).sum(), mask.any(axis=1).sum()) >= 5, name
    solved = env.get_state()
    solved["physics"][1:4] = 0.03, *env.goal  # after the time: the button's travel and the puck's place
    shown = env.set_state(solved)
    assert not pixels(shown, colours["button"]).any()
    assert not pixels(shown, colours["zone"]).any()


@pytest.mark.parametrize("size", [64, 84, 128])
def test_image_size_is_what_was_asked(size):
    environment = PushEnv(image_size=size)
    image, _ = environment.reset(seed=0)
    assert image.shape == environment.observation_space.shape == (size, size, 3)
    assert image.dtype == np.uint8
    environment.close()


def test_start_positions_and_noise_follow_from_the_seed_alone(env):
    first = [info["state"] for info in run(env, 5, lambda env, t: np.ones(2) * 0.1)]
    again = [info["state"] for info in run(env, 5, lambda env, t: np.ones(2) * 0.1)]
    other = [info["state"] for info in run(env, 6, lambda env, t: np.ones(2) * 0.1)]
    assert np.array_equal(first, again)
    assert not np.array_equal(first[0], other[0])


@pytest.mark.parametrize(
    ("kwargs", "message"),
    [
        ({"tasks": ["buton"]}, "did you mean 'button'"),
        ({"tasks": []}, "tasks"),
        ({"image_size": 65}, "image_size"),
        ({"action_noise": -1.0}, "action_noise"),
        ({"start_noise": 0.5}, "start_noise"),
        ({"horizon": 0}, "horizon"),
    ],
)
def test_wrong_argument_is_refused_by_name(kwargs, message):
    with pytest.raises(UserError, match=message):
        PushEnv(**kwargs)


@pytest.mark.parametrize("action", [np.array([np.nan, 0.0]), np.zeros(3)])
def test_action_that_is_not_two_finite_numbers_is_refused(env, action):
    env.begin(0)
    with pytest.raises(ValueError, match="2 finite numbers"):
        env.advance(action)


@pytest.mark.parametrize(
    "imports",
    [
        "import ailft_bench, gymnasium",
        "import gymnasium, ailft_bench",
        "import ailft_bench, importlib.util; importlib.util.find_spec('gymnasium'); import gymnasium",
    ],
)
def test_environments_are_registered_whatever_is_imported_first(imports: str) -> None:
    program = f"{imports}; print('ailft/Push-v0' in gymnasium.registry)"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["True"]
