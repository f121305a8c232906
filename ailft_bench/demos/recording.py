"""Recording: one seeded episode of an expert in its environment, with or without pictures."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import gymnasium
import numpy as np
from pydantic import ValidationError

from ailft_bench.demos.episode import Episode, build_episode
from ailft_bench.demos.experts import Expert
from ailft_bench.envs import as_annotated, environment_class
from ailft_bench.envs.base import ImitationEnv
from ailft_bench.errors import UserError
from ailft_bench.seeding import branch


@dataclass(frozen=True)
class Attempt:
    """One recorded episode; ``kept`` where its last state solves every task."""

    number: int
    episode: Episode
    kept: bool


def make_env(env_id: str, env_kwargs: dict[str, Any]) -> ImitationEnv:
    """Make an environment of the project.

    Raises:
        UserError: no such environment, its module cannot be imported, it is none of this project's, or keyword
            arguments it does not take.
    """
    try:
        cls = environment_class(env_id)
    except LookupError as error:
        raise UserError(f"environment {error}") from error
    arguments = {name: _as_annotated(cls, name, value) for name, value in env_kwargs.items()}
    try:
        env = gymnasium.make(env_id, disable_env_checker=True, **arguments).unwrapped
    except TypeError as error:
        raise UserError(f"environment {env_id}: {error}") from error
    assert isinstance(env, ImitationEnv), env
    return env


def _as_annotated(cls: type[ImitationEnv], name: str, value: Any) -> Any:
    """Leave a value that its annotation forbids: suites are checked already, and a default may contradict its own."""
    try:
        return as_annotated(cls, name, value)
    except ValidationError:
        return value


def record(
    env: ImitationEnv,
    start: Callable[[], Callable[[], np.ndarray]],
    env_seed: int,
    provenance: dict[str, Any],
    steps: int | None = None,
) -> Episode:
    """Record one episode; ``start`` is called after the reset and returns what gives the next action."""
    image, info = env.reset(seed=env_seed)
    act = start()
    images, rewards, actions = [image], [0.0], []
    tasks, states = [info["tasks_completed"]], [info["state"]]
    for _ in range(steps or env.horizon):
        actions.append(act())
        image, reward, _, _, info = env.step(actions[-1])
        images.append(image)
        rewards.append(float(reward))
        tasks.append(info["tasks_completed"])
        states.append(info["state"])
    return build_episode(images, actions, rewards, tasks, states, provenance)


def record_expert(env: ImitationEnv, expert: type[Expert], seed: int, provenance: dict[str, Any]) -> Iterator[Attempt]:
    """Yield attempt after attempt, without end; attempt n depends on ``seed`` and n alone."""
    number = 0
    while True:
        seeds = branch(seed, "demos", str(number))
        rng = np.random.default_rng(seeds.spawn(1)[0])
        episode = record(
            env,
            lambda rng=rng: expert(env, rng).act,  # type: ignore[misc]
            int(seeds.generate_state(1)[0]),
            provenance | {"attempt": number},
        )
        yield Attempt(number, episode, kept=bool(episode.reward[-1] == len(env.tasks)))
        number += 1
