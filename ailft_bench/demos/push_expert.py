"""The scripted expert of ailft/Push-v0: steers the finger from the simulator's state, step by step."""

from __future__ import annotations

from typing import ClassVar

import numpy as np

from ailft_bench.envs.base import ImitationEnv
from ailft_bench.envs.push import PushEnv

_CONTACT = 0.075
"""Distance of the centres of finger and puck when they touch, in metres."""
_PLACED = 0.02
"""The puck is left alone once it is this near to the zone's centre."""
_METRES_PER_STEP = 0.04
_GATE = np.array([0.02, 0.0])
_BUTTON = np.array([0.255, 0.0])


class PushExpert:
    """Goes behind the puck, pushes it into the zone with lateral correction, then presses the button.

    Draws from ``rng`` its speed, where behind the puck it starts to push, and where it passes the gate and
    meets the button: the demonstrations cover a band of paths.
    """

    version: ClassVar[int] = 1

    def __init__(self, env: ImitationEnv, rng: np.random.Generator) -> None:
        assert isinstance(env.unwrapped, PushEnv), env
        self._env = env.unwrapped
        self._speed = rng.uniform(0.85, 1.1)
        self._run_up = rng.uniform(0.02, 0.035)
        self._gate = _GATE + rng.uniform(-0.02, 0.02, 2)
        self._button = _BUTTON + np.array([0.0, rng.uniform(-0.02, 0.02)])
        self._pushing = False
        self._placed = "puck" not in self._env.tasks
        self._left = False

    def act(self) -> np.ndarray:
        """Return the next action, float32 (2,)."""
        if not self._placed:
            velocity = self._push()
        elif "button" in self._env.tasks:
            velocity = self._press()
        else:
            velocity = np.zeros(2)
        return np.clip(velocity / _METRES_PER_STEP, -1.0, 1.0).astype(np.float32)

    def _push(self) -> np.ndarray:
        """Return a displacement, in metres for this step, that brings the puck to the zone."""
        finger, puck, goal = self._env.finger, self._env.puck, self._env.goal
        distance = float(np.linalg.norm(goal - puck))
        if distance < _PLACED:
            self._placed = True
            return np.zeros(2)
        forward = (goal - puck) / distance
        sideways = np.array([-forward[1], forward[0]])
        offset = finger - puck
        behind, aside = -offset @ forward, offset @ sideways
        self._pushing = behind > 0.05 and abs(aside) < (0.03 if self._pushing else 0.012)
        if self._pushing:
            ahead = self._speed * min(0.024, 0.3 * distance + 0.006)
            return ahead * forward - 0.8 * aside * sideways
        if behind < _CONTACT + 0.01 and abs(aside) < _CONTACT + 0.01:
            # Beside or before the puck: back around it without touching.
            outward = offset / np.linalg.norm(offset)
            clearance = _CONTACT + 0.02 - np.linalg.norm(offset)
            return _limited(-0.02 * forward + max(clearance, 0.0) * outward, 0.025 * self._speed)
        station = puck - (_CONTACT + self._run_up) * forward
        return _limited(0.7 * (station - finger), 0.032 * self._speed)

    def _press(self) -> np.ndarray:
        """Return a displacement, in metres for this step, that leads through the gate to the button."""
        finger = self._env.finger
        if self._env.button_pressed:
            return np.zeros(2)
        self._left |= bool(np.linalg.norm(self._gate - finger) < 0.03 or finger[0] > self._gate[0])
        if not self._left:
            return _limited(0.7 * (self._gate - finger), 0.034 * self._speed)
        step = _limited(0.7 * (self._button - finger), 0.03 * self._speed)
        return step if finger[0] < 0.15 else _limited(step, 0.02 * self._speed)


def _limited(step: np.ndarray, length: float) -> np.ndarray:
    return step * min(1.0, length / max(float(np.linalg.norm(step)), 1e-9))
