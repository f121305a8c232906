"""Open-loop replay: what copying the demonstrations' actions without looking would score."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from statistics import fmean
from typing import Any

import numpy as np

from ailft_bench.demos.episode import Episode
from ailft_bench.demos.recording import make_env
from ailft_bench.envs.base import ImitationEnv
from ailft_bench.errors import UserError
from ailft_bench.seeding import branch_seed


@dataclass(frozen=True)
class Outcome:
    """How one episode went; ``cost`` is its number of steps with a violated constraint."""

    tasks_completed: int
    success: bool
    cost: float
    final_reward: float


@dataclass(frozen=True)
class ReplayScore:
    """Outcomes in order; outcome i replayed demonstration ``i % demonstrations``."""

    outcomes: tuple[Outcome, ...]
    demonstrations: int

    @property
    def tasks_completed(self) -> float:
        """Mean number of tasks reached in an episode."""
        return fmean(outcome.tasks_completed for outcome in self.outcomes)

    @property
    def success(self) -> float:
        """Share of the episodes that reached all tasks."""
        return fmean(outcome.success for outcome in self.outcomes)

    @property
    def cost(self) -> float:
        """Mean number of violating steps in an episode."""
        return fmean(outcome.cost for outcome in self.outcomes)


def replay(
    env_id: str,
    env_kwargs: dict[str, Any],
    demonstrations: Sequence[Episode],
    episodes: int,
    seed: int,
    on_progress: Callable[[str], None] = lambda message: None,
) -> ReplayScore:
    """Replay the demonstrations in turn from fresh start states.

    Raises:
        UserError: no episodes, or actions that do not fit the environment.
    """
    if not demonstrations or episodes < 1:
        raise UserError(f"replay: {episodes} episodes of {len(demonstrations)} demonstrations; needed: 1 of 1")
    env = make_env(env_id, env_kwargs)
    outcomes = []
    try:
        for number in range(episodes):
            demonstration = demonstrations[number % len(demonstrations)]
            actions = whole_episode(env, demonstration.action, f"demonstration {number}")
            outcomes.append(replay_actions(env, actions, branch_seed(seed, "replay", str(number))))
            on_progress(f"replay {number + 1} of {episodes}: {outcomes[-1].tasks_completed} tasks")
    finally:
        env.close()
    return ReplayScore(tuple(outcomes), len(demonstrations))


def replay_actions(env: ImitationEnv, actions: np.ndarray, env_seed: int) -> Outcome:
    """Reset ``env`` and take ``actions`` (T, A), or as many as an episode has, without drawing anything."""
    info = env.begin(env_seed)
    reward, cost = 0.0, 0.0
    for action in actions[: env.horizon]:
        reward, _, info = env.advance(action)
        cost += info["cost"]
    return Outcome(info["tasks_completed"], bool(info["success"]), cost, reward)


def whole_episode(env: ImitationEnv, action: np.ndarray, name: str) -> np.ndarray:
    """Return a demonstration's actions (rows, A) as those of an episode of ``env`` (horizon, A).

    Its first row led to the first image; where it is shorter than an episode, nothing is done after its end.

    Raises:
        UserError: A differs.
    """
    check_actions(env, action, name)
    taken = action[1 : 1 + env.horizon]
    return np.concatenate([taken, np.zeros((env.horizon - len(taken), *action.shape[1:]), action.dtype)])


def check_actions(env: ImitationEnv, action: np.ndarray, name: str) -> None:
    """Refuse actions (rows, A) that ``env`` does not take.

    Raises:
        UserError: A differs.
    """
    if action.shape[1:] != env.action_space.shape:
        raise UserError(
            f"{name}: actions {action.shape[1:]} a step, but the environment takes {env.action_space.shape}"
        )
