"""Training: one run along its schedule, and what a checkpoint must hold so that start and resume are one."""

from __future__ import annotations

import time
from collections import defaultdict
from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import asdict
from pathlib import Path
from pickle import UnpicklingError
from statistics import fmean
from typing import Any, Literal

import numpy as np
import torch

from ailft_bench import durable, pretraining
from ailft_bench.demos.collection import Demonstrations
from ailft_bench.demos.recording import make_env
from ailft_bench.errors import UserError
from ailft_bench.evaluation import Stopped
from ailft_bench.examination import IN_TRAINING, examine
from ailft_bench.schedule import Counters, Phase, Schedule
from ailft_bench.score import EpisodeScore
from ailft_bench.seeding import branch, branch_seed
from ailft_bench.store import RunDirectory
from algorithms.config import AgentConfig
from algorithms.frames import fold
from algorithms.learners import build
from algorithms.precision import Precision
from algorithms.replay import Batch, Replay

_PROGRESS_INTERVAL_S = 2.0
_UPDATES_PER_ROW = 100  # of a phase without episodes


class Trainer:
    """One run from its first update to its last evaluation, or from its latest checkpoint on.

    A checkpoint is one file, ``state.pt``: agent (modules, optimisers, generator), acting policy, environment
    state, counters, the replay's length and its sampler's generator, unlogged averages, and the length of the
    metrics' file. Everything after it is done again in the same way, so the metrics of an interrupted run are
    those of an undisturbed one, wall-clock times excepted.

    ``pretrained`` is the file in which runs that begin alike share the state after it (``ailft_bench.pretraining``);
    None: this one does all by itself.
    """

    def __init__(
        self,
        run: RunDirectory,
        demonstrations: Demonstrations,
        device: str = "cpu",
        precision: Precision = "float32",
        pretrained: Path | None = None,
    ) -> None:
        spec = run.spec
        self.run, self.spec = run, spec
        self.config = AgentConfig.from_settings(spec.agent)
        self._env = make_env(spec.environment["id"], spec.environment_kwargs)
        self._eval_env = make_env(spec.environment["id"], spec.environment_kwargs)
        image_size, actions = self._env.observation_space.shape[0], self._env.action_space.shape[0]  # type: ignore[index]
        self.agent = build(self.config, image_size, actions, branch_seed(spec.seed, "agent"), device, precision)
        episodes = 1 + spec.env_steps // self._env.horizon
        frames = sum(len(episode.image) for episode in demonstrations.episodes) + spec.env_steps + episodes
        checkpoint = run.latest_checkpoint()
        if checkpoint and not run.has_replay:
            raise UserError(
                f"{run.path}: the replay of its checkpoint is gone; delete this folder to start the run again"
            )
        with self._replay_errors():
            self._replay = Replay(run.path / "replay", frames, image_size, actions)
        self._rng = np.random.default_rng(branch(spec.seed, "replay"))
        generator = torch.Generator(device).manual_seed(branch_seed(spec.seed, "acting"))
        self._policy = self.agent.policy(self.config.acting == "sample", generator)
        self.counters, self._schedule = Counters(), Schedule(self.config, spec.env_steps)
        self._image: np.ndarray | None = None  # None between episodes
        self._score = EpisodeScore()
        self._averages: dict[str, list[float]] = defaultdict(list)
        self._reported = 0.0
        self._pretrained = pretrained
        if checkpoint:
            run.metrics.truncate(self._load(checkpoint[1] / "state.pt"))
        else:
            run.metrics.truncate(0)
            with self._replay_errors():
                for episode in demonstrations.episodes:
                    self._replay.add_demonstration(episode.image, episode.action)
            if self.config.center_frames:
                self.agent.center(_mean_frame(demonstrations))
            self._take_shared_pretraining()

    @property
    def phase(self) -> Phase:
        """What the next tick does."""
        return self._schedule.phase(self.counters)

    def train(self, should_stop: Callable[[], bool] = lambda: False) -> bool:
        """Train to the end and return True, or until ``should_stop``, save a checkpoint and return False."""
        self._clock = time.monotonic()
        try:
            while not should_stop():
                self._evaluate_if_due(should_stop)
                self._share_pretraining()
                if self.phase == "done":
                    # Of an episode that the budget cut off, or of updates after the last one.
                    if self._averages.keys() & {"time/env_step_s", "time/update_s"}:
                        self._log("train", self._drain_averages())
                    return True
                self._tick()
                if self.counters.ticks % self.spec.checkpoint_every == 0:
                    self.save()
        except Stopped:
            pass
        self.save()
        return False

    def save(self) -> None:
        """Save a checkpoint of this moment.

        Raises:
            StorageError: the disk is full or read-only; the previous checkpoint stays.
        """
        started = time.perf_counter()
        self._pass_time()
        with self._replay_errors():
            self._replay.flush()
        self.run.save_checkpoint(self.counters.env_step, lambda folder: torch.save(self._state(), folder / "state.pt"))
        self._averages["time/checkpoint_s"].append(time.perf_counter() - started)

    def _tick(self) -> None:
        phase = self.phase
        if phase == "pretrain":
            self._learn(adversarial=self.config.adversarial, bc_scale=self.config.bc_scale)
            self.counters.pretrained += 1
            self._log_pretraining(phase)
        elif phase in ("clone", "adapt"):
            self._learn(adversarial=False, bc_scale=1.0, lr_scale=self.config.pretrain_lr_scale)
            if phase == "clone":
                self.counters.cloned += 1
            else:
                self.counters.adapted += 1
            self._log_pretraining(phase)
            if self.phase != phase:
                self.agent.settle()  # or the last batches at a high rate would be what all the rest begins with
        else:
            self._policy.noise = self.config.prefill_noise if phase == "prefill" else self.config.exploration_noise
            self._interact()
            if phase == "online" and self.counters.env_step % self.config.train_every == 0:
                for _ in range(self.config.updates_per_train):
                    waiting = self.config.actor_frozen_updates - self.counters.online_updates
                    frozen = waiting > 0
                    if waiting == 0 and self.config.rescale_moments and self.counters.cloned + self.counters.adapted:
                        self.agent.rescale_moments("actor", self.config.bc_scale)
                    self._learn(self.config.adversarial, self.config.bc_scale, train_actor=not frozen)
                    self.counters.online_updates += 1
        self.counters.ticks += 1
        self._report_progress()

    def _take_shared_pretraining(self) -> None:
        """Go on from where another run that began alike has come, if there is one."""
        shared = self._pretrained and pretraining.load(self._pretrained)
        if not shared:
            return
        state, rows = shared
        self._restore(state)
        for row in rows:
            self.run.metrics.append(**row)
        print(f"pretraining: taken from {self._pretrained}, as {self.agent.updates:,} updates here would leave it")
        self._pretrained = None

    def _share_pretraining(self) -> None:
        """Leave the state before the first environment step, already evaluated, for runs that begin alike."""
        if self._pretrained and self.phase not in ("pretrain", "clone"):
            self._pass_time()
            pretraining.save(self._pretrained, self.run.path, self._state(), self.run.metrics.read())
            self._pretrained = None

    def _learn(self, adversarial: bool, bc_scale: float, train_actor: bool = True, lr_scale: float = 1.0) -> None:
        started = time.perf_counter()
        config = self.config
        # Cloning comes before the agent's own episodes: all rows are the expert's, and it learns from all of them.
        expert_rows = config.batch_size if config.expert_rows and self.phase == "clone" else config.expert_rows
        batch = self._sample(expert_rows)
        expert = None if expert_rows else self._sample(config.batch_size)
        if adversarial:
            metrics = self.agent.update(batch, expert, train_actor)
        else:
            metrics = self.agent.clone(batch, expert, bc_scale if train_actor else 0.0, lr_scale)
        for name, value in metrics.items():
            self._averages[name].append(value)
        self._averages["time/update_s"].append(time.perf_counter() - started)

    def _sample(self, expert_rows: int) -> Batch:
        config = self.config
        rows, length, own_only = config.batch_size, config.row_frames, not config.demos_in_replay
        return self._replay.sample(self._rng, rows, expert_rows, length, own_only, config.prioritize_ends)

    def _interact(self) -> None:
        """Take one environment step and store it."""
        started = time.perf_counter()
        if self._image is None:
            self._image, _ = self._env.reset(seed=branch_seed(self.spec.seed, "train", str(self.counters.episode)))
            self._policy.reset()
            self._score = EpisodeScore()
            self._remember(self._image, np.zeros(self.agent.action_size, np.float32), first=True)
        action = self._policy.act(self._image)
        self._image, reward, terminated, truncated, info = self._env.step(action)
        self._remember(self._image, action, first=False)
        self._score.add(float(reward), info)
        self.counters.env_step += 1
        self._averages["time/env_step_s"].append(time.perf_counter() - started)
        if terminated or truncated:
            self.counters.episode += 1
            self._image = None
            self._log("train", self._score.metrics() | self._drain_averages())

    def _remember(self, image: np.ndarray, action: np.ndarray, first: bool) -> None:
        with self._replay_errors():
            self._replay.add(image, action, first)

    def _replay_errors(self) -> AbstractContextManager[None]:
        """Name the replay where the file system refuses: it is the largest file, and meets a full disk first."""
        return durable.storage_errors(self.run.path / "replay")

    def _evaluate_if_due(self, should_stop: Callable[[], bool]) -> None:
        step, every = self.counters.env_step, self.spec.evaluation["every"]
        due = self.phase == "done" or (self.phase in ("prefill", "adapt", "online") and step % every == 0)
        if not due or self.counters.evaluated_at == step:
            return
        episodes, seed = self.spec.evaluation["episodes"], self.spec.seed
        metrics = examine(self.agent, self._eval_env, episodes, seed, self._demonstrations(), should_stop)
        self._log("eval", metrics)
        self.counters.evaluated_at = step

    def _demonstrations(self) -> Batch | None:
        """Return sequences of demonstrations to examine an adversarial objective on; None before there is one."""
        if not self.config.adversarial or not self.counters.pretrained + self.counters.online_updates:
            return None
        rng = np.random.default_rng(branch(self.spec.seed, "eval", IN_TRAINING, "demonstrations"))
        rows, length, ends = self.config.batch_size, self.config.row_frames, self.config.prioritize_ends
        return self._replay.sample(rng, rows, rows, length, False, ends)

    def _log_pretraining(self, phase: Phase) -> None:
        updates, budget = self._schedule.progress(phase, self.counters)
        if updates % _UPDATES_PER_ROW == 0 or updates == budget:
            self._log("train", self._drain_averages())

    def _log(self, phase: Literal["train", "eval"], metrics: dict[str, float]) -> None:
        self._pass_time()
        counters = self.counters
        self.run.metrics.append(phase, counters.env_step, counters.episode, metrics, counters.wall_time_s)

    def _drain_averages(self) -> dict[str, float]:
        """Return the means of what was measured since the last call, times as rates."""
        means = {name: fmean(values) for name, values in self._averages.items()}
        self._averages.clear()
        means["time/updates"] = float(self.agent.updates)
        for rate, seconds in (
            ("time/updates_per_s", "time/update_s"),
            ("time/env_steps_per_s", "time/env_step_s"),
        ):
            if seconds in means:
                means[rate] = 1 / means.pop(seconds)
        return means

    def _pass_time(self) -> None:
        now = time.monotonic()
        self.counters.wall_time_s += now - self._clock
        self._clock = now

    def _report_progress(self) -> None:
        if time.monotonic() - self._reported < _PROGRESS_INTERVAL_S:
            return
        self._reported = time.monotonic()
        counters, phase = self.counters, self.phase
        done, target = self._schedule.progress(phase, counters)
        self.run.report_progress(phase, done, target, counters.env_step, self.agent.updates)

    def _state(self) -> dict[str, Any]:
        return {
            "agent": self.agent.state_dict(),
            "policy": self._policy.state_dict(),
            "env": None if self._image is None else self._env.get_state(),
            "image": self._image,
            "score": self._score.state_dict(),
            "counters": asdict(self.counters),
            "replay": self._replay.state_dict(),
            "rng": self._rng.bit_generator.state,
            "averages": dict(self._averages),
            "metrics_size": self.run.metrics.size(),
            "pretrained": self._pretrained and self._pretrained.stem,
        }

    def _load(self, path: Path) -> int:
        """Return to the moment of a checkpoint, and return the size that the metrics' file had then."""
        try:
            return self._restore(torch.load(path, map_location=self.agent.device, weights_only=False))
        except (LookupError, TypeError, ValueError, AttributeError, EOFError, RuntimeError, UnpicklingError) as error:
            raise UserError(
                f"{path}: cannot go on from this checkpoint ({type(error).__name__}: {error}); if another version of "
                "the code wrote it, go on with that one, or delete the run's folder to start it again"
            ) from error

    def _restore(self, state: dict[str, Any]) -> int:
        self.agent.load_state_dict(state["agent"])
        self._policy.load_state_dict(state["policy"])
        if state["env"] is not None:
            self._env.reset(seed=0)
            self._env.set_state(state["env"])
        self._image = state["image"]
        self._score.load_state_dict(state["score"])
        self.counters = Counters(**state["counters"])
        self._replay.load_state_dict(state["replay"])
        self._rng.bit_generator.state = state["rng"]
        self._averages = defaultdict(list, state["averages"])
        if self._pretrained and self._pretrained.stem != state["pretrained"]:
            self._pretrained = None  # another machine or version came so far, or it has been shared already
        return int(state["metrics_size"])


def _mean_frame(demonstrations: Demonstrations) -> torch.Tensor:
    """Return the mean folded frame (S/2, S/2, 12), 0 to 255 in float64."""
    sums = [fold(episode.image).sum(0, dtype=np.float64) for episode in demonstrations.episodes]
    return torch.from_numpy(sum(sums) / sum(len(episode.image) for episode in demonstrations.episodes))
