"""Trained policies: an agent and its environment rebuilt from a run's checkpoint, to watch and to evaluate.

Nothing of the run is written or locked: a run that is still training can be watched too.
"""

from __future__ import annotations

import io
from dataclasses import dataclass
from pathlib import Path
from pickle import UnpicklingError
from typing import Any

import torch
from PIL import Image

from ailft_bench.demos.recording import make_env
from ailft_bench.durable import write_bytes
from ailft_bench.envs import environment_class
from ailft_bench.envs.base import ImitationEnv
from ailft_bench.errors import UserError, nearest
from ailft_bench.evaluation import EvaluatedEpisode, evaluate
from ailft_bench.store import RunDirectory
from algorithms.config import AgentConfig
from algorithms.learner import Learner
from algorithms.learners import build

_UNREADABLE = (OSError, LookupError, TypeError, ValueError, AttributeError, EOFError, RuntimeError, UnpicklingError)
VIDEO_FORMATS = {".gif": "GIF", ".webp": "WEBP"}
_FRAME_MS = 60


@dataclass(frozen=True)
class TrainedPolicy:
    """A policy, the environment it was trained in, and the environment step of its checkpoint."""

    agent: Learner
    env: ImitationEnv
    env_step: int
    seed: int

    def play(self, episodes: int, occasion: str, sample: bool = False) -> list[EvaluatedEpisode]:
        """Play episodes whose start states follow from the run's seed and ``occasion``.

        That of the evaluations in training is ``examination.IN_TRAINING``: their episodes come back, on the kind of
        device that was trained on (random numbers of CPU and CUDA differ).
        """
        return evaluate(self.agent, self.env, episodes, self.seed, occasion, sample)


def load_policy(run: RunDirectory, device: str = "cpu") -> TrainedPolicy:
    """Rebuild the policy of ``run`` from its newest checkpoint.

    Raises:
        UserError: no checkpoint, one of another version of the code, or an environment that changed or is not here.
    """
    spec = run.spec
    env_id = spec.environment["id"]
    try:
        version = environment_class(env_id).version
    except LookupError as error:
        raise UserError(
            f"{run.path}: the environment of run {spec.run_id} is not here ({error}); "
            "the module that registers it must be importable from here, as from the folder where the run was made"
        ) from error
    if version != spec.environment.get("version"):
        raise UserError(f"{env_id}: changed since run {spec.run_id}; its policy cannot be compared any more")
    step, path, state = _newest_state(run, device)
    env = make_env(env_id, spec.environment_kwargs)
    image_size, actions = env.observation_space.shape[0], env.action_space.shape[0]  # type: ignore[index]
    agent = build(AgentConfig.from_settings(spec.agent), image_size, actions, 0, device)
    try:
        agent.load_networks(state["agent"])
    except _UNREADABLE as error:
        raise _unreadable(path, error) from error
    return TrainedPolicy(agent, env, step, spec.seed)


def _newest_state(run: RunDirectory, device: str) -> tuple[int, Path, dict[str, Any]]:
    """Return the environment step, the file and the content of the newest checkpoint.

    A run that goes on training may put another in its place at any moment: then that one is read.
    """
    while latest := run.latest_checkpoint():
        step, folder = latest
        path = folder / "state.pt"
        try:
            return step, path, torch.load(path, map_location=device, weights_only=False)
        except _UNREADABLE as error:
            if run.latest_checkpoint() == latest:
                raise _unreadable(path, error) from error
    if run.state == "done":
        raise UserError(f"{run.path}: has no networks (imported, or deleted); to train it again move its folder away")
    raise UserError(f"{run.path}: has no checkpoint ({run.state}); train it with: ailft-bench run {run.spec.suite}")


def _unreadable(path: Path, error: Exception) -> UserError:
    reason = str(error).partition("\n")[0]
    return UserError(f"{path}: cannot be read ({reason}); did another version write it?")


def write_video(episode: EvaluatedEpisode, out: Path, factor: int = 4) -> Path:
    """Write an episode as an animation, its pixels ``factor`` times enlarged; the suffix says the format.

    Raises:
        UserError: a suffix other than .gif or .webp, or the file system refused.
    """
    if out.suffix not in VIDEO_FORMATS:
        raise UserError(f"{out}: {nearest(out.suffix, VIDEO_FORMATS)}")
    write_bytes(out, animation(episode, VIDEO_FORMATS[out.suffix], factor))
    return out


def animation(episode: EvaluatedEpisode, format: str = "WEBP", factor: int = 3, every: int = 1) -> bytes:
    """Return an animation of every ``every``-th frame of an episode."""
    size = episode.images.shape[1] * factor
    frames = [
        Image.fromarray(image).resize((size, size), Image.Resampling.BICUBIC) for image in episode.images[::every]
    ]
    buffer = io.BytesIO()
    options = {"quality": 55, "method": 3} if format == "WEBP" else {}
    duration = _FRAME_MS * every
    frames[0].save(buffer, format, save_all=True, append_images=frames[1:], duration=duration, loop=0, **options)
    return buffer.getvalue()


def worst(episodes: list[EvaluatedEpisode]) -> EvaluatedEpisode:
    """Return the episode with the fewest sub-tasks, of several the one with the most violations."""
    return min(episodes, key=lambda episode: (episode.metrics["tasks_completed"], -episode.metrics.get("cost", 0.0)))
