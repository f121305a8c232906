"""What an importer yields, and how recorded kitchen states become an episode of ours."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np

from ailft_bench.demos.episode import Episode, build_episode
from ailft_bench.envs.base import ImitationEnv
from ailft_bench.errors import UserError

if TYPE_CHECKING:
    from ailft_bench.envs.kitchen import KitchenEnv


@dataclass(frozen=True)
class ImportedEpisode:
    """One episode of a source; ``episode`` is None where it was left out, and ``note`` says what was done."""

    name: str
    episode: Episode | None
    note: str
    kept: bool

    def without_arrays(self) -> ImportedEpisode:
        """Return the same without the episode itself."""
        return replace(self, episode=None)


def require_kitchen(env: ImitationEnv, source: str) -> KitchenEnv:
    """Return ``env``, or refuse it: the meaning of recorded numbers is known for the kitchen alone.

    Raises:
        UserError: ``env`` is not the kitchen.
    """
    from ailft_bench.envs.kitchen import KitchenEnv

    if not isinstance(env, KitchenEnv):
        raise UserError(f"{source}: recorded states can be imported for ailft/Kitchen-v0 only")
    return env


def from_kitchen_states(
    name: str, states: np.ndarray, actions: np.ndarray, env: KitchenEnv, provenance: dict[str, Any]
) -> ImportedEpisode:
    """Draw the states (T+1, 59: qpos 30, qvel 29) and count their tasks; ``actions`` (T, 9) stay as recorded.

    Actions beyond 1 are clipped, as the environment does; their number is in the note.
    """
    solved = np.stack([_solved(states[:, :30], task) for task in env.tasks], axis=1)
    reached = np.maximum.accumulate(solved, axis=0)
    clipped = int((np.abs(actions) > 1).sum())
    episode = build_episode(
        [env.show_state(state) for state in states],
        np.clip(actions, -1, 1),
        solved.sum(axis=1).astype(float),
        [int(count) for count in reached.sum(axis=1)],
        states,
        {**provenance, "name": name, "actions_clipped": clipped},
    )
    note = f"{len(episode)} steps, {reached[-1].sum()} of {len(env.tasks)} tasks"
    if clipped:
        note += f", {clipped} action values clipped to [-1, 1]"
    return ImportedEpisode(name, episode, note, kept=True)


def _solved(qpos: np.ndarray, task: str) -> np.ndarray:
    """Return, for each row of qpos (rows, 30), whether upstream counts ``task`` as done."""
    from gymnasium_robotics.envs.franka_kitchen import kitchen_env as upstream

    distance = np.linalg.norm(qpos[:, upstream.OBS_ELEMENT_INDICES[task]] - upstream.OBS_ELEMENT_GOALS[task], axis=1)
    return distance < upstream.BONUS_THRESH
