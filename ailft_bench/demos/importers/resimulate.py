"""Episodes of actions and pictures (npz of Dreamer-style projects): simulated again in our environment.

Pictures of another renderer must not be mixed with ours: a discriminator would tell them apart by their
shadows. The actions are therefore replayed (step t takes ``action[t + 1]``) and drawn anew. Replay is
chaotic, so several noise seeds are tried and the first that ends with all tasks done is kept: this selects
lucky seeds, which is why their number is reported and stored.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np

from ailft_bench.demos.directory import episode_paths
from ailft_bench.demos.episode import load_episode
from ailft_bench.demos.importers.source import ImportedEpisode
from ailft_bench.demos.recording import record
from ailft_bench.demos.replay import Outcome, check_actions, replay_actions
from ailft_bench.envs.base import ImitationEnv
from ailft_bench.errors import UserError
from ailft_bench.seeding import branch_seed


def read(path: Path, env: ImitationEnv, seeds_tried: int, seed: int, keep_best: bool) -> Iterator[ImportedEpisode]:
    """Yield the episodes of a file or directory, each simulated with up to ``seeds_tried`` noise seeds.

    Raises:
        UserError: a file is malformed, or its actions do not fit ``env``.
    """
    if seeds_tried < 1:
        raise UserError(f"import: seeds tried: {seeds_tried} is below 1")
    for file in episode_paths(path) if path.is_dir() else [path]:
        action = load_episode(file).action
        check_actions(env, action, str(file))
        yield _simulate(file.name, action[1 : env.horizon + 1], env, seeds_tried, seed, keep_best)


def _simulate(
    name: str, actions: np.ndarray, env: ImitationEnv, seeds_tried: int, seed: int, keep_best: bool
) -> ImportedEpisode:
    outcomes: list[Outcome] = []
    for attempt in range(seeds_tried):
        outcomes.append(replay_actions(env, actions, branch_seed(seed, "import", name, str(attempt))))
        if outcomes[-1].final_reward == len(env.tasks):
            break
    tried = len(outcomes)
    best = max(range(tried), key=lambda attempt: (outcomes[attempt].final_reward, -attempt))
    tasks = f"{outcomes[best].final_reward:.0f} of {len(env.tasks)} tasks done at the end"
    solved = outcomes[best].final_reward == len(env.tasks)
    if not solved and not keep_best:
        return ImportedEpisode(name, None, f"left out: best of {tried} seeds had {tasks}", kept=False)
    steps = iter(actions)
    episode = record(
        env,
        lambda: steps.__next__,
        branch_seed(seed, "import", name, str(best)),
        {"source": "re-simulated", "name": name, "seed": seed, "seeds_tried": tried, "seed_kept": best},
        steps=len(actions),
    )
    return ImportedEpisode(name, episode, f"{tasks}, seed {best + 1} of {tried} tried", kept=True)
