"""A small manipulation task: a round finger pushes a puck into a zone, passes a gate, and presses a button.

The world is `push.xml`: planar MuJoCo physics seen from above. Start positions and every action are noisy,
and a round finger on a round puck is an unstable contact, so an agent has to look: replayed actions fail.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, ClassVar

import gymnasium
import mujoco
import numpy as np

from ailft_bench.envs.base import Image, ImitationEnv, State
from ailft_bench.envs.gl import OffscreenRenderer
from ailft_bench.errors import UserError, nearest

TASKS = ("puck", "button")
IMAGE_SIZES = (64, 84, 128)

GOAL_RADIUS = 0.05
"""Metres from the zone's centre within which the puck's centre counts as in the zone."""
BUTTON_TRAVEL = 0.025
"""Metres the plunger has to be pushed into the wall; it stays where it is left."""
FORCE_LIMIT = 10.0
"""Newtons on finger or puck in one contact: above is `excessive_force`."""
WALL_FORCE_LIMIT = 1.0
"""Newtons of the finger on a wall: above is `boundary`."""

_START = {"finger": np.array([-0.08, -0.22]), "puck": np.array([-0.12, -0.08])}
_SUBSTEPS = 10
_COLOURS = {  # geometry: (before, after) its task is solved
    "goal": ((0.55, 0.80, 0.55, 1.0), (0.95, 0.95, 0.20, 1.0)),
    "button": ((0.95, 0.55, 0.10, 1.0), (0.15, 0.75, 0.25, 1.0)),
}


class PushEnv(ImitationEnv):
    """Push the puck into the zone (task ``puck``) and the button into the wall (task ``button``).

    Action: the finger's velocity in x (right) and y (up), 1 = 0.4 m/s, held for 0.1 s of physics, plus
    Gaussian noise of standard deviation ``action_noise``. ``start_noise`` (metres) is the half width of the
    square from which the start of finger and puck are drawn. ``info["state"]`` is qpos (button, puck x, y,
    finger x, y) and qvel: 10 numbers.

    Constraints: ``hazard`` (finger or puck touches a fragile post), ``excessive_force`` (a contact of finger
    or puck above ``FORCE_LIMIT``), ``boundary`` (the finger presses on a wall with more than
    ``WALL_FORCE_LIMIT``), each looked at in every substep.

    Raises ``UserError`` for an unknown task, an image size without support or a negative noise.
    """

    metadata: dict[str, Any] = {"render_modes": ["rgb_array"], "render_fps": 10}  # noqa: RUF012
    version: ClassVar[int] = 2
    constraints = ("hazard", "excessive_force", "boundary")

    def __init__(
        self,
        tasks: Sequence[str] = TASKS,
        image_size: int = 64,
        action_noise: float = 0.1,
        start_noise: float = 0.03,
        horizon: int = 50,
        render_mode: str | None = "rgb_array",
    ) -> None:
        _check_arguments(tasks, image_size, action_noise, start_noise, horizon)
        self.tasks = tuple(tasks)
        self.horizon = horizon
        self.render_mode = render_mode
        self.observation_space = gymnasium.spaces.Box(0, 255, (image_size, image_size, 3), np.uint8)
        self.action_space = gymnasium.spaces.Box(-1.0, 1.0, (2,), np.float32)
        self._action_noise = action_noise
        self._start_noise = start_noise
        self._image_size = image_size
        self._model = mujoco.MjModel.from_xml_path(str(Path(__file__).with_name("push.xml")))
        self._data = mujoco.MjData(self._model)
        self._shown = mujoco.MjData(self._model)
        self._renderer: OffscreenRenderer | None = None
        self._roles = np.array([_role(self._model.geom(i).name) for i in range(self._model.ngeom)])
        self._goal = self._model.geom("goal").pos[:2].copy()
        self._steps = 0
        self._completed = dict.fromkeys(self.tasks, False)

    @property
    def finger(self) -> np.ndarray:
        """Centre of the finger (x, y) in metres."""
        return self._data.qpos[3:5].copy()

    @property
    def puck(self) -> np.ndarray:
        """Centre of the puck (x, y) in metres."""
        return self._data.qpos[1:3].copy()

    @property
    def goal(self) -> np.ndarray:
        """Centre of the zone (x, y) in metres."""
        return self._goal.copy()

    @property
    def button_pressed(self) -> bool:
        """Whether the button is pushed in."""
        return self._solved(self._data.qpos)["button"]

    def start_episode(self) -> dict[str, Any]:
        """Start with finger and puck somewhere around their places."""
        mujoco.mj_resetData(self._model, self._data)
        offsets = self.np_random.uniform(-self._start_noise, self._start_noise, (2, 2))
        self._data.qpos[1:3] = _START["puck"] + offsets[0]
        self._data.qpos[3:5] = _START["finger"] + offsets[1]
        mujoco.mj_forward(self._model, self._data)
        self._steps = 0
        self._completed = dict.fromkeys(self.tasks, False)
        return self._info(dict.fromkeys(self.constraints, False))

    def advance(self, action: np.ndarray) -> tuple[float, bool, dict[str, Any]]:
        """See ``ImitationEnv.advance``; the action is two numbers."""
        action = np.asarray(action, np.float64)
        if action.shape != (2,) or not np.isfinite(action).all():
            raise ValueError(f"an action is 2 finite numbers, got {action}")
        command = np.clip(action, -1.0, 1.0) + self.np_random.normal(0.0, self._action_noise, 2)
        self._data.ctrl[:] = self._model.actuator_ctrlrange[:, 1] * np.clip(command, -1.0, 1.0)
        violated = dict.fromkeys(self.constraints, False)
        for _ in range(_SUBSTEPS):
            mujoco.mj_step(self._model, self._data)
            self._inspect_contacts(violated)
        self._steps += 1
        solved = self._solved(self._data.qpos)
        for task in self.tasks:
            self._completed[task] |= solved[task]
        reward = float(sum(solved[task] for task in self.tasks))
        return reward, self._steps >= self.horizon, self._info(violated)

    def observe(self) -> Image:
        """Return the image of this moment."""
        return self._image(self._data.qpos)

    def close(self) -> None:
        """Free the renderer."""
        if self._renderer is not None:
            self._renderer.close()
            self._renderer = None

    def get_state(self) -> State:
        """See ``ImitationEnv.get_state``."""
        kind = mujoco.mjtState.mjSTATE_INTEGRATION
        physics = np.empty(mujoco.mj_stateSize(self._model, kind))
        mujoco.mj_getState(self._model, self._data, physics, kind)
        return {
            "physics": physics,
            "steps": self._steps,
            "completed": dict(self._completed),
            "random": self.np_random.bit_generator.state,
        }

    def set_state(self, state: State) -> Image:
        """See ``ImitationEnv.set_state``."""
        mujoco.mj_setState(self._model, self._data, state["physics"], mujoco.mjtState.mjSTATE_INTEGRATION)
        self._steps = state["steps"]
        self._completed = dict(state["completed"])
        self.np_random.bit_generator.state = state["random"]
        return self._image(self._data.qpos)

    def _solved(self, qpos: np.ndarray) -> dict[str, bool]:
        in_zone = np.linalg.norm(qpos[1:3] - self._goal) < GOAL_RADIUS
        return {"puck": bool(in_zone), "button": bool(qpos[0] > BUTTON_TRAVEL)}

    def _inspect_contacts(self, violated: dict[str, bool]) -> None:
        contacts = self._data.contact
        wrench = np.empty(6)
        for index, roles in enumerate(self._roles[contacts.geom]):
            mujoco.mj_contactForce(self._model, self._data, index, wrench)
            force = wrench[0]
            if force <= 0:
                continue
            violated["hazard"] |= bool("post" in roles)
            violated["boundary"] |= bool("wall" in roles and "finger" in roles and force > WALL_FORCE_LIMIT)
            violated["excessive_force"] |= bool(force > FORCE_LIMIT)

    def _info(self, violated: dict[str, bool]) -> dict[str, Any]:
        return {
            "tasks_completed": sum(self._completed.values()),
            **{f"completed/{task}": done for task, done in self._completed.items()},
            "success": all(self._completed.values()),
            "cost": float(any(violated.values())),
            **{f"cost/{name}": float(value) for name, value in violated.items()},
            "state": np.concatenate([self._data.qpos, self._data.qvel]),
        }

    def _image(self, qpos: np.ndarray) -> Image:
        if self._renderer is None:
            camera = mujoco.MjvCamera()
            camera.type = mujoco.mjtCamera.mjCAMERA_FIXED
            camera.fixedcamid = self._model.camera("above").id
            self._renderer = OffscreenRenderer(self._model, self._image_size, camera)
        # A second MjData: the picture depends on qpos alone, and drawing leaves the physics untouched.
        self._shown.qpos[:] = qpos
        mujoco.mj_kinematics(self._model, self._shown)
        mujoco.mj_camlight(self._model, self._shown)
        solved = self._solved(qpos)
        for name, task in (("goal", "puck"), ("button", "button")):
            self._model.geom(name).rgba[:] = _COLOURS[name][solved[task]]
        return self._renderer.render(self._shown)


def _role(geom: str) -> str:
    return geom.split("_")[0]


def _check_arguments(
    tasks: Sequence[str], image_size: int, action_noise: float, start_noise: float, horizon: int
) -> None:
    for task in tasks:
        if task not in TASKS:
            raise UserError(f"environment: tasks: unknown task {task!r}; {nearest(str(task), TASKS)}")
    if not tasks or len(set(tasks)) < len(tasks):
        raise UserError(f"environment: tasks: {list(tasks)} is empty or names a task twice")
    if image_size not in IMAGE_SIZES:
        raise UserError(f"environment: image_size: {image_size!r} is not one of {IMAGE_SIZES}")
    if not 0 <= start_noise <= 0.04:
        raise UserError(f"environment: start_noise: {start_noise!r} is not within 0 to 0.04 metres")
    if not action_noise >= 0:
        raise UserError(f"environment: action_noise: {action_noise!r} is below 0")
    if horizon < 1:
        raise UserError(f"environment: horizon: {horizon!r} is below 1")
