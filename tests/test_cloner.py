"""Plain cloning: what it is shown, what it plays, and that it learns."""

from __future__ import annotations

from copy import deepcopy
from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from algorithms.cloner import Cloner
from algorithms.config import AgentConfig, SettingError
from algorithms.frames import fold
from algorithms.learners import build
from algorithms.methods import METHODS
from algorithms.replay import Replay

ACTIONS = 2


def config(**changes: object) -> AgentConfig:
    small = {"depth": 4, "units": 32, "actor_layers": 1, "batch_size": 16, "bc_pretrain": 1}
    small |= {"frame_stack": 1, "average_decay": 0.0, **changes}
    return METHODS["bc_cnn"].configure("smoke", own=small)


def numbered(length: int) -> tuple[np.ndarray, np.ndarray]:
    """An episode that shows its time: frame t is grey of value t, the action that led to it is t / 100."""
    images = np.broadcast_to(np.arange(length, dtype=np.uint8)[:, None, None, None], (length, 64, 64, 3))
    actions = np.repeat(np.arange(length, dtype=np.float32)[:, None] / 100, ACTIONS, axis=1)
    actions[:, 1] = 0
    return images, actions


def replay_of(path, *episodes: tuple[np.ndarray, np.ndarray]) -> Replay:
    replay = Replay(path, sum(len(images) for images, _ in episodes), 64, ACTIONS)
    for images, actions in episodes:
        replay.add_demonstration(images, actions)
    return replay


@settings(max_examples=20, deadline=None)
@given(stack=st.integers(1, 4), chunk=st.integers(1, 5), seed=st.integers(0, 99))
def test_actions_are_those_that_follow_the_newest_frame_of_a_stack(tmp_path_factory, stack, chunk, seed) -> None:
    settings_ = config(frame_stack=stack, action_chunk=chunk)
    cloner = Cloner(settings_, 64, ACTIONS, seed=seed)
    replay = replay_of(tmp_path_factory.mktemp("replay"), numbered(20))
    batch = replay.sample(np.random.default_rng(seed), 16, 16, settings_.row_frames, False, True)
    stacks, actions = cloner._pairs(batch)
    assert stacks.shape == (stack, 16, 12, 32, 32)
    times = ((stacks[:, :, 0, 0, 0] + 0.5) * 255).round().int()
    newest = times[-1]
    ahead = torch.arange(1, chunk + 1)
    torch.testing.assert_close(actions.unflatten(1, (chunk, ACTIONS))[..., 0], (newest[:, None] + ahead) / 100)
    back = torch.arange(stack - 1, -1, -1)[:, None]
    assert torch.equal(times, (newest - back).clamp(min=0)), "the first frame fills up what is not there yet"
    assert (newest[batch.frames[0, :, 0, 0, 0] > 0] >= stack).all()


def test_first_moments_of_an_episode_are_shown_as_the_policy_will_see_them(tmp_path) -> None:
    settings_ = config(frame_stack=3)
    cloner = Cloner(settings_, 64, ACTIONS, seed=0)
    replay = replay_of(tmp_path, numbered(5))
    rng = np.random.default_rng(0)
    shown = set()
    for _ in range(20):
        stacks, _ = cloner._pairs(replay.sample(rng, 16, 16, settings_.row_frames, False, True))
        shown |= {tuple(column) for column in ((stacks[:, :, 0, 0, 0] + 0.5) * 255).round().int().T.tolist()}
    assert shown == {(0, 0, 0), (0, 0, 1), (0, 1, 2), (1, 2, 3)}

    seen: list[list[int]] = []
    policy = cloner.policy(False, torch.Generator())
    embed = cloner.acting_network.embed
    cloner.acting_network.embed = lambda scaled: (  # type: ignore[method-assign]
        seen.append(((scaled[:, 0, 0, 0, 0] + 0.5) * 255).round().int().tolist()) or embed(scaled)
    )
    for image in numbered(4)[0]:
        policy.act(image)
    assert seen == [[0, 0, 0], [0, 0, 1], [0, 1, 2], [1, 2, 3]]


def test_chunk_is_played_without_looking_and_survives_a_restore_in_its_middle() -> None:
    cloner = Cloner(config(action_chunk=3, frame_stack=2), 64, ACTIONS, seed=0)
    noise = np.random.default_rng(0).integers(0, 256, (8, 64, 64, 3), dtype=np.uint8)

    def play(images: np.ndarray, policy=None) -> list[np.ndarray]:
        policy = policy or cloner.policy(True, torch.Generator().manual_seed(1))
        return [policy.act(image) for image in images]

    blind = noise.copy()
    blind[1:3] = 0  # played from the plan of the first frame
    assert np.array_equal(play(noise[:3]), play(blind[:3]))
    assert not np.array_equal(play(noise[:4])[3], play(np.concatenate([noise[:3], blind[1:2]]))[3])

    policy = cloner.policy(True, torch.Generator().manual_seed(1))
    play(noise[:4], policy)
    restored = cloner.policy(True, torch.Generator())
    restored.load_state_dict(policy.state_dict())
    assert np.array_equal(play(noise[4:], policy), play(noise[4:], restored))


def test_stack_tells_apart_what_one_frame_cannot(tmp_path) -> None:
    """A square that moves left or right asks for the opposite actions in the same places."""
    episodes = []
    for direction in (1, -1):
        images = np.zeros((18, 64, 64, 3), np.uint8)
        for t in range(18):
            column = 30 + direction * (2 * t - 18)
            images[t, 24:40, column : column + 8] = 255
        actions = np.full((18, ACTIONS), 0.5 * direction, np.float32)
        actions[0] = 0
        episodes.append((images, actions))
    replay, errors = replay_of(tmp_path, *episodes), {}
    for stack in (1, 2):
        settings_ = replace(config(frame_stack=stack, actor_lr=3e-3), average_decay=0.9)
        cloner, rng = build(settings_, 64, ACTIONS, seed=0), np.random.default_rng(0)
        for _ in range(150):
            batch = replay.sample(rng, 16, 16, settings_.row_frames, False)
            errors[stack] = cloner.clone(batch, None, 1.0)["actor/demo_mse"]
    assert errors[2] < 0.02 < 0.1 < errors[1]


def test_saved_cloner_goes_on_as_if_it_had_not_stopped(tmp_path) -> None:
    settings_ = replace(config(frame_stack=2), average_decay=0.9, center_frames=True, random_shift=2)
    replay = replay_of(tmp_path, numbered(20))
    first, second = Cloner(settings_, 64, ACTIONS, seed=0), Cloner(settings_, 64, ACTIONS, seed=1)
    first.center(torch.from_numpy(fold(numbered(20)[0])).double().mean(0))
    batches = [replay.sample(np.random.default_rng(n), 16, 16, settings_.row_frames, False) for n in range(6)]
    for batch in batches[:3]:
        first.clone(batch, None, 1.0)
    second.load_state_dict(deepcopy(first.state_dict()))
    for batch in batches[3:]:
        assert first.clone(batch, None, 1.0) == second.clone(batch, None, 1.0)
    image = np.full((64, 64, 3), 7, np.uint8)
    acts = [cloner.policy(False, torch.Generator().manual_seed(0)).act(image) for cloner in (first, second)]
    assert np.array_equal(*acts)
    first.settle()
    assert torch.equal(first.network.actor.layers[0].weight, first.acting_network.actor.layers[0].weight)


@pytest.mark.parametrize(
    ("method", "own", "key"),
    [
        ("bc_cnn", {"adversarial": True}, "adversarial"),
        ("bc_cnn", {"demo_batch_fraction": 0.5}, "demo_batch_fraction"),
        ("bc", {"frame_stack": 3}, "frame_stack"),
        ("conservative", {"action_chunk": 2}, "action_chunk"),
        ("conservative", {"policy": "image"}, "adversarial"),
        ("bc_cnn", {"frame_stack": 0}, "frame_stack"),
    ],
)
def test_settings_that_make_no_sense_together_are_refused(method: str, own: dict, key: str) -> None:
    with pytest.raises(SettingError) as raised:
        METHODS[method].configure("cpu", own={"bc_pretrain": 1, **own})
    assert raised.value.key == key
