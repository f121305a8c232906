import dataclasses
import itertools
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import gymnasium
import numpy as np
import pytest
from PIL import Image

from ailft_bench.demos.collection import demonstrations_checksum, list_sets, make, provide
from ailft_bench.demos.directory import read_set
from ailft_bench.demos.episode import Episode, save_episode
from ailft_bench.demos.experts import EXPERTS, expert_for
from ailft_bench.demos.replay import replay
from ailft_bench.demos.show import show
from ailft_bench.errors import UserError

PUSH = "ailft/Push-v0"
ROOT = Path(__file__).parents[1]


def python(code, **options):
    return subprocess.Popen([sys.executable, "-c", code], cwd=ROOT, text=True, **options)


def sets(cache):
    return sorted(path.name for path in cache.iterdir())


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """Ten scripted demonstrations, in a cache of their own."""
    return provide(PUSH, {}, "scripted", 10, 0, tmp_path_factory.mktemp("results") / "demos")


def test_scripted_demonstrations_end_with_all_tasks_and_know_where_they_are_from(made):
    for episode in made.episodes:
        assert len(episode) == 50
        assert episode.reward[-1] == episode.tasks_completed[-1] == 2
        assert episode.provenance["env_id"] == PUSH
        assert episode.state.shape == (51, 10)
    assert len({episode.provenance["attempt"] for episode in made.episodes}) == 10
    manifest = json.loads((made.directory / "manifest.json").read_text())
    assert (manifest["kept"], manifest["checksum"]) == (10, made.checksum)


def test_action_of_a_row_led_to_the_image_of_that_row(made):
    episode = made.episodes[0]
    finger = episode.state[:, 3:5]
    moved = np.diff(finger, axis=0)
    assert np.corrcoef(moved[:, 1], episode.action[1:, 1])[0, 1] > 0.8
    assert np.corrcoef(moved[1:, 1], episode.action[1:-1, 1])[0, 1] < 0.8


def test_second_call_reads_the_cache_and_checksum_is_known_before_making(made):
    stamps = {path.name: path.stat().st_mtime_ns for path in made.directory.iterdir()}
    again = provide(PUSH, {}, "scripted", 10, 0, made.directory.parent)
    assert {path.name: path.stat().st_mtime_ns for path in again.directory.iterdir()} == stamps
    assert again.checksum == demonstrations_checksum(PUSH, {}, "scripted", 10, 0) == made.directory.name


@pytest.mark.parametrize(
    ("kwargs", "episodes", "seed"),
    [({}, 10, 1), ({}, 9, 0), ({"image_size": 84}, 10, 0), ({"tasks": ["puck"]}, 10, 0)],
)
def test_anything_that_changes_the_set_changes_its_checksum(made, kwargs, episodes, seed):
    assert demonstrations_checksum(PUSH, kwargs, "scripted", episodes, seed) != made.checksum


def test_set_of_three_is_the_beginning_of_the_set_of_ten(made, tmp_path):
    three = provide(PUSH, {}, "scripted", 3, 0, tmp_path)
    for small, large in zip(three.episodes, made.episodes, strict=False):
        assert np.array_equal(small.image, large.image)
        assert np.array_equal(small.action, large.action)
    assert len(three.episodes) == 3


def test_failures_of_the_expert_are_discarded_and_counted(tmp_path):
    demonstrations = make(PUSH, {"action_noise": 0.5}, 3, 0, tmp_path / "noisy")
    manifest = json.loads((tmp_path / "noisy" / "manifest.json").read_text())
    assert manifest["discarded"] > 0
    assert all(episode.reward[-1] == 2 for episode in demonstrations.episodes)
    attempts = [episode.provenance["attempt"] for episode in demonstrations.episodes]
    assert attempts[-1] == manifest["kept"] + manifest["discarded"] - 1


def test_expert_that_never_succeeds_is_an_error_and_leaves_nothing(tmp_path):
    with pytest.raises(UserError, match="expert failed 13 times and succeeded 0 times"):
        make(PUSH, {"horizon": 5}, 2, 0, tmp_path / "hopeless")
    assert sets(tmp_path) == []


def test_two_processes_that_ask_at_once_get_one_set(tmp_path):
    code = f"""
from pathlib import Path
from ailft_bench.demos.collection import provide
made = provide({PUSH!r}, {{}}, "scripted", 3, 7, Path({str(tmp_path)!r}))
print(made.checksum, sum(int(e.image.sum()) for e in made.episodes))
"""
    processes = [python(code, stdout=subprocess.PIPE) for _ in range(2)]
    outputs = [process.communicate(timeout=120)[0] for process in processes]
    assert [process.returncode for process in processes] == [0, 0]
    assert outputs[0] == outputs[1]
    assert sets(tmp_path) == [outputs[0].split()[0]]


def test_killed_make_leaves_no_set_and_the_next_call_makes_it(tmp_path):
    code = f"""
from pathlib import Path
from ailft_bench.demos.collection import provide
provide({PUSH!r}, {{}}, "scripted", 40, 0, Path({str(tmp_path / "demos")!r}), lambda m: print(m, flush=True))
"""
    process = python(code, stdout=subprocess.PIPE)
    while "3 of 40" not in process.stdout.readline():
        assert process.poll() is None
    os.kill(process.pid, signal.SIGKILL)
    process.wait()
    left = sets(tmp_path / "demos")
    assert len(left) == 1
    assert left[0].startswith(".")
    assert list_sets(tmp_path) == []
    week_ago = time.time() - 7 * 24 * 3600
    os.utime(tmp_path / "demos" / left[0], (week_ago, week_ago))
    made = provide(PUSH, {}, "scripted", 40, 0, tmp_path / "demos")
    assert len(made.episodes) == 40
    assert sets(tmp_path / "demos") == [made.checksum]


def test_failed_write_leaves_the_directory_as_it_was(tmp_path, made):
    occupied = tmp_path / "mine"
    occupied.mkdir()
    (occupied / "notes.txt").write_text("keep me")
    with pytest.raises(UserError, match="already there and not empty"):
        make(PUSH, {}, 1, 0, occupied)
    assert sets(tmp_path) == ["mine"]


def test_directory_of_episodes_is_a_source_with_a_checksum_of_its_contents(tmp_path, made):
    for number, episode in enumerate(made.episodes[:3]):
        save_episode(tmp_path / f"run-{number}.npz", episode)
    three = provide(PUSH, {}, str(tmp_path), 3, 0, tmp_path / "unused")
    assert three.checksum == demonstrations_checksum(PUSH, {}, str(tmp_path), 3, 0)
    assert np.array_equal(three.episodes[2].image, made.episodes[2].image)
    save_episode(tmp_path / "run-1.npz", made.episodes[5])
    assert three.checksum != demonstrations_checksum(PUSH, {}, str(tmp_path), 3, 0)
    assert not (tmp_path / "unused").exists()


def test_directory_that_does_not_serve_is_refused_by_name_and_reason(tmp_path, made):
    source = tmp_path / "set"
    with pytest.raises(UserError, match="no such directory"):
        provide(PUSH, {}, str(source), 1, 0, tmp_path)
    source.mkdir()
    with pytest.raises(UserError, match="holds no episodes"):
        provide(PUSH, {}, str(source), 1, 0, tmp_path)
    save_episode(source / "a.npz", made.episodes[0])
    with pytest.raises(UserError, match="holds 1 episodes, but 2"):
        provide(PUSH, {}, str(source), 2, 0, tmp_path)
    with pytest.raises(UserError, match=r"image \(64, 64, 3\) a row, but ailft/Push-v0 has \(84, 84, 3\)"):
        provide(PUSH, {"image_size": 84}, str(source), 1, 0, tmp_path)
    (source / "b.npz").write_bytes(b"PK")
    with pytest.raises(UserError, match=r"b\.npz: not an npz file"):
        provide(PUSH, {}, str(source), 2, 0, tmp_path)
    with pytest.raises(UserError, match="below 1"):
        provide(PUSH, {}, str(source), 0, 0, tmp_path)


def test_episode_that_was_changed_after_it_was_made_is_refused(tmp_path, made):
    make(PUSH, {}, 2, 0, tmp_path / "set")
    save_episode(tmp_path / "set" / "001.npz", made.episodes[4])
    with pytest.raises(UserError, match=r"001\.npz: differs from its entry in manifest\.json"):
        read_set(tmp_path / "set")


def test_listing_shows_sets_and_says_what_is_wrong_with_a_broken_one(tmp_path):
    make(PUSH, {}, 1, 0, tmp_path / "demos" / "mine")
    (tmp_path / "demos" / "odd").mkdir()
    (tmp_path / "demos" / "odd" / "manifest.json").write_text("{")
    mine, odd = list_sets(tmp_path)
    assert (mine.directory.name, mine.kept, mine.recipe["env_id"], mine.problem) == ("mine", 1, PUSH, "")
    assert "not valid JSON" in odd.problem
    assert list_sets(tmp_path / "nowhere") == []


def test_environment_without_expert_is_refused_with_those_that_have_one():
    with pytest.raises(UserError, match="ailft/Push-v0"):
        expert_for("CartPole-v1")
    with pytest.raises(UserError, match="cannot import nowhere"):
        expert_for("nowhere:Mine-v0")
    gymnasium.register("Absent-v0", entry_point="nowhere:Mine")
    with pytest.raises(UserError, match="Absent-v0: cannot import nowhere:Mine"):
        expert_for("Absent-v0")
    for env_id in EXPERTS:
        assert expert_for(env_id).version >= 1


def test_open_loop_replay_is_clearly_below_the_expert_and_repeatable(made):
    score = replay(PUSH, {}, made.episodes, 40, 0)
    assert score.tasks_completed < 1.2
    assert score.success < 0.4
    assert len(score.outcomes) == 40
    assert replay(PUSH, {}, made.episodes, 3, 0).outcomes == score.outcomes[:3]


def test_replay_without_noise_from_the_same_start_repeats_the_demonstration():
    from ailft_bench.demos.recording import make_env, record_expert
    from ailft_bench.demos.replay import replay_actions

    quiet = {"action_noise": 0.0, "start_noise": 0.0}
    env = make_env(PUSH, quiet)
    attempt = next(record_expert(env, expert_for(PUSH), 0, {}))
    outcome = replay_actions(env, attempt.episode.action[1:], env_seed=99)
    assert outcome.success
    env.close()


def test_replay_of_a_short_demonstration_lasts_a_whole_episode_as_the_reference_line_does(made, monkeypatch):
    from ailft_bench.demos.recording import make_env
    from ailft_bench.demos.replay import whole_episode

    env = make_env(PUSH, {})
    (longest, *_) = made.episodes
    short = longest.action[:31]
    actions = whole_episode(env, short, "short")
    assert actions.shape == (env.horizon, *short.shape[1:])
    np.testing.assert_array_equal(actions[:30], short[1:])
    assert not actions[30:].any()
    rows = {name: getattr(longest, name)[:31] for name in ("image", "reward", "is_first", "is_terminal")}
    cut = Episode(action=short, is_last=np.arange(31) == 30, **rows)
    steps = []
    advance = type(env).advance
    monkeypatch.setattr(type(env), "advance", lambda self, action: steps.append(action) or advance(self, action))
    replay(PUSH, {}, [cut], 1, 0)
    np.testing.assert_array_equal(steps, actions)
    longer = np.concatenate([longest.action] * 3)
    np.testing.assert_array_equal(whole_episode(env, longer, "long"), longer[1 : 1 + env.horizon])
    env.close()


def test_replay_of_actions_that_do_not_fit_is_refused(made):
    with pytest.raises(UserError, match=r"actions \(2,\) a step"):
        replay("ailft/Kitchen-v0", {}, made.episodes, 1, 0)
    with pytest.raises(UserError, match="0 demonstrations"):
        replay(PUSH, {}, [], 1, 0)


def test_contact_sheet_shows_different_frames_with_captions(tmp_path, made):
    sheet = np.asarray(Image.open(show(made.episodes[:2], tmp_path / "sheet.png", columns=4)))
    assert sheet.shape == (2 * (128 + 14), 4 * 128, 3)
    tiles = sheet.reshape(2, 142, 4, 128, 3).swapaxes(1, 2)
    assert np.array_equal(tiles[0, 0, 14::2, ::2], made.episodes[0].image[0])
    assert np.array_equal(tiles[1, -1, 14::2, ::2], made.episodes[1].image[-1])
    for row in tiles:
        for a, b in itertools.pairwise(row):
            assert (a[14:] != b[14:]).mean() > 0.001
            assert (a[:14] != b[:14]).any()
    assert (tiles[:, :, :14] < 100).any(axis=(2, 3, 4)).all()


def test_animation_has_a_frame_for_every_step_and_moves(tmp_path, made):
    with Image.open(show(made.episodes[:2], tmp_path / "two.gif")) as animation:
        assert animation.n_frames == 51
        assert animation.size == (256, 142)
        first = np.asarray(animation.convert("RGB"))
        animation.seek(50)
        assert (first != np.asarray(animation.convert("RGB"))).any()


def test_picture_of_another_kind_or_of_nothing_is_refused(tmp_path, made):
    with pytest.raises(UserError, match=r"\.png .*\.gif"):
        show(made.episodes[:1], tmp_path / "film.mp4")
    with pytest.raises(UserError, match="0 episodes"):
        show([], tmp_path / "none.png")
    assert sets(tmp_path) == []


def test_demonstrations_of_other_pictures_or_tasks_are_refused(tmp_path: Path) -> None:
    made = make(PUSH, {"tasks": ["button"]}, 1, 0, tmp_path / "made")
    asked = {"episodes": 1, "seed": 0, "cache": tmp_path / "cache"}
    assert len(provide(PUSH, {"tasks": ["button"], "start_noise": 0.0}, str(made.directory), **asked).episodes) == 1
    with pytest.raises(UserError, match="recorded with tasks"):
        provide(PUSH, {}, str(made.directory), **asked)
    foreign = tmp_path / "foreign"
    foreign.mkdir()
    save_episode(foreign / "000.npz", dataclasses.replace(made.episodes[0], provenance={}))
    with pytest.raises(UserError, match="demos import"):
        provide(PUSH, {"tasks": ["button"]}, str(foreign), **asked)


@pytest.mark.parametrize("content", ['{"a": 1}', "[1]", '{"files": {"absent.npz": "0"}}'])
def test_damaged_manifest_is_named(tmp_path: Path, content: str) -> None:
    made = make(PUSH, {}, 1, 0, tmp_path / "made")
    (made.directory / "manifest.json").write_text(content)
    with pytest.raises(UserError, match=r"manifest|absent"):
        read_set(made.directory)
