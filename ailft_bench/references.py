"""Reference lines: what a random policy, replayed demonstrations and the scripted expert score, measured.

Kept in ``results/references/<checksum>.json``, with the score of every episode, under a checksum of all that
they depend on. Episode i has the same start state for all three, of which replay plays five times as many: it is
what methods are measured by, and its score varies most from episode to episode.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from statistics import fmean
from typing import Annotated, Any

import numpy as np
from pydantic import Field

from ailft_bench.demos.collection import provide
from ailft_bench.demos.episode import Episode
from ailft_bench.demos.experts import EXPERTS, expert_for
from ailft_bench.demos.recording import make_env
from ailft_bench.demos.replay import whole_episode
from ailft_bench.durable import read_record, write_json
from ailft_bench.envs import environment_class
from ailft_bench.envs.base import ImitationEnv
from ailft_bench.errors import UserError
from ailft_bench.results import Results
from ailft_bench.score import EpisodeScore
from ailft_bench.seeding import branch, branch_seed
from ailft_bench.store import RunSpec

EPISODES = 20
TIMES = {"random": 1, "replay": 5, "expert": 1}
NAMES = tuple(TIMES)

Policy = Callable[[], np.ndarray]
Scores = dict[str, dict[str, float]]
"""By reference name: each metric's mean over episodes."""


@dataclass(frozen=True)
class _Lines:
    """The content of a file of references; one that is damaged counts as none, and is measured again."""

    recipe: dict[str, Any]
    episodes: Annotated[dict[str, Annotated[list[dict[str, float]], Field(min_length=1)]], Field(min_length=1)]


def provide_references(
    spec: RunSpec,
    results_dir: Path,
    episodes: int = EPISODES,
    on_progress: Callable[[str], None] = lambda message: None,
) -> Scores:
    """Return the references for the environment and demonstrations of ``spec``, measured once and kept.

    Raises:
        UserError: the environment or the demonstrations are not those of ``spec`` any more.
    """
    found = _find(results_dir, _recipe(spec, episodes, version("mujoco")))
    known = None if found is None else _load(found)
    if known is not None:
        return known
    env_id = spec.environment["id"]
    if environment_class(env_id).version != spec.environment.get("version"):
        raise UserError(f"{env_id}: changed since run {spec.run_id}; its references can no longer be measured")
    given = {key: value for key, value in spec.demonstrations.items() if key != "checksum"}
    demonstrations = provide(env_id, spec.environment_kwargs, cache=results_dir / "demos", **given)
    if demonstrations.checksum != spec.demonstrations["checksum"]:
        raise UserError(f"{demonstrations.directory}: not the demonstrations of run {spec.run_id} any more")
    recipe = _recipe(spec, episodes, version("mujoco"))  # the environment's own module may have added an expert
    path = _path(results_dir, recipe)
    path.parent.mkdir(parents=True, exist_ok=True)  # before minutes are spent on what could not be kept
    measured = measure_references(env_id, spec.environment_kwargs, demonstrations.episodes, episodes, on_progress)
    write_json(path, {"recipe": recipe, "episodes": measured})
    return _means(measured)


def load_references(results: Results, results_dir: Path, episodes: int = EPISODES) -> dict[tuple[str, str], Scores]:
    """Return the references of each (suite, scale) of ``results``, where measured; writes nothing."""
    return read_references(reference_files(results, results_dir, episodes))


def read_references(files: Mapping[tuple[str, str], Path]) -> dict[tuple[str, str], Scores]:
    """Return the references that are in ``files``."""
    found = {key: _load(path) for key, path in files.items()}
    return {key: scores for key, scores in found.items() if scores is not None}


def reference_files(results: Results, results_dir: Path, episodes: int = EPISODES) -> dict[tuple[str, str], Path]:
    """Return the file that has the references of each (suite, scale) of ``results``, where measured."""
    current = results.runs[~results.runs["superseded"] & (results.runs["run_id"] != "")]
    files: dict[tuple[str, str], Path] = {}
    for row in current.drop_duplicates(["suite", "scale"]).itertuples():
        spec = results.specs[str(row.run_id)]
        # An import brings lines that were measured where its runs were made, perhaps with another mujoco.
        for mujoco in (version("mujoco"), (spec.provenance.get("packages") or {}).get("mujoco")):
            path = _find(results_dir, _recipe(spec, episodes, mujoco))
            if path is not None:
                files.setdefault((str(row.suite), str(row.scale)), path)
    return files


def measure_references(
    env_id: str,
    env_kwargs: dict[str, Any],
    demonstrations: Sequence[Episode],
    episodes: int = EPISODES,
    on_progress: Callable[[str], None] = lambda message: None,
) -> dict[str, list[dict[str, float]]]:
    """Play ``episodes`` episodes of each reference, replay ``TIMES`` as many, and return their evaluation metrics.

    Demonstration i is replayed in episode i, in turn; where it is shorter than an episode the rest is zero
    actions. Without an expert for the environment there is no line ``expert``.

    Raises:
        UserError: no episodes, no demonstrations, or demonstrations of other actions.
    """
    if episodes < 1 or not demonstrations:
        raise UserError(f"references: {episodes} episodes, {len(demonstrations)} demonstrations; needed: 1 of each")
    env = make_env(env_id, env_kwargs)
    measured: dict[str, list[dict[str, float]]] = {}
    try:
        for name in NAMES:
            if name == "expert" and env_id not in EXPERTS:
                continue
            for number in range(TIMES[name] * episodes):
                start = _policy(name, env_id, env, demonstrations[number % len(demonstrations)], number)
                seed = branch_seed(0, "references", str(number), "env")
                measured.setdefault(name, []).append(_play(env, start, seed))
                on_progress(f"references: {name} {number + 1} of {TIMES[name] * episodes}")
    finally:
        env.close()
    return measured


def _policy(name: str, env_id: str, env: ImitationEnv, demonstration: Episode, number: int) -> Callable[[], Policy]:
    """Return what gives the policy of one episode, to be called after the reset."""
    rng = np.random.default_rng(branch(0, "references", str(number), name))
    space: Any = env.action_space
    if name == "expert":
        return lambda: expert_for(env_id)(env, rng).act
    if name == "random":
        return lambda: lambda: rng.uniform(space.low, space.high).astype(np.float32)
    actions = iter(whole_episode(env, demonstration.action, f"demonstration {number}"))
    return lambda: lambda: next(actions)


def _play(env: ImitationEnv, start: Callable[[], Policy], seed: int) -> dict[str, float]:
    score, done = EpisodeScore(), False
    env.begin(seed)
    act = start()
    while not done:
        reward, done, info = env.advance(act())
        score.add(reward, info)
    return score.metrics()


def _recipe(spec: RunSpec, episodes: int, mujoco: str | None) -> dict[str, Any]:
    env_id = spec.environment["id"]
    recipe = {
        "format": 2,
        "environment": spec.environment,
        "demonstrations": spec.demonstrations["checksum"],
        "expert_version": expert_for(env_id).version if env_id in EXPERTS else None,
        "mujoco": mujoco,
        "episodes": {name: times * episodes for name, times in TIMES.items()},
    }
    return json.loads(json.dumps(recipe))


def _path(results_dir: Path, recipe: dict[str, Any]) -> Path:
    checksum = hashlib.sha256(json.dumps(recipe, sort_keys=True).encode()).hexdigest()[:16]
    return results_dir / "references" / f"{checksum}.json"


def _find(results_dir: Path, recipe: dict[str, Any]) -> Path | None:
    """Return the file of a recipe; where its expert is not known here, of the newest with any expert."""
    path = _path(results_dir, recipe)
    if is_whole(path):
        return path
    if recipe["expert_version"] is None:
        for other in sorted(path.parent.glob("*.json"), key=lambda file: file.stat().st_mtime, reverse=True):
            lines = read_record(_Lines, other)
            if lines is not None and lines.recipe | {"expert_version": None} == recipe:
                return other
    return None


def is_whole(path: Path) -> bool:
    """Whether there are references at ``path``, and they can be read."""
    return read_record(_Lines, path) is not None


def _load(path: Path) -> Scores | None:
    lines = read_record(_Lines, path)
    return None if lines is None else _means(lines.episodes)


def _means(measured: dict[str, list[dict[str, float]]]) -> Scores:
    return {name: {metric: fmean(row[metric] for row in rows) for metric in rows[0]} for name, rows in measured.items()}
