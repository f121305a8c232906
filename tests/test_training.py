"""Whole runs of the small environment through the real worker process."""

import itertools
import os
import random
import re
import resource
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from streams import stream

from ailft_bench.cells import expand, planned_updates
from ailft_bench.demos.collection import provide
from ailft_bench.durable import StorageError
from ailft_bench.errors import UserError
from ailft_bench.evaluation import averages
from ailft_bench.policies import load_policy
from ailft_bench.seeding import branch_seed
from ailft_bench.store import RunDirectory
from ailft_bench.store.lease import LeaseHeldError
from ailft_bench.suite_file import load
from ailft_bench.training import Trainer
from ailft_bench.worker import EXIT_DONE, EXIT_FAILED, EXIT_TRY_AGAIN, run_cell
from algorithms.agent import Agent

SUITES = Path(__file__).parent.parent / "suites"


def prepare(results: Path, algorithm: str, *assignments: str, suite_name: str = "quickstart") -> RunDirectory:
    suite = load(str(SUITES / f"{suite_name}.yaml"), assignments)
    (spec,) = expand(suite, "smoke", [algorithm], [0])
    return RunDirectory.create(results, spec)


def start(run: RunDirectory) -> subprocess.Popen[bytes]:
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    return subprocess.Popen([sys.executable, "-m", "ailft_bench.worker", str(run.path)], env=environment)


def wait_for(condition: Any, process: subprocess.Popen[bytes], seconds: float = 600) -> None:
    deadline = time.monotonic() + seconds
    while not condition() and process.poll() is None:
        assert time.monotonic() < deadline, "nothing happened"
        time.sleep(0.02)


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory: pytest.TempPathFactory) -> RunDirectory:
    run = prepare(tmp_path_factory.mktemp("undisturbed"), "conservative")
    assert start(run).wait() == EXIT_DONE
    return run


def test_smoke_cell_evaluates_checkpoints_and_finishes(undisturbed: RunDirectory) -> None:
    assert undisturbed.state == "done"
    step, path = undisturbed.latest_checkpoint()  # type: ignore[misc]
    assert step == undisturbed.spec.env_steps
    assert int(path.name.split("-")[0]) >= 3, "fewer than three checkpoints were saved"
    evaluations = [row for row in undisturbed.metrics.read() if row["phase"] == "eval"]
    assert [row["env_step"] for row in evaluations] == [0, 100, 200, 300]
    wanted = {
        "tasks_completed",
        "success",
        "return",
        "cost",
        "sampled/tasks_completed",
        "disagreement/calibration",
        "model/action_effect",
        "model/action_effect_size",
        "gradient/reward_cosine",
        "gradient/penalty_norm",
    }
    assert all(wanted <= row["metrics"].keys() for row in evaluations)
    learned = [row for row in undisturbed.metrics.read() if "critic/data_loss" in row["metrics"]]
    assert {"discriminator/total_variation", "time/updates_per_s", "disagreement/expert"} <= learned[-1][
        "metrics"
    ].keys()
    assert not (undisturbed.path / "replay").exists()


def test_killed_run_continues_to_the_same_metrics(undisturbed: RunDirectory, tmp_path: Path) -> None:
    run = prepare(tmp_path, "conservative")
    rng = random.Random(4)
    for _ in range(4):
        process = start(run)
        before = run.latest_checkpoint()
        wait_for(lambda before=before: run.latest_checkpoint() != before, process)
        time.sleep(rng.uniform(0, 0.6))
        process.send_signal(signal.SIGKILL)
        process.wait()
        assert run.state != "done"
    assert start(run).wait() == EXIT_DONE
    assert stream(run) == stream(undisturbed)
    assert len((run.path / "attempts.jsonl").read_text().splitlines()) == 5


#: The kitchen at smoke scale with one short task, so that the whole run takes seconds.
SHORT_KITCHEN = (
    "environment.tasks=[microwave]",
    "environment.horizon=64",
    "demonstrations.episodes=1",
    "scales.smoke.env_steps=80",
    "scales.smoke.checkpoint_every=10",
    "evaluation.every=64",
    "settings.prefill_steps=40",
    "settings.pretrain_updates=10",
    "settings.bc_pretrain=10",
)


@pytest.mark.slow
def test_killed_kitchen_run_continues_to_the_same_metrics(tmp_path: Path) -> None:
    whole = prepare(tmp_path / "whole", "conservative", *SHORT_KITCHEN, suite_name="kitchen")
    run = prepare(tmp_path / "killed", "conservative", *SHORT_KITCHEN, suite_name="kitchen")
    undisturbed = start(whole)
    rng = random.Random(5)
    for _ in range(2):
        process = start(run)
        before = run.latest_checkpoint()
        wait_for(lambda before=before: run.latest_checkpoint() != before, process)
        time.sleep(rng.uniform(0, 0.5))
        process.send_signal(signal.SIGKILL)
        process.wait()
        assert run.state != "done"
    assert start(run).wait() == EXIT_DONE
    assert undisturbed.wait() == EXIT_DONE
    assert stream(run) == stream(whole)
    assert {row["phase"] for row in run.metrics.read()} == {"train", "eval"}
    assert len(run.attempts.read()) == 3


@pytest.mark.slow
def test_killed_plain_cloning_continues_to_the_same_metrics_and_policy(tmp_path: Path) -> None:
    changes = (*SHORT_KITCHEN, "settings.bc_pretrain=60", "algorithms.bc_cnn.action_chunk=4")
    runs = [prepare(tmp_path / name, "bc_cnn", *changes, suite_name="kitchen") for name in ("whole", "killed")]
    process = start(runs[1])
    wait_for(runs[1].latest_checkpoint, process)
    process.send_signal(signal.SIGKILL)
    process.wait()
    assert runs[1].state != "done"
    assert [start(run).wait() for run in runs] == [EXIT_DONE, EXIT_DONE]
    assert stream(runs[0]) == stream(runs[1])
    assert {row["phase"] for row in runs[0].metrics.read()} == {"train", "eval"}
    (first, second) = (load_policy(run).play(1, "again", sample=True)[0] for run in runs)
    assert np.array_equal(first.actions, second.actions)


def test_learning_goes_on_from_the_average_which_acts_by_its_mean(tmp_path: Path) -> None:
    changes = ("settings.average_decay=0.9", "settings.acting=mean", "settings.pretrain_updates=0")
    run = prepare(tmp_path, "conservative", *changes, "settings.bc_pretrain=5", "demonstrations.episodes=1")
    recipe = {key: value for key, value in run.spec.demonstrations.items() if key != "checksum"}
    demonstrations = provide(run.spec.environment["id"], run.spec.environment_kwargs, cache=tmp_path, **recipe)
    with run.lease():
        trainer = Trainer(run, demonstrations)
        trainer._clock = time.monotonic()
        agent = trainer.agent
        assert isinstance(agent, Agent)
        for _ in range(4):
            trainer._tick()
        assert not torch.equal(agent.actor.layers[0].weight, agent.acting_actor.layers[0].weight)
        trainer._tick()
        assert trainer.phase == "prefill"
        for left, right in zip(agent.model.parameters(), agent.acting_model.parameters(), strict=True):
            assert torch.equal(left, right)
        assert torch.equal(agent.actor.layers[0].weight, agent.acting_actor.layers[0].weight)

        mean = agent.policy(False, torch.Generator().manual_seed(0))
        mean.load_state_dict(trainer._policy.state_dict())
        mean.noise = run.spec.agent["prefill_noise"]
        assert mean.noise > 0
        begun = len(trainer._replay)
        trainer._tick()
        image = trainer._env.reset(seed=branch_seed(run.spec.seed, "train", "0"))[0]
        assert np.array_equal(trainer._replay._actions.read(begun + 1, begun + 2)[0], mean.act(image))


def test_phases_follow_each_other_with_noise_in_the_prefill_alone_and_as_many_updates_as_planned(
    tmp_path: Path,
) -> None:
    run = prepare(tmp_path, "conservative", "settings.adapt_updates=3", "demonstrations.episodes=1")
    recipe = {key: value for key, value in run.spec.demonstrations.items() if key != "checksum"}
    demonstrations = provide(run.spec.environment["id"], run.spec.environment_kwargs, cache=tmp_path, **recipe)
    with run.lease():
        trainer = Trainer(run, demonstrations)
        trainer._clock = time.monotonic()
        phases: list[str] = []
        while (phase := trainer.phase) != "done":
            trainer._tick()
            phases.append(phase)
            if phase in ("prefill", "online"):
                assert trainer._policy.noise == (0.3 if phase == "prefill" else 0.0)
        agent, steps = run.spec.agent, run.spec.env_steps
        assert [(phase, len(list(ticks))) for phase, ticks in itertools.groupby(phases)] == [
            ("pretrain", agent["pretrain_updates"]),
            ("clone", agent["bc_pretrain"]),
            ("prefill", agent["prefill_steps"]),
            ("adapt", 3),
            ("online", steps - agent["prefill_steps"]),
        ]
        assert trainer.agent.updates == planned_updates(run.spec)


@pytest.mark.parametrize(("rescaled", "expected"), [(False, []), (True, [("actor", 0.1, 2)])])
def test_moments_are_rescaled_once_before_the_first_update_that_moves_the_actor_online(
    rescaled: bool, expected: list[tuple[str, float, int]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    changes = ("adapt_updates=3", "bc_scale=0.1", "actor_frozen_updates=2", f"rescale_moments={rescaled}".lower())
    run = prepare(tmp_path, "conservative", "demonstrations.episodes=1", *(f"settings.{change}" for change in changes))
    recipe = {key: value for key, value in run.spec.demonstrations.items() if key != "checksum"}
    demonstrations = provide(run.spec.environment["id"], run.spec.environment_kwargs, cache=tmp_path, **recipe)
    with run.lease():
        trainer = Trainer(run, demonstrations)
        trainer._clock = time.monotonic()
        calls: list[tuple[str, float, int]] = []
        monkeypatch.setattr(
            trainer.agent,
            "rescale_moments",
            lambda name, factor: calls.append((name, factor, trainer.counters.online_updates)),
        )
        while trainer.phase != "done":
            trainer._tick()
        assert trainer.counters.online_updates > 2
        assert calls == expected


def test_resume_without_the_replay_is_refused(tmp_path: Path) -> None:
    run = prepare(tmp_path, "bc")
    assert run_cell(run.path)
    (run.path / "done").unlink()
    with pytest.raises(UserError, match="replay of its checkpoint is gone"):
        run_cell(run.path)


def test_checkpoint_of_another_version_is_a_message(tmp_path: Path) -> None:
    run = prepare(tmp_path, "bc")
    run.save_checkpoint(0, lambda folder: torch.save({"agent": {}}, folder / "state.pt"))
    (run.path / "replay").mkdir()
    (run.path / "replay" / "frames.u8").touch()
    with pytest.raises(UserError, match="cannot go on from this checkpoint"):
        run_cell(run.path)


def test_asked_to_stop_saves_and_continues_to_the_same_metrics(undisturbed: RunDirectory, tmp_path: Path) -> None:
    run = prepare(tmp_path, "conservative", "scales.smoke.checkpoint_every=100000")
    process = start(run)
    wait_for(lambda: any(row["env_step"] >= 100 for row in run.metrics.read()), process)
    process.send_signal(signal.SIGTERM)
    assert process.wait() == EXIT_TRY_AGAIN
    assert run.state == "waiting"
    assert run.latest_checkpoint() is not None
    assert start(run).wait() == EXIT_DONE
    assert stream(run) == stream(undisturbed)


def test_vmail_and_conservative_share_everything_before_the_first_full_update(
    undisturbed: RunDirectory, tmp_path: Path
) -> None:
    run = prepare(tmp_path, "vmail", "settings.pretrain_updates=0", "scales.smoke.env_steps=50")
    twin = prepare(tmp_path, "conservative", "settings.pretrain_updates=0", "scales.smoke.env_steps=50")
    assert run_cell(run.path)
    assert run_cell(twin.path)
    assert stream(run) == stream(twin)
    assert len(stream(run)) >= 3


def test_second_worker_on_one_run_leaves_it_alone(tmp_path: Path) -> None:
    run = prepare(tmp_path, "bc")
    with run.lease():
        other = start(run)
        assert other.wait() == EXIT_TRY_AGAIN
        with pytest.raises(LeaseHeldError):
            run_cell(run.path)
    assert run_cell(run.path)
    assert stream(run)[-1][0] == "eval"


def test_failure_is_recorded_with_its_reason(tmp_path: Path) -> None:
    run = prepare(tmp_path, "bc", "settings.sequence_length=60")
    process = start(run)
    assert process.wait() == EXIT_FAILED
    assert run.state == "failed"
    assert "sequence_length" in run.failure.reason  # type: ignore[union-attr]


def test_file_system_that_refuses_the_replay_is_one_message_with_its_path(undisturbed: RunDirectory) -> None:
    run = prepare(undisturbed.path.parents[3], "vmail")
    old = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, old[1]))
    try:
        with pytest.raises(StorageError, match=rf"{re.escape(str(run.path / 'replay'))}: .*limit"):
            run_cell(run.path)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, old)
    assert str(run.path / "replay") in run.failure.reason  # type: ignore[union-attr]


def test_worker_is_given_its_run_by_any_path(undisturbed: RunDirectory, monkeypatch: pytest.MonkeyPatch) -> None:
    run = prepare(undisturbed.path.parents[3], "bc", "scales.smoke.algorithms.bc.bc_pretrain=1")
    monkeypatch.chdir(run.path)
    assert run_cell(Path())
    assert run.state == "done"


def test_changed_demonstrations_are_noticed(tmp_path: Path) -> None:
    from ailft_bench.demos.collection import make
    from ailft_bench.demos.episode import load_episode, save_episode

    made = make("ailft/Push-v0", {}, 2, 0, tmp_path / "own")
    run = prepare(tmp_path / "results", "bc", f"demonstrations.source={made.directory}", "demonstrations.episodes=2")
    first = sorted(made.directory.glob("*.npz"))[0]
    episode = load_episode(first)
    episode.image[5] += 1
    save_episode(first, episode)
    assert start(run).wait() == EXIT_FAILED
    assert "changed" in run.failure.reason  # type: ignore[union-attr]


def test_averages_are_means_over_episodes() -> None:
    assert averages([{"a": 1.0, "b": 2.0}, {"a": 3.0, "b": 2.0}]) == {"a": 2.0, "b": 2.0}


def test_learning_in_an_episode_that_the_budget_cuts_off_is_logged(tmp_path: Path) -> None:
    run = prepare(tmp_path, "conservative", "scales.smoke.env_steps=75", "evaluation.every=75")
    assert run_cell(run.path)
    last = run.metrics.read()[-1]
    assert (last["phase"], last["env_step"]) == ("train", 75)
    assert "critic/data_loss" in last["metrics"]
    assert "tasks_completed" not in last["metrics"], "the episode did not end"
