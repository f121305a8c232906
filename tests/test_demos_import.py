import json
import os
import sys
from pathlib import Path

import gymnasium
import h5py
import minari
import numpy as np
import pytest
from minari.data_collector import EpisodeBuffer

from ailft_bench.demos.collection import make, provide
from ailft_bench.demos.directory import read_set
from ailft_bench.demos.importers import import_source
from ailft_bench.demos.recording import make_env
from ailft_bench.errors import UserError

PUSH, KITCHEN = "ailft/Push-v0", "ailft/Kitchen-v0"
AUTHORS = Path(os.environ.get("AILFT_SHARED", Path(__file__).parents[1] / "../shared")) / "demos" / "kitchen"
MICROWAVE = 22


@pytest.fixture(scope="module")
def recorded():
    """States (T+1, 59) and actions (T, 9) of the kitchen; the microwave stands open from row 4 on."""
    env = make_env(KITCHEN, {})
    actions = np.random.default_rng(0).uniform(-1, 1, (7, 9)).astype(np.float32)
    states = [env.begin(0)["state"]]
    for action in actions:
        states.append(env.advance(action)[2]["state"])
    states = np.array(states)
    states[4:, MICROWAVE] = -0.75
    images = [env.show_state(state) for state in states]
    env.close()
    return states, actions, images


@pytest.fixture
def d4rl_file(tmp_path, recorded):
    """Two episodes of 8 rows, ended by a timeout and by the end of the file, and a lone row between them."""
    states, actions, _ = recorded
    observations = np.concatenate([states[:, :30], np.zeros((8, 30))], axis=1)
    padded = np.concatenate([actions, np.zeros((1, 9), np.float32)])
    path = tmp_path / "mini_kitchen_microwave_kettle_light_slider-v0.hdf5"
    with h5py.File(path, "w") as file:
        file["observations"] = np.concatenate([observations, observations[:1], observations]).astype(np.float32)
        file["actions"] = np.concatenate([padded, padded[:1], padded * 1.5])
        file["rewards"] = np.zeros(17, np.float32)
        file["terminals"] = np.arange(17) == 8
        file["timeouts"] = np.arange(17) == 7
    return path


def manifest(directory):
    return json.loads((directory / "manifest.json").read_text())


def test_d4rl_file_becomes_episodes_with_our_pictures_and_tasks(tmp_path, d4rl_file, recorded):
    _, actions, images = recorded
    report = import_source(str(d4rl_file), KITCHEN, {}, tmp_path / "set")
    first, second = read_set(tmp_path / "set")[0]
    assert np.abs(first.image.astype(int) - images).max() <= 1  # positions are stored as float32
    assert np.array_equal(first.action[1:], actions)
    assert np.array_equal(second.action[1:], np.clip(actions * 1.5, -1, 1))
    assert first.tasks_completed.tolist() == first.reward.tolist() == [0, 0, 0, 0, 1, 1, 1, 1]
    assert not first.state[:, 30:].any()
    assert first.provenance["velocities"] == "zero"
    assert second.provenance["actions_clipped"] == (np.abs(actions * 1.5) > 1).sum()
    assert [item.kept for item in report.episodes] == [True, False, True]
    assert (manifest(tmp_path / "set")["kept"], manifest(tmp_path / "set")["discarded"]) == (2, 1)
    assert "single row" in report.episodes[1].note


def test_imported_set_is_a_source_of_demonstrations(tmp_path, d4rl_file):
    import_source(str(d4rl_file), KITCHEN, {}, tmp_path / "set", episodes=1)
    made = provide(KITCHEN, {}, str(tmp_path / "set"), 1, 0, tmp_path / "cache")
    assert made.checksum == manifest(tmp_path / "set")["checksum"]


def test_d4rl_name_is_looked_up_where_d4rl_keeps_its_files(tmp_path, d4rl_file, monkeypatch):
    monkeypatch.setenv("D4RL_DATASET_DIR", str(tmp_path))
    import_source("d4rl:kitchen-complete-v0", KITCHEN, {}, tmp_path / "set", episodes=1)
    with pytest.raises(UserError, match=r"kitchen_microwave_kettle_light_slider-v0\.hdf5 is missing"):
        import_source("d4rl:kitchen-partial-v0", KITCHEN, {}, tmp_path / "other")
    with pytest.raises(UserError, match="did you mean 'kitchen-mixed-v0'"):
        import_source("d4rl:kitchen-mixd-v0", KITCHEN, {}, tmp_path / "other")


def test_reference_scores_of_an_installed_d4rl_are_recorded(tmp_path, d4rl_file, monkeypatch):
    package = tmp_path / "packages" / "d4rl"
    package.mkdir(parents=True)
    (package / "__init__.py").touch()
    (package / "infos.py").write_text(
        f"DATASET_URLS = {{'kitchen-complete-v0': 'http://host/kitchen/{d4rl_file.name}'}}\n"
        "REF_MIN_SCORE = {'kitchen-complete-v0': 0.0}\nREF_MAX_SCORE = {'kitchen-complete-v0': 4.0}\n"
    )
    monkeypatch.syspath_prepend(package.parent)
    monkeypatch.setenv("D4RL_DATASET_DIR", str(tmp_path))
    try:
        import_source("d4rl:kitchen-complete-v0", KITCHEN, {}, tmp_path / "set", episodes=1)
    finally:
        for name in ("d4rl", "d4rl.infos"):
            sys.modules.pop(name, None)
    (episode,) = read_set(tmp_path / "set")[0]
    assert episode.provenance["d4rl_scores"] == {"min": 0.0, "max": 4.0}


@pytest.mark.parametrize(
    ("key", "value", "reason"),
    [
        ("actions", None, "missing actions"),
        ("observations", np.zeros((17, 29)), r"observations: shape \(17, 29\)"),
        ("observations", np.full((17, 60), np.nan), "all finite"),
        ("actions", np.zeros((17, 7)), r"actions: shape \(17, 7\)"),
        ("terminals", np.zeros(16), "terminals: 16 rows"),
    ],
)
def test_malformed_d4rl_file_is_refused_and_leaves_nothing(tmp_path, d4rl_file, key, value, reason):
    with h5py.File(d4rl_file, "a") as file:
        del file[key]
        if value is not None:
            file[key] = value
    with pytest.raises(UserError, match=reason) as error:
        import_source(str(d4rl_file), KITCHEN, {}, tmp_path / "set")
    assert str(d4rl_file) in str(error.value)
    assert [path.name for path in tmp_path.iterdir()] == [d4rl_file.name]


def test_file_that_is_not_hdf5_is_refused(tmp_path):
    (tmp_path / "text.hdf5").write_text("states")
    with pytest.raises(UserError, match="not an HDF5 file"):
        import_source(str(tmp_path / "text.hdf5"), KITCHEN, {}, tmp_path / "set")
    with pytest.raises(UserError, match="no such file"):
        import_source(str(tmp_path / "none.hdf5"), KITCHEN, {}, tmp_path / "set")


def write_minari(dataset_id, states, actions):
    columns = np.concatenate([states[:, 0:9], states[:, 30:39], states[:, 9:30], states[:, 39:59]], axis=1)
    buffer = EpisodeBuffer(
        observations={"observation": list(columns)},
        actions=list(actions),
        rewards=[0.0] * len(actions),
        terminations=[False] * len(actions),
        truncations=[False] * (len(actions) - 1) + [True],
    )
    box = gymnasium.spaces.Box(-np.inf, np.inf, (59,), np.float64)
    minari.create_dataset_from_buffers(
        dataset_id,
        [buffer],
        observation_space=gymnasium.spaces.Dict({"observation": box}),
        action_space=gymnasium.spaces.Box(-1, 1, (9,), np.float32),
        requirements=[],
    )


@pytest.mark.filterwarnings("ignore::UserWarning:minari")
def test_minari_data_set_becomes_episodes_with_our_pictures(tmp_path, recorded, monkeypatch):
    states, actions, images = recorded
    monkeypatch.setenv("MINARI_DATASETS_PATH", str(tmp_path / "minari"))
    write_minari("D4RL/kitchen/complete-v2", states, actions)
    import_source("minari:D4RL/kitchen/complete-v2", KITCHEN, {}, tmp_path / "set")
    (episode,) = read_set(tmp_path / "set")[0]
    assert np.array_equal(episode.image, images)
    assert np.array_equal(episode.state, states)
    assert np.array_equal(episode.action[1:], actions)
    assert episode.tasks_completed[-1] == 1
    assert episode.provenance["source"] == "minari:D4RL/kitchen/complete-v2"


def test_minari_data_set_that_is_not_there_is_refused_with_the_download_command(tmp_path, monkeypatch):
    monkeypatch.setenv("MINARI_DATASETS_PATH", str(tmp_path / "minari"))
    with pytest.raises(UserError, match="minari download D4RL/kitchen/mixed-v2"):
        import_source("minari:D4RL/kitchen/mixed-v2", KITCHEN, {}, tmp_path / "set")
    with pytest.raises(UserError, match="minari:no id"):
        import_source("minari:no id", KITCHEN, {}, tmp_path / "set")
    monkeypatch.setitem(sys.modules, "minari", None)
    with pytest.raises(UserError, match=r"pip install 'ailft-bench\[minari\]'"):
        import_source("minari:D4RL/kitchen/mixed-v2", KITCHEN, {}, tmp_path / "set")
    assert not (tmp_path / "set").exists()


@pytest.fixture(scope="module")
def push_set(tmp_path_factory):
    return make(PUSH, {"action_noise": 0.05}, 3, 0, tmp_path_factory.mktemp("source") / "set").directory


def test_episodes_are_simulated_again_and_failures_are_reported(tmp_path, push_set):
    gentle = {"action_noise": 0.03, "start_noise": 0.01}
    report = import_source(str(push_set), PUSH, gentle, tmp_path / "set", seeds_tried=12)
    episodes = read_set(tmp_path / "set")[0]
    assert len(report.episodes) == 3
    assert 1 <= report.kept == len(episodes)
    for episode in episodes:
        assert episode.reward[-1] == 2
        assert 1 <= episode.provenance["seeds_tried"] == episode.provenance["seed_kept"] + 1 <= 12
    for item in report.episodes:
        assert item.note in manifest(tmp_path / "set")["recipe"]["notes"][item.name]
        assert "tried" in item.note or "left out" in item.note


def test_best_attempt_is_kept_on_demand_where_no_seed_succeeds(tmp_path, push_set):
    rough = {"action_noise": 0.8}
    with pytest.raises(UserError, match=r"no episode could be imported .*best of 2 seeds"):
        import_source(str(push_set), PUSH, rough, tmp_path / "set", seeds_tried=2)
    assert list(tmp_path.iterdir()) == []
    report = import_source(str(push_set), PUSH, rough, tmp_path / "set", seeds_tried=2, keep_best=True)
    assert report.kept == 3
    assert all(episode.reward[-1] < 2 for episode in read_set(tmp_path / "set")[0])


def test_actions_of_another_environment_are_refused(tmp_path, push_set):
    with pytest.raises(UserError, match=r"000\.npz: actions \(2,\) a step"):
        import_source(str(push_set), KITCHEN, {}, tmp_path / "set")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.skipif(not AUTHORS.is_dir(), reason=f"the published demonstrations are not in {AUTHORS}")
def test_published_demonstration_is_redrawn_in_our_kitchen(tmp_path):
    file = sorted(AUTHORS.glob("*.npz"))[3]
    calm = {"start_noise": 0.0, "robot_noise_ratio": 0.01}
    report = import_source(str(file), KITCHEN, calm, tmp_path / "set", seeds_tried=1, keep_best=True)
    (episode,) = read_set(tmp_path / "set")[0]
    assert report.kept == 1
    with np.load(file) as source:
        assert np.array_equal(episode.action, source["action"])
        assert episode.reward[-1] >= 2
        # The same scene from the same camera, without shadows.
        assert 2 < np.abs(episode.image[0].astype(int) - source["image"][0]).mean() < 25


def test_source_of_no_known_kind_is_refused(tmp_path):
    with pytest.raises(UserError, match="no such file"):
        import_source("demos.zip", KITCHEN, {}, tmp_path / "set")
    with pytest.raises(UserError, match="Kitchen-v0 only"):
        import_source("minari:D4RL/kitchen/complete-v2", PUSH, {}, tmp_path / "set")
    (tmp_path / "mine").touch()
    with pytest.raises(UserError, match="already there"):
        import_source("demos.zip", KITCHEN, {}, tmp_path / "mine")
