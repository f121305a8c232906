"""The scripted expert of the kitchen: Cartesian waypoints, inverse kinematics, and a joint tracker.

The waypoints come from the geometry of the scene: grasp the microwave's bar and pull it on its arc, push the
kettle by its handle, push the light's lever from the right, push the sliding door's bar from the left. Every
episode jitters them and the speed, so that no two demonstrations are alike.
"""

from __future__ import annotations

from typing import ClassVar, NamedTuple

import mujoco
import numpy as np

from ailft_bench.envs.base import ImitationEnv
from ailft_bench.envs.kitchen import KitchenEnv
from ailft_bench.errors import UserError

_OPEN, _CLOSED = 0.04, 0.0

_POSITION_JITTER = 0.006
_AXIS_JITTER = 0.02
_SPEED_RANGE = (0.85, 1.15)

#: Inside the joints' limits: next to them, contact would push the arm against a limit.
_LOWER = np.array([-2.85, -1.75, -2.85, -3.0, -2.85, -1.6, -2.85])
_UPPER = np.array([2.85, 1.75, 2.85, -0.45, 2.85, 2.05, 2.85])

#: One action of 1 moves the servo's set point by 2 rad/s times 0.08 s.
_ACTION_RADIANS = 0.16
_GAIN = 1.8
_FINGER_GAIN = 2.0
#: The reference waits for an arm that lags more (rad), but not forever (steps): contact may hold it back.
_LAG = 0.09
_PATIENCE = 4
#: Fastest reference (rad per step) that the servos follow to within a few milliradians, by joint.
_JOINT_STEP = np.array([0.065] * 4 + [0.08] * 3)


class Waypoint(NamedTuple):
    """A pose of the gripper: position (m), approach axis, finger opening (m), and metres per step.

    After arrival the reference stays there for ``hold`` steps.
    """

    position: tuple[float, float, float]
    axis: tuple[float, float, float]
    fingers: float
    step: float
    hold: int = 0


#: Hinge (-1.128, 0.455), radius 0.487: the door's bar moves on this arc.
_MICROWAVE_ARC = (
    (-0.641, 0.422, 1.84),
    (-0.647, 0.363, 1.84),
    (-0.660, 0.305, 1.84),
    (-0.680, 0.250, 1.84),
    (-0.707, 0.197, 1.84),
    (-0.740, 0.148, 1.84),
    (-0.779, 0.103, 1.84),
)

#: In the order in which they are done.
WAYPOINTS: dict[str, tuple[Waypoint, ...]] = {
    "microwave": (
        Waypoint((-0.615, 0.32, 1.84), (-0.15, 1, 0), _OPEN, 0.06),
        # Deep behind the bar: 3 cm less and it slips out.
        Waypoint((-0.642, 0.482, 1.84), (-0.15, 1, 0), _OPEN, 0.045),
        Waypoint((-0.642, 0.482, 1.84), (-0.15, 1, 0), _CLOSED, 0.045, hold=6),
        *(
            Waypoint(position, (-0.15 - 0.04 * index, 1, 0), _CLOSED, 0.045)
            for index, position in enumerate(_MICROWAVE_ARC)
        ),
        Waypoint((-0.779, 0.095, 1.84), (-0.4, 1, 0), _OPEN, 0.045, hold=6),
        Waypoint((-0.739, -0.015, 1.84), (-0.3, 1, 0), _OPEN, 0.05),
    ),
    "kettle": (
        Waypoint((-0.32, 0.10, 1.80), (0.2, 1, -0.1), _CLOSED, 0.06),
        # Under the bar of the handle, which is at 1.88 m.
        Waypoint((-0.28, 0.27, 1.79), (0.2, 1, -0.1), _CLOSED, 0.05),
        Waypoint((-0.25, 0.70, 1.80), (0.2, 1, -0.05), _CLOSED, 0.035),
        # Clear of the handle before going up, or the kettle comes along.
        Waypoint((-0.29, 0.43, 1.81), (0.2, 1, 0), _CLOSED, 0.06),
    ),
    "light switch": (
        Waypoint((-0.31, 0.45, 2.26), (0.05, 1, 0.15), _CLOSED, 0.07),
        Waypoint((-0.320, 0.600, 2.28), (0, 1, 0.1), _CLOSED, 0.04),
        Waypoint((-0.415, 0.606, 2.28), (0, 1, 0.1), _CLOSED, 0.02),
        Waypoint((-0.36, 0.48, 2.34), (0, 1, 0.1), _CLOSED, 0.05),
    ),
    "slide cabinet": (
        Waypoint((-0.20, 0.50, 2.52), (0.1, 1, 0.1), _CLOSED, 0.06),
        Waypoint((-0.175, 0.565, 2.53), (0.2, 1, 0.1), _CLOSED, 0.04),
        Waypoint((0.20, 0.565, 2.53), (0.4, 1, 0.1), _CLOSED, 0.04),
        Waypoint((0.14, 0.47, 2.50), (0.4, 1, 0.1), _CLOSED, 0.04),
    ),
}


class KitchenExpert:
    """Does the selected ones of microwave, kettle, light switch and slide cabinet, then holds still.

    Args:
        env: A kitchen that has been reset.
        rng: Draws this episode's jitter and speed.

    Raises:
        UserError: the environment is no kitchen, or selects a task that this expert does not know.
    """

    version: ClassVar[int] = 1

    def __init__(self, env: ImitationEnv, rng: np.random.Generator) -> None:
        if not isinstance(env, KitchenEnv):
            raise UserError(f"the kitchen's expert cannot act in {type(env).__name__}")
        unknown = [task for task in env.tasks if task not in WAYPOINTS]
        if unknown:
            known = ", ".join(WAYPOINTS)
            raise UserError(f"environment: tasks: {unknown[0]!r} has no scripted expert; those with one: {known}")
        self._env = env
        self._stiffness = env.model.actuator_gainprm[:7, 0]
        self._arm, self._fingers = _plan(env, rng)
        self._index = 0
        self._waited = 0

    def act(self) -> np.ndarray:
        """Return the action, float32 ``(9,)``, that follows the reference from the last joint reading.

        The servos have no gravity compensation: the torque that holds the arm enters as an offset of its own.
        """
        reading = self._env.joint_reading
        self._follow(reading[:7])
        offset = self._env.data.qfrc_bias[:7] / self._stiffness
        arm = _GAIN * (self._arm[self._index] - reading[:7]) + offset
        fingers = _FINGER_GAIN * (self._fingers[self._index] - reading[7:])
        return np.clip(np.concatenate([arm, fingers]) / _ACTION_RADIANS, -1.0, 1.0).astype(np.float32)

    def _follow(self, reading: np.ndarray) -> None:
        lag = np.abs(self._arm[self._index] - reading).max()
        if self._index == len(self._arm) - 1:
            return
        if lag < _LAG or self._waited == _PATIENCE:
            self._index += 1
            self._waited = 0
        else:
            self._waited += 1


def _plan(env: KitchenEnv, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """Return the reference, one row a step: arm ``(N, 7)`` in rad and finger opening ``(N,)`` in m."""
    kinematics = _Kinematics(env)
    speed = rng.uniform(*_SPEED_RANGE)
    joints = np.clip(env.data.qpos[:7], _LOWER, _UPPER)
    position, axis = kinematics.pose(joints)
    arm, fingers = [joints], [_OPEN]
    for waypoint in (point for task in WAYPOINTS if task in env.tasks for point in WAYPOINTS[task]):
        goal = waypoint.position + rng.uniform(-_POSITION_JITTER, _POSITION_JITTER, 3)
        goal_axis = waypoint.axis + rng.normal(0.0, _AXIS_JITTER, 3)
        steps = max(1, round(float(np.linalg.norm(goal - position)) / (waypoint.step * speed)))
        for share in np.arange(1, steps + 1) / steps:
            joints = kinematics.solve(joints, position + share * (goal - position), axis + share * (goal_axis - axis))
            # Where the arm has to turn more than the gripper moves, the joints set the pace.
            rows = max(1, int(np.ceil((np.abs(joints - arm[-1]) / _JOINT_STEP).max())))
            arm.extend(np.linspace(arm[-1], joints, rows + 1)[1:])
        arm.extend([joints] * waypoint.hold)
        fingers.extend([waypoint.fingers] * (len(arm) - len(fingers)))
        position, axis = goal, goal_axis
    return np.array(arm), np.array(fingers)


class _Kinematics:
    """Inverse kinematics of the gripper by damped least squares, on a simulation of its own."""

    _ITERATIONS = 20
    _DAMPING = 1e-4
    _ROTATION_WEIGHT = 0.12
    _POSTURE_GAIN = 0.005

    def __init__(self, env: KitchenEnv) -> None:
        self._model = env.model
        self._data = mujoco.MjData(env.model)
        self._data.qpos[:] = env.data.qpos
        self._posture = env.data.qpos[:7].copy()
        self._site = env.model.site("end_effector").id
        self._jacobian = np.zeros((6, env.model.nv))

    def pose(self, joints: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Return the gripper's position and approach axis in the world."""
        self._move(joints)
        return self._data.site_xpos[self._site].copy(), self._rotation()[:, 2].copy()

    def solve(self, joints: np.ndarray, position: np.ndarray, axis: np.ndarray) -> np.ndarray:
        """Return joints near ``joints`` whose gripper is at ``position``, along ``axis`` and upright."""
        target = _upright_frame(axis)
        for _ in range(self._ITERATIONS):
            self._move(joints)
            turn = 0.5 * np.cross(self._rotation().T, target.T).sum(axis=0)
            error = np.concatenate([position - self._data.site_xpos[self._site], self._ROTATION_WEIGHT * turn])
            mujoco.mj_jacSite(self._model, self._data, self._jacobian[:3], self._jacobian[3:], self._site)
            jacobian = self._jacobian[:, :7].copy()
            jacobian[3:] *= self._ROTATION_WEIGHT
            joints = self._step(joints, jacobian, error)
        return joints

    def _step(self, joints: np.ndarray, jacobian: np.ndarray, error: np.ndarray) -> np.ndarray:
        """Take one step; a joint that would leave its range stops there, and the others make up for it.

        Clipping alone leaves the gripper decimetres off: joint 2 starts at its limit.
        """
        moved = joints.copy()
        free = np.ones(7, bool)
        while True:
            part = jacobian[:, free]
            inverse = part.T @ np.linalg.inv(part @ part.T + self._DAMPING * np.eye(6))
            posture = self._POSTURE_GAIN * (self._posture - joints)[free]
            rest = error - jacobian[:, ~free] @ (moved - joints)[~free]
            moved[free] = joints[free] + inverse @ rest + posture - inverse @ (part @ posture)
            outside = free & ((moved < _LOWER) | (moved > _UPPER))
            if not outside.any():
                return moved
            moved = np.clip(moved, _LOWER, _UPPER)
            free &= ~outside

    def _move(self, joints: np.ndarray) -> None:
        self._data.qpos[:7] = joints
        mujoco.mj_kinematics(self._model, self._data)
        mujoco.mj_comPos(self._model, self._data)

    def _rotation(self) -> np.ndarray:
        return self._data.site_xmat[self._site].reshape(3, 3)


def _upright_frame(axis: np.ndarray) -> np.ndarray:
    """Return the rotation whose z is ``axis`` and whose x points up, so that the fingers close sideways."""
    z = axis / np.linalg.norm(axis)
    x = np.array([0.0, 0.0, 1.0]) - z[2] * z
    x /= np.linalg.norm(x)
    return np.stack([x, np.cross(z, x), z], axis=1)
