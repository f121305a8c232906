"""The score of one episode: the metrics that every evaluation row and every reference line has."""

from __future__ import annotations

from collections import defaultdict
from typing import Any

_OUTCOMES = ("tasks_completed", "success", "completed")


class EpisodeScore:
    """Adds up one episode's outcome from the environment's rewards and infos.

    The metrics: ``tasks_completed``, ``success``, ``completed/<task>``, ``return``, ``episode_length``, and
    ``cost`` and ``cost/<constraint>`` in violating steps.
    """

    def __init__(self) -> None:
        self.length = 0
        self._return = 0.0
        self._costs: dict[str, float] = defaultdict(float)
        self._last: dict[str, Any] = {}

    def add(self, reward: float, info: dict[str, Any]) -> None:
        """Take in one step."""
        self.length += 1
        self._return += float(reward)
        for key, value in info.items():
            if key.split("/")[0] == "cost":
                self._costs[key] += float(value)
        self._last = {key: value for key, value in info.items() if key.split("/")[0] in _OUTCOMES}

    def metrics(self) -> dict[str, float]:
        """Return the episode's metrics so far."""
        outcome = {key: float(value) for key, value in self._last.items()}
        return {**outcome, "return": self._return, "episode_length": float(self.length), **self._costs}

    def state_dict(self) -> dict[str, Any]:
        """Return the sums in mid-episode."""
        return {"length": self.length, "return": self._return, "costs": dict(self._costs), "last": self._last}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Continue the sums of ``state_dict``."""
        self.length, self._return, self._last = state["length"], state["return"], state["last"]
        self._costs = defaultdict(float, state["costs"])
