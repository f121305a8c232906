import os
import zipfile
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ailft_bench.demos.episode import Episode, build_episode, load_episode, save_episode
from ailft_bench.errors import UserError

AUTHORS = Path(os.environ.get("AILFT_SHARED", Path(__file__).parents[1] / "../shared")) / "demos" / "kitchen"
FIELDS = ("image", "action", "reward", "is_first", "is_last", "is_terminal", "tasks_completed", "state")


def example(steps=4, actions=2, size=8, seed=0, **changes):
    rng = np.random.default_rng(seed)
    episode = build_episode(
        rng.integers(0, 256, (steps + 1, size, size, 3)),
        rng.uniform(-1, 1, (steps, actions)),
        rng.uniform(0, 2, steps + 1),
        np.sort(rng.integers(0, 3, steps + 1)).tolist(),
        rng.normal(size=(steps + 1, 5)),
        {"made": "here"},
    )
    return replace(episode, **changes)


def arrays(**changes):
    """Return the six keys of an authors' file as a dictionary; a change to None removes the key."""
    episode = example()
    content = {key: getattr(episode, key) for key in FIELDS[:6]} | changes
    return {key: value for key, value in content.items() if value is not None}


def same(a: Episode, b: Episode):
    for key in FIELDS:
        x, y = getattr(a, key), getattr(b, key)
        if x is None or y is None:
            assert x is y
        else:
            assert x.dtype == y.dtype
            assert np.array_equal(x, y)
    assert a.provenance == b.provenance


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
    max_leaves=5,
)


@settings(max_examples=40, deadline=None)
@given(
    steps=st.integers(1, 9),
    actions=st.integers(1, 9),
    seed=st.integers(0, 999),
    provenance=st.dictionaries(st.text(), json_values, max_size=3),
    known=st.booleans(),
)
def test_any_episode_survives_a_round_trip(tmp_path_factory, steps, actions, seed, provenance, known):
    episode = example(steps, actions, seed=seed, provenance=provenance)
    if not known:
        episode = replace(episode, state=None, tasks_completed=None)
    path = tmp_path_factory.mktemp("round") / "episode.npz"
    save_episode(path, episode)
    same(load_episode(path), episode)
    assert [item.name for item in path.parent.iterdir()] == ["episode.npz"]


def test_same_episode_gives_the_same_bytes(tmp_path):
    save_episode(tmp_path / "a.npz", example())
    save_episode(tmp_path / "b.npz", example())
    assert (tmp_path / "a.npz").read_bytes() == (tmp_path / "b.npz").read_bytes()


def test_file_with_only_the_six_keys_and_foreign_ones_loads(tmp_path):
    np.savez(tmp_path / "e.npz", discount=np.ones(5), **arrays())
    episode = load_episode(tmp_path / "e.npz")
    assert (len(episode), episode.state, episode.tasks_completed, episode.provenance) == (4, None, None, {})


@pytest.mark.skipif(not AUTHORS.is_dir(), reason=f"the published demonstrations are not in {AUTHORS}")
def test_published_demonstrations_load():
    files = sorted(AUTHORS.glob("*.npz"))
    assert len(files) == 10
    for file in files:
        episode = load_episode(file)
        assert (len(episode), episode.image.shape[1:], episode.action.shape[1]) == (280, (64, 64, 3), 9)
        assert episode.reward[-1] == 4


LATE = np.zeros(5, bool)
LATE[2] = True


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"reward": None}, "missing reward"),
        ({"image": None, "action": None}, "missing action, image"),
        ({"image": np.zeros((5, 8, 8, 3), np.float32)}, "image: dtype float32"),
        ({"image": np.zeros((5, 8, 9, 3), np.uint8)}, r"image: shape \(5, 8, 9, 3\)"),
        ({"image": np.zeros((5, 8, 8, 1), np.uint8)}, r"image: shape"),
        ({"image": np.zeros((5, 8, 8), np.uint8)}, "image: dtype uint8, shape"),
        ({"action": np.zeros((5, 2))}, "action: dtype float64"),
        ({"action": np.zeros(5, np.float32)}, "needed: float32 with 2 axes"),
        ({"action": np.full((5, 2), 1.5, np.float32)}, r"action: row 0 is \[1.5, 1.5\]"),
        ({"action": np.full((5, 2), 0.5, np.float32)}, "row 0 is not zero"),
        ({"action": np.full((5, 2), np.nan, np.float32)}, "action: row 0 is not finite"),
        ({"action": np.zeros((4, 2), np.float32)}, "action: 4 rows, but image has 5"),
        ({"reward": np.zeros(6, np.float32)}, "reward: 6 rows"),
        ({"is_first": LATE}, "is_first: must be true in row 0"),
        ({"is_last": LATE}, "is_last: must be true in row 4"),
        ({"is_terminal": LATE}, "is_terminal: true before the last row"),
        ({"is_last": np.zeros(5, np.int64)}, "is_last: dtype int64"),
        ({"tasks_completed": np.array([0, 1, 0, 1, 1])}, "tasks_completed: is negative or falls"),
        ({"state": np.zeros((5, 3), np.float32)}, "state: dtype float32"),
        ({"provenance": "[1]"}, "provenance: not a JSON object"),
        ({"provenance": "{"}, "Expecting property name"),
        ({"action": np.array([{}] * 5, object)}, "pickled objects are never loaded"),
    ],
)
def test_malformed_file_is_refused_by_name_and_reason(tmp_path, changes, reason):
    path = tmp_path / "broken.npz"
    np.savez(path, **arrays(**changes))
    with pytest.raises(UserError, match=reason) as error:
        load_episode(path)
    assert str(path) in str(error.value)


@pytest.mark.parametrize("rows", [1, 0])
def test_file_without_a_transition_is_refused(tmp_path, rows):
    np.savez(tmp_path / "short.npz", **{key: value[:rows] for key, value in arrays().items()})
    with pytest.raises(UserError, match=f"image: {rows} rows"):
        load_episode(tmp_path / "short.npz")


@pytest.mark.parametrize("content", [b"", b"not an npz", b"PK\x03\x04"])
def test_file_that_is_not_an_npz_is_refused(tmp_path, content):
    path = tmp_path / "text.npz"
    path.write_bytes(content)
    with pytest.raises(UserError, match="not an npz file"):
        load_episode(path)
    with pytest.raises(UserError, match="no such file"):
        load_episode(tmp_path / "missing.npz")


def test_zip_of_something_else_than_arrays_is_refused(tmp_path):
    path = tmp_path / "zip.npz"
    np.savez(path, **arrays(reward=None))
    with zipfile.ZipFile(path, "a") as archive:
        archive.writestr("reward", "1 2 3 4 5")
    with pytest.raises(UserError, match="reward: not an array"):
        load_episode(path)


@settings(max_examples=60, deadline=None)
@given(place=st.floats(0, 1, exclude_max=True), cut=st.booleans(), bit=st.integers(0, 7))
def test_cut_or_damaged_file_is_refused_or_harmless(tmp_path_factory, place, cut, bit):
    path = tmp_path_factory.mktemp("damage") / "episode.npz"
    episode = example(steps=2)
    save_episode(path, episode)
    content = bytearray(path.read_bytes())
    offset = int(place * len(content))
    if cut:
        content = content[:offset]
    else:
        content[offset] ^= 1 << bit
    path.write_bytes(content)
    try:
        loaded = load_episode(path)
    except UserError:
        return
    assert not cut
    assert np.array_equal(loaded.image, episode.image)
    assert np.array_equal(loaded.action, episode.action)
