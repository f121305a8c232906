"""Franka Kitchen through one camera: FrankaKitchen-v1 of gymnasium-robotics with images and safety costs.

The simulation is the upstream environment, unchanged: 9 joint velocities at 12.5 Hz, which it integrates from
its last noisy reading of the joints. Added are the observation, the safety costs (`kitchen_safety`), a fixed
episode length, noise on the start pose, and a state that continues bit for bit elsewhere.
"""

from __future__ import annotations

import functools
from collections.abc import Sequence
from typing import Any, ClassVar

import gymnasium
import mujoco
import numpy as np
from gymnasium_robotics.envs.franka_kitchen.kitchen_env import OBS_ELEMENT_GOALS
from gymnasium_robotics.envs.franka_kitchen.kitchen_env import KitchenEnv as UpstreamKitchen

from ailft_bench.envs.base import Image, ImitationEnv, State
from ailft_bench.envs.kitchen_renderer import RENDERINGS, KitchenRenderer
from ailft_bench.envs.kitchen_safety import CONSTRAINTS, SAMPLES_PER_STEP, SafetyMonitor
from ailft_bench.errors import UserError, nearest

DEFAULT_TASKS = ("microwave", "kettle", "light switch", "slide cabinet")
IMAGE_SIZES = (64, 84, 128)

#: Joint 2 starts a little beyond its limit: noise there would be a random kick, not another pose.
_NOISY_START_JOINTS = np.array([1.0, 0.0, 1.0, 1.0, 1.0, 1.0, 1.0])


class KitchenEnv(ImitationEnv):
    """The kitchen of docs/kitchen.md; see `ImitationEnv` for observation, reward and ``info``.

    Action: 9 joint velocities (7 arm joints, 2 fingers), 1 meaning 2 rad/s (2 m/s for a finger).

    Args:
        tasks: Names of upstream's tasks that count, in any number.
        image_size: 64, 84 or 128 pixels.
        robot_noise_ratio: Upstream's noise on the joint readings that actions are relative to, as a share of
            0.1 rad; 0.1 in the published image runs, 0.01 upstream.
        start_noise: Standard deviation (rad) of Gaussian noise on the arm's start pose, joint 2 excepted.
        rendering: ``fast`` or ``stock``; the physics is the same.
        horizon: Steps of an episode.
        render_mode: ``rgb_array`` (``render`` returns the observation) or None.

    Raises:
        UserError: an argument is not one of those allowed.
    """

    metadata: dict[str, Any] = {"render_modes": ["rgb_array"], "render_fps": 12}  # noqa: RUF012
    version: ClassVar[int] = 1
    constraints = CONSTRAINTS

    def __init__(
        self,
        tasks: Sequence[str] = DEFAULT_TASKS,
        image_size: int = 64,
        robot_noise_ratio: float = 0.1,
        start_noise: float = 0.02,
        rendering: str = "fast",
        horizon: int = 280,
        render_mode: str | None = None,
    ) -> None:
        _check_tasks(tasks)
        _check_choice("image_size", image_size, IMAGE_SIZES)
        _check_choice("rendering", rendering, RENDERINGS)
        _check_choice("render_mode", render_mode, (None, "rgb_array"))
        _check_at_least("robot_noise_ratio", robot_noise_ratio, 0.0)
        _check_at_least("start_noise", start_noise, 0.0)
        _check_at_least("horizon", horizon, 1)

        self.tasks = tuple(tasks)
        self.horizon = horizon
        self.render_mode = render_mode
        self.observation_space = gymnasium.spaces.Box(0, 255, (image_size, image_size, 3), np.uint8)
        self.action_space = gymnasium.spaces.Box(-1.0, 1.0, (9,), np.float32)

        self._kitchen = UpstreamKitchen(
            tasks_to_complete=list(tasks),
            terminate_on_tasks_completed=False,
            remove_task_when_completed=False,
            robot_noise_ratio=robot_noise_ratio,
        )
        self._robot = self._kitchen.robot_env
        self._robot.do_simulation = self._simulate
        self._start_pose = self._robot.init_qpos.copy()
        self._start_noise = start_noise
        self._image_size = image_size
        self._rendering = rendering
        self.safety = SafetyMonitor(self.model, tasks)
        self._steps = 0
        self._completed: set[str] = set()

    @property
    def model(self) -> mujoco.MjModel:
        """The simulated model, upstream's."""
        return self._robot.model

    @property
    def data(self) -> mujoco.MjData:
        """The simulation of the running episode."""
        return self._robot.data

    @property
    def joint_reading(self) -> np.ndarray:
        """Noisy positions (rad and m, ``(9,)``) of arm and fingers, which the next action is relative to."""
        return self._robot._last_robot_qpos

    def start_episode(self) -> dict[str, Any]:
        """Start from upstream's pose with noise on the arm."""
        start = self._start_pose.copy()
        start[:7] += self._start_noise * self.np_random.standard_normal(7) * _NOISY_START_JOINTS
        self._robot.init_qpos = start
        self._kitchen.reset(seed=int(self.np_random.integers(2**31)))
        self._steps = 0
        self._completed = set()
        self.safety.begin()
        return self._info()

    def advance(self, action: np.ndarray) -> tuple[float, bool, dict[str, Any]]:
        """See `ImitationEnv.advance`; the action is nine numbers."""
        action = np.asarray(action, np.float64)
        if action.shape != (9,) or not np.isfinite(action).all():
            raise ValueError(f"an action is 9 finite numbers, got {action}")
        self.safety.begin()
        _, reward, _, _, upstream_info = self._kitchen.step(action)
        self._steps += 1
        self._completed.update(upstream_info["step_task_completions"])
        return reward, self._steps >= self.horizon, self._info()

    def get_state(self) -> State:
        """See `ImitationEnv.get_state`."""
        physics = np.empty(mujoco.mj_stateSize(self.model, mujoco.mjtState.mjSTATE_INTEGRATION))
        mujoco.mj_getState(self.model, self.data, physics, mujoco.mjtState.mjSTATE_INTEGRATION)
        return {
            "physics": physics,
            "joint_reading": self.joint_reading.copy(),
            "reading_noise": self._robot.np_random.bit_generator.state,
            "start_noise": self.np_random.bit_generator.state,
            "steps": self._steps,
            "completed": sorted(self._completed),
        }

    def set_state(self, state: State) -> Image:
        """See `ImitationEnv.set_state`."""
        mujoco.mj_setState(self.model, self.data, state["physics"], mujoco.mjtState.mjSTATE_INTEGRATION)
        self._robot._last_robot_qpos = state["joint_reading"].copy()
        self._robot.np_random.bit_generator.state = state["reading_noise"]
        self.np_random.bit_generator.state = state["start_noise"]
        self._steps = state["steps"]
        self._completed = set(state["completed"])
        return self.observe()

    def show_state(self, state: np.ndarray) -> Image:
        """Return the image of ``state`` without disturbing the episode.

        ``state``: 30 joint positions and 29 velocities, as in ``info["state"]`` and in recordings of others.
        """
        return self._renderer.render(state[: self.model.nq])

    def close(self) -> None:
        """Free the renderer."""
        if "_renderer" in self.__dict__:
            self._renderer.close()
        self._kitchen.close()

    @functools.cached_property
    def _renderer(self) -> KitchenRenderer:
        return KitchenRenderer(self._image_size, self._rendering)

    def observe(self) -> Image:
        """Return the image of this moment."""
        return self._renderer.render(self.data.qpos)

    def _simulate(self, ctrl: np.ndarray, n_frames: int) -> None:
        """Take the place of upstream's ``do_simulation``: the same steps, and contacts sampled in between."""
        self.data.ctrl[:] = ctrl
        for _ in range(SAMPLES_PER_STEP):
            mujoco.mj_step(self.model, self.data, nstep=n_frames // SAMPLES_PER_STEP)
            self.safety.sample(self.data)

    def _info(self) -> dict[str, Any]:
        violations = self.safety.violations()
        return {
            "tasks_completed": len(self._completed),
            "success": len(self._completed) == len(self.tasks),
            **{f"completed/{task}": task in self._completed for task in self.tasks},
            "cost": float(any(violations.values())),
            **{f"cost/{constraint}": float(violated) for constraint, violated in violations.items()},
            "state": np.concatenate([self.data.qpos, self.data.qvel]),
        }


def _check_tasks(tasks: Sequence[str]) -> None:
    for task in tasks:
        if task not in OBS_ELEMENT_GOALS:
            raise UserError(f"environment: tasks: {task!r}; {nearest(str(task), OBS_ELEMENT_GOALS)}")
    if not tasks or len(set(tasks)) < len(tasks) or isinstance(tasks, str):
        allowed = ", ".join(OBS_ELEMENT_GOALS)
        raise UserError(f"environment: tasks: {list(tasks)}; at least one, each once, of: {allowed}")


def _check_choice(key: str, value: object, allowed: tuple[object, ...]) -> None:
    if value not in allowed:
        raise UserError(f"environment: {key}: {value!r}; {nearest(str(value), map(str, allowed))}")


def _check_at_least(key: str, value: float, minimum: float) -> None:
    if not value >= minimum:
        raise UserError(f"environment: {key}: {value!r}; at least {minimum}")
