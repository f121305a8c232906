import io
import re

import numpy as np
import pytest
import torch
from PIL import Image
from specs import make_spec
from typer.testing import CliRunner

from ailft_bench.cli import app
from ailft_bench.demos.recording import make_env
from ailft_bench.differences import Difference, compare
from ailft_bench.envs import environment_class
from ailft_bench.errors import UserError
from ailft_bench.evaluation import EvaluatedEpisode, averages, evaluate
from ailft_bench.examination import IN_TRAINING, examine
from ailft_bench.policies import animation, load_policy, worst, write_video
from ailft_bench.store import RunDirectory
from algorithms.agent import Agent
from algorithms.config import PRESETS, AgentConfig


def spec(**changes):
    environment = {"id": "ailft/Push-v0", "version": environment_class("ailft/Push-v0").version, "image_size": 64}
    return make_spec(**{"environment": environment, "agent": AgentConfig(**PRESETS["smoke"]).as_dict()} | changes)


@pytest.fixture
def trained(tmp_path):
    """A run with two checkpoints' worth of training behind it: the agent of the last is given back too."""
    run = RunDirectory.create(tmp_path, spec())
    env = make_env("ailft/Push-v0", {"image_size": 64})
    agent = Agent(AgentConfig(**PRESETS["smoke"]), 64, env.action_space.shape[0], 7)
    run.save_checkpoint(200, lambda folder: torch.save({"agent": agent.state_dict()}, folder / "state.pt"))
    return run, agent, env


def test_loaded_policy_repeats_the_evaluation_of_training(trained):
    run, agent, env = trained
    policy = load_policy(run)
    assert policy.env_step == 200
    examined = examine(agent, env, 2, run.spec.seed, None)
    played, other = policy.play(2, IN_TRAINING)
    assert not np.array_equal(played.images[0], other.images[0])
    for name, value in averages([played.metrics, other.metrics]).items():
        assert examined[name] == value
    (expected,) = evaluate(agent, env, 1, run.spec.seed, IN_TRAINING, sample=False)
    np.testing.assert_array_equal(played.actions, expected.actions)
    assert played.metrics == expected.metrics
    (fresh,) = policy.play(1, "again")
    assert not np.array_equal(fresh.images[0], played.images[0])


def test_checkpoint_that_training_replaces_while_it_is_read_is_no_error(trained, monkeypatch):
    run, agent, _ = trained
    read = torch.load

    def replaced_first(path, **options):
        monkeypatch.setattr(torch, "load", read)
        run.save_checkpoint(300, lambda folder: torch.save({"agent": agent.state_dict()}, folder / "state.pt"))
        assert not path.exists()
        return read(path, **options)

    monkeypatch.setattr(torch, "load", replaced_first)
    assert load_policy(run).env_step == 300


def test_run_without_checkpoint_and_foreign_one_are_named(tmp_path):
    bare = RunDirectory.create(tmp_path, spec(seed=1))
    with pytest.raises(UserError, match="has no checkpoint"):
        load_policy(bare)
    imported = RunDirectory.create(tmp_path, spec(seed=3))
    imported.finish()
    with pytest.raises(UserError, match="has no networks"):
        load_policy(imported)
    bare.save_checkpoint(5, lambda folder: torch.save({"agent": {}}, folder / "state.pt"))
    with pytest.raises(UserError, match="another version"):
        load_policy(bare)
    (bare.latest_checkpoint()[1] / "state.pt").unlink()
    with pytest.raises(UserError, match=r"state\.pt: cannot be read"):
        load_policy(bare)
    older = spec(seed=2, environment={"id": "ailft/Push-v0", "version": 0})
    changed = RunDirectory.create(tmp_path, older)
    changed.save_checkpoint(5, lambda folder: None)
    with pytest.raises(UserError, match="changed since"):
        load_policy(changed)


def test_run_whose_environment_cannot_be_imported_is_a_message_that_names_both(tmp_path):
    run = RunDirectory.create(tmp_path, spec(environment={"id": "nowhere_module:My-v0", "version": 1}))
    run.save_checkpoint(5, lambda folder: None)
    parts = f"the environment of run {run.spec.run_id} is not here (nowhere_module:My-v0: cannot import nowhere_module"
    with pytest.raises(UserError, match=f"{re.escape(parts)}.*must be importable from here"):
        load_policy(run)


def test_video_shows_an_episode_of_the_evaluations_in_training(trained, tmp_path):
    run, _, _ = trained
    out = tmp_path / "film.gif"
    ended = CliRunner().invoke(app, ["video", str(run.path), "--out", str(out), "--episode", "1"])
    assert ended.exit_code == 0, ended.output
    with Image.open(out) as film:
        shown = np.asarray(film.convert("RGB").resize((64, 64)), float)
    policy = load_policy(run)
    starts = [episode.images[0] for episode in (*policy.play(2, IN_TRAINING), *policy.play(2, "200"))]
    assert np.argmin([np.abs(shown - start).mean() for start in starts]) == 1


def test_help_of_video_says_what_the_file_is_called_by_default(trained, tmp_path, monkeypatch):
    run, _, _ = trained
    monkeypatch.chdir(tmp_path)
    assert CliRunner().invoke(app, ["video", str(run.path)]).exit_code == 0
    (written,) = tmp_path.glob("*.webp")
    told = CliRunner(env={"COLUMNS": "200"}).invoke(app, ["video", "--help"]).output
    name = re.search(r"Default: (\S+\.webp) here", told)[1]
    for part, value in (("SUITE", "toy"), ("ALGORITHM", "conservative"), ("SEED", "0"), ("STEP", "200")):
        name = name.replace(part, value)
    assert name == written.name


def episode(tasks, cost=0.0):
    images = np.zeros((5, 8, 8, 3), np.uint8)
    images[np.arange(5), np.arange(5)] = 255
    return EvaluatedEpisode({"tasks_completed": tasks, "cost": cost}, images, np.zeros((5, 2), np.float32))


@pytest.mark.parametrize("suffix", [".gif", ".webp"])
def test_video_has_a_frame_for_every_image(tmp_path, suffix):
    path = write_video(episode(1), tmp_path / f"video{suffix}")
    with Image.open(path) as video:
        assert (video.n_frames, video.size) == (5, (32, 32))
    with Image.open(io.BytesIO(animation(episode(1), every=2))) as sparse:
        assert sparse.n_frames == 3


def test_unknown_video_format_is_refused(tmp_path):
    with pytest.raises(UserError, match=r"\.gif, \.webp"):
        write_video(episode(1), tmp_path / "video.mp4")


def test_worst_episode_has_the_fewest_tasks_then_the_most_violations():
    assert worst([episode(1, 9), episode(0, 1), episode(0, 3), episode(2)]).metrics == {"tasks_completed": 0, "cost": 3}


def test_compared_runs_differ_in_what_was_changed_and_in_nothing_else(tmp_path):
    agent = AgentConfig(alpha=1.0).as_dict()
    provenance = {"commit": "a", "packages": {"torch": "2.6"}}
    one = RunDirectory.create(tmp_path, spec(provenance=provenance))
    other = RunDirectory.create(tmp_path, spec(seed=3, provenance={"commit": "b", "packages": {"torch": "2.7"}}))
    assert compare(one, one) == []
    assert compare(one, other) == [
        Difference("configuration", "seed", "0", "3"),
        Difference("code", "commit", "a", "b"),
        Difference("packages", "torch", "2.6", "2.7"),
    ]
    alpha = RunDirectory.create(tmp_path, make_spec(variant="mild", agent=agent))
    keys = {difference.key for difference in compare(RunDirectory.create(tmp_path, make_spec(seed=9)), alpha)}
    assert keys == {"seed", "variant", "agent.alpha"}
