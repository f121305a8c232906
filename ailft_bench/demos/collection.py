"""Demonstrations of a cell: made by the scripted expert into a cache, or read from a directory.

A set is identified by its checksum: of the recipe for scripted sets (so that it is known before anything is
made), of the contents for directories. Scripted sets are nested: the first 3 of 10 are the set of 3.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

from ailft_bench.demos.directory import (
    MANIFEST,
    episode_paths,
    hash_contents,
    hash_file,
    new_set,
    read_set,
    require_free,
)
from ailft_bench.demos.episode import FORMAT_VERSION, Episode
from ailft_bench.demos.experts import EXPERTS, expert_for
from ailft_bench.demos.recording import make_env, record_expert
from ailft_bench.durable import read_json
from ailft_bench.envs import all_arguments, environment_class
from ailft_bench.errors import UserError

SCRIPTED = "scripted"

#: Arguments of an environment in which demonstrations and learning must agree, where it has them.
_PICTURE_ARGUMENTS = ("tasks", "rendering")

Progress = Callable[[str], None]


def silent(message: str) -> None:
    """Take a progress message and do nothing with it."""


@dataclass(frozen=True)
class Demonstrations:
    """Episodes of one shape, where they are, and the checksum that identifies them."""

    episodes: tuple[Episode, ...]
    checksum: str
    directory: Path


def demonstrations_checksum(env_id: str, env_kwargs: dict[str, Any], source: str, episodes: int, seed: int) -> str:
    """Return the checksum that ``provide`` would give, without making anything.

    Raises:
        UserError: the environment has no expert, or the source is not a directory with enough episodes.
    """
    if source == SCRIPTED:
        return _checksum(_recipe(env_id, env_kwargs, episodes, seed))
    return hash_contents(hash_file(path) for path in episode_paths(Path(source), episodes))


def provide(
    env_id: str,
    env_kwargs: dict[str, Any],
    source: str,
    episodes: int,
    seed: int,
    cache: Path,
    on_progress: Progress = silent,
) -> Demonstrations:
    """Return demonstrations: made once and kept in ``cache`` (source "scripted"), or read from a directory.

    Several processes may ask for the same set at once: each makes it, the first to finish wins.

    Raises:
        UserError: no expert, a missing or malformed source, or episodes that do not fit the environment.
    """
    _check_count(episodes)
    if source == SCRIPTED:
        recipe = _recipe(env_id, env_kwargs, episodes, seed)
        checksum = _checksum(recipe)
        directory = Path(cache) / checksum
        if not (directory / MANIFEST).is_file():
            _make_scripted(recipe, checksum, directory, on_progress)
        return Demonstrations(read_set(directory)[0], checksum, directory)
    directory = Path(source)
    loaded, checksum = read_set(directory, episodes)
    _check_fit(directory, loaded[0], env_id, env_kwargs)
    return Demonstrations(loaded, checksum, directory)


def make(
    env_id: str,
    env_kwargs: dict[str, Any],
    episodes: int,
    seed: int,
    directory: Path,
    on_progress: Progress = silent,
) -> Demonstrations:
    """Make a scripted set in a directory of the caller's choice, which must be empty or not exist.

    Raises:
        UserError: the directory is in use, or the environment has no expert.
    """
    _check_count(episodes)
    require_free(directory)
    recipe = _recipe(env_id, env_kwargs, episodes, seed)
    checksum = _checksum(recipe)
    _make_scripted(recipe, checksum, directory, on_progress)
    return Demonstrations(read_set(directory)[0], checksum, directory)


def _make_scripted(recipe: dict[str, Any], checksum: str, directory: Path, on_progress: Progress) -> None:
    env_id, wanted = recipe["env_id"], recipe["episodes"]
    env = make_env(env_id, recipe["env_kwargs"])
    provenance = {key: value for key, value in recipe.items() if key != "episodes"}
    kept = discarded = 0
    try:
        with new_set(directory) as writer:
            for attempt in record_expert(env, expert_for(env_id), recipe["seed"], provenance):
                if attempt.kept:
                    kept += 1
                    writer.add(attempt.episode)
                else:
                    discarded += 1
                on_progress(f"{env_id}: {kept} of {wanted} episodes kept, {discarded} discarded")
                if kept == wanted:
                    break
                if discarded > 10 + wanted:
                    raise UserError(
                        f"{env_id}: the scripted expert failed {discarded} times and succeeded {kept} times "
                        f"with {recipe['env_kwargs']}; it needs a milder environment"
                    )
            writer.commit(checksum, recipe, discarded)
    finally:
        env.close()


def _recipe(env_id: str, env_kwargs: dict[str, Any], episodes: int, seed: int) -> dict[str, Any]:
    """Return all that a scripted set depends on, as plain JSON."""
    expert = expert_for(env_id)
    recipe = {
        "source": SCRIPTED,
        "format": FORMAT_VERSION,
        "env_id": env_id,
        "env_kwargs": all_arguments(env_id, env_kwargs),
        "env_version": environment_class(env_id).version,
        "expert": EXPERTS[env_id],
        "expert_version": expert.version,
        "mujoco": version("mujoco"),
        "episodes": episodes,
        "seed": seed,
    }
    return json.loads(json.dumps(recipe))


def _checksum(recipe: dict[str, Any]) -> str:
    return hashlib.sha256(json.dumps(recipe, sort_keys=True).encode()).hexdigest()[:16]


def _check_count(episodes: int) -> None:
    if episodes < 1:
        raise UserError(f"demonstrations: episodes: {episodes} is below 1")


def _check_fit(directory: Path, episode: Episode, env_id: str, env_kwargs: dict[str, Any]) -> None:
    """Refuse episodes of other shapes, tasks or pictures: a discriminator would learn the renderer."""
    recorded = episode.provenance.get("env_id")
    if recorded is None:
        raise UserError(
            f"{directory}: recorded elsewhere (its episodes name no env_id), so its pictures are not "
            f"those of {env_id}; draw it anew: ailft-bench demos import {directory} --env {env_id} --out NEW_DIRECTORY"
        )
    if recorded != env_id:
        raise UserError(f"{directory}: demonstrations of {recorded}, not of {env_id}")
    given = all_arguments(env_id, episode.provenance.get("env_kwargs", {}))
    wanted = all_arguments(env_id, env_kwargs)
    for name in _PICTURE_ARGUMENTS:
        if given.get(name) != wanted.get(name):
            raise UserError(f"{directory}: recorded with {name} {given.get(name)}, but {wanted.get(name)} is asked for")
    env = make_env(env_id, env_kwargs)
    try:
        for key, space in (("image", env.observation_space), ("action", env.action_space)):
            shape = getattr(episode, key).shape[1:]
            if shape != space.shape:
                raise UserError(f"{directory}: {key} {shape} a row, but {env_id} has {space.shape}")
    finally:
        env.close()


@dataclass(frozen=True)
class SetSummary:
    """One line of ``list_sets``; ``problem`` is set where the manifest cannot be read."""

    directory: Path
    checksum: str
    recipe: dict[str, Any]
    kept: int
    discarded: int
    size_bytes: int
    problem: str = ""


def list_sets(results_dir: Path) -> list[SetSummary]:
    """Return the sets in ``results_dir/demos``, without reading their episodes."""
    summaries = []
    for manifest in sorted(Path(results_dir).glob(f"demos/*/{MANIFEST}")):
        directory = manifest.parent
        size = sum(path.stat().st_size for path in directory.iterdir())
        try:
            content = read_json(manifest) or {}
            summary = SetSummary(
                directory, content["checksum"], content["recipe"], content["kept"], content["discarded"], size
            )
        except (UserError, KeyError, TypeError) as error:
            summary = SetSummary(directory, "", {}, 0, 0, size, problem=f"{MANIFEST}: {error}")
        summaries.append(summary)
    return summaries
