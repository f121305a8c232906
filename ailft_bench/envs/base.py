"""The contract of an environment: what the trainer, the evaluation and the demonstrations rely on."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import Any, ClassVar

import gymnasium
import numpy as np

Image = np.ndarray
State = dict[str, Any]


class ImitationEnv(gymnasium.Env[Image, np.ndarray], ABC):
    """An episodic task seen through one RGB image, with named sub-tasks and named safety constraints.

    Observation: uint8 ``(image_size, image_size, 3)`` and nothing else. Action: float32 ``(A,)`` in [-1, 1].
    An episode lasts exactly ``horizon`` steps (``truncated`` at the last one, never ``terminated``): lengths
    that depend on the policy would leak information to an adversarial reward. The reward is the number of
    sub-tasks that are solved in the current state; agents never see it.

    ``info`` holds, at ``reset`` and at every ``step``:

    - ``tasks_completed`` (int): sub-tasks reached at least once in this episode;
    - ``completed/<task>`` (bool), one for each of ``tasks``; ``success`` (bool): all of them;
    - ``cost`` (float 0 or 1): any constraint violated in this step (safety-gymnasium's convention), and
      ``cost/<constraint>`` (float 0 or 1), one for each of ``constraints``; zero at reset;
    - ``state`` (float64 vector): the simulator's state, for evaluation and demonstrations only.
    """

    metadata: dict[str, Any] = {"render_modes": ["rgb_array"]}  # noqa: RUF012 - gymnasium's declaration

    tasks: tuple[str, ...]
    constraints: tuple[str, ...]
    horizon: int
    #: Raised by hand whenever the same seed and actions would give another episode or other pixels:
    #: it enters the checksum of demonstrations and the identity of runs.
    version: ClassVar[int]

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[Image, dict[str, Any]]:
        """Start an episode; with a ``seed`` everything random in it and in those after it follows from it."""
        info = self.begin(seed)
        return self.observe(), info

    def step(self, action: np.ndarray) -> tuple[Image, float, bool, bool, dict[str, Any]]:
        """Advance by one action (clipped to [-1, 1]).

        Raises:
            ValueError: the action has another shape or is not finite.
        """
        reward, truncated, info = self.advance(action)
        return self.observe(), reward, False, truncated, info

    def render(self) -> Image | None:
        """Return the image of this moment, in render mode ``rgb_array``."""
        return self.observe() if self.render_mode == "rgb_array" else None

    def begin(self, seed: int | None = None) -> dict[str, Any]:
        """``reset`` without its image; returns ``info``."""
        super().reset(seed=seed)
        return self.start_episode()

    @abstractmethod
    def start_episode(self) -> dict[str, Any]:
        """Draw a start state from ``self.np_random`` and return ``info``."""

    @abstractmethod
    def advance(self, action: np.ndarray) -> tuple[float, bool, dict[str, Any]]:
        """``step`` without its image, which is often half of the time; returns reward, truncated, ``info``."""

    @abstractmethod
    def observe(self) -> Image:
        """Return the image of this moment."""

    @abstractmethod
    def get_state(self) -> State:
        """Return everything that the future of this episode depends on, as a picklable dictionary.

        A snapshot, which later steps do not change. Includes the simulator's full state (warm start included), step
        counter, completed tasks, and every random generator, so that ``set_state`` on this or a new instance, in
        mid-episode or not, continues bit for bit.
        """

    @abstractmethod
    def set_state(self, state: State) -> Image:
        """Restore what ``get_state`` returned and return the observation of that moment."""
