import errno
import os
import resource
from pathlib import Path

import numpy as np
import pytest
import torch

from algorithms.replay import Replay


def episode(number: int, frames: int) -> tuple[np.ndarray, np.ndarray]:
    """Frames and actions that say where they are from: (episode, time)."""
    images = np.zeros((frames, 64, 64, 3), np.uint8)
    images[:, 0, 0, 0], images[:, 0, 0, 1] = number, np.arange(frames)
    actions = np.stack([np.full(frames, number), np.arange(frames)], 1).astype(np.float32)
    return images, actions


def filled(path: Path, lengths: tuple[int, ...] = (12, 30, 9), demos: int = 1) -> Replay:
    replay = Replay(path, 200, 64, 2)
    for number, frames in enumerate(lengths):
        images, actions = episode(number, frames)
        if number < demos:
            replay.add_demonstration(images, actions)
        else:
            for index in range(frames):
                replay.add(images[index], actions[index], first=index == 0)
    return replay


def test_sequences_never_cross_an_episode_and_keep_actions_with_their_frames(tmp_path: Path) -> None:
    batch = filled(tmp_path).sample(np.random.default_rng(0), 300, 0, 9, own_only=False)
    episodes, times = batch.frames[:, :, 0, 0, 0].long(), batch.frames[:, :, 0, 0, 1].long()
    assert batch.frames.shape == (9, 300, 32, 32, 12)
    assert (episodes == episodes[0]).all()
    assert (times.diff(dim=0) == 1).all()
    assert (batch.actions[..., 0] == episodes).all()
    assert (batch.actions[..., 1] == times).all()
    assert set(episodes[0].tolist()) == {0, 1, 2}
    assert torch.equal(batch.begins, times[0] == 0)
    assert 0 < batch.begins.sum() < 300


def test_start_positions_are_uniform_over_the_whole_log(tmp_path: Path) -> None:
    batch = filled(tmp_path).sample(np.random.default_rng(0), 20_000, 0, 9, own_only=False)
    starts = batch.frames[0, :, 0, 0, :2].long()
    counts = np.unique(starts.numpy(), axis=0, return_counts=True)[1]
    assert len(counts) == 4 + 22 + 1
    expected = 20_000 / 27
    assert (np.abs(counts - expected) < 5 * np.sqrt(expected)).all()


def test_first_and_last_frames_are_drawn_about_as_often_as_the_others_on_request(tmp_path: Path) -> None:
    """Without it the first frame of an episode lies in one sequence of a length's worth."""
    replay = filled(tmp_path, (30,), demos=0)
    shares = {}
    for ends in (False, True):
        batch = replay.sample(np.random.default_rng(0), 20_000, 0, 8, own_only=False, prioritize_ends=ends)
        counts = np.bincount(batch.actions[..., 1].int().flatten(), minlength=30)
        shares[ends] = counts / counts.mean()
    assert shares[False].min() < 0.2
    assert shares[True].min() > 0.4
    assert shares[True].max() < 1.7


def test_expert_rows_come_first_and_own_rows_are_the_agents(tmp_path: Path) -> None:
    batch = filled(tmp_path).sample(np.random.default_rng(0), 20, 8, 9, own_only=True)
    episodes = batch.frames[0, :, 0, 0, 0]
    assert (episodes[:8] == 0).all()
    assert (episodes[8:] > 0).all()


def test_own_rows_fall_back_on_demonstrations_before_the_first_long_episode(tmp_path: Path) -> None:
    replay = filled(tmp_path, (12, 4), demos=1)
    assert (replay.sample(np.random.default_rng(0), 6, 0, 9, own_only=True).frames[0, :, 0, 0, 0] == 0).all()


def test_too_long_sequences_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="sequence_length"):
        filled(tmp_path).sample(np.random.default_rng(0), 2, 0, 31, own_only=False)


def test_reopened_log_forgets_frames_after_the_saved_state(tmp_path: Path) -> None:
    replay = filled(tmp_path)
    state = replay.state_dict()
    before = replay.sample(np.random.default_rng(3), 10, 2, 5, own_only=False)
    replay.add(np.full((64, 64, 3), 200, np.uint8), np.zeros(2, np.float32), first=False)
    replay.flush()
    reopened = Replay(tmp_path, 200, 64, 2)
    reopened.load_state_dict(state)
    after = reopened.sample(np.random.default_rng(3), 10, 2, 5, own_only=False)
    assert len(reopened) == 51
    assert (after.frames == before.frames).all()
    assert (after.actions == before.actions).all()


def test_a_full_disk_is_an_error_and_not_a_crash(tmp_path: Path) -> None:
    replay = filled(tmp_path)
    frame, action = np.zeros((64, 64, 3), np.uint8), np.zeros(2, np.float32)
    pid = os.fork()
    if pid == 0:  # the limit cannot be raised again, so it is set in a child
        import signal

        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        resource.setrlimit(resource.RLIMIT_FSIZE, (52 * 12288, 52 * 12288))
        try:
            replay.add(frame, action, first=False)
            replay.add(frame, action, first=False)
        except OSError as error:
            os._exit(10 if error.errno == errno.EFBIG and len(replay) == 52 else 11)
        os._exit(12)
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 10
