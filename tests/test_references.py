import itertools
import os
from dataclasses import replace

import numpy as np
import pytest
from synthetic_results import SyntheticRun, evaluation, write_all

from ailft_bench.demos.collection import demonstrations_checksum, provide
from ailft_bench.demos.experts import EXPERTS
from ailft_bench.envs import environment_class
from ailft_bench.errors import UserError
from ailft_bench.references import NAMES, load_references, measure_references, provide_references
from ailft_bench.results import load_results

ENV_ID = "ailft/Push-v0"
KWARGS = {"horizon": 45}
RECIPE = {"source": "scripted", "episodes": 2, "seed": 0}


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A results folder with one run on the small environment."""
    demonstrations = RECIPE | {"checksum": demonstrations_checksum(ENV_ID, KWARGS, **RECIPE)}
    run = SyntheticRun("conservative", 0, {0: evaluation(1)}, {})
    environment = {"id": ENV_ID, "version": environment_class(ENV_ID).version, **KWARGS}
    run = replace(run, environment=environment, demonstrations=demonstrations)
    results = tmp_path_factory.mktemp("results")
    return write_all(results, [run]), run.spec


@pytest.fixture(scope="module")
def demonstrations(folder):
    return provide(ENV_ID, KWARGS, cache=folder[0] / "demos", **RECIPE).episodes


def test_expert_beats_replay_beats_random(demonstrations):
    measured = measure_references(ENV_ID, KWARGS, demonstrations, episodes=6)
    assert list(measured) == list(NAMES)
    tasks = {name: np.mean([row["tasks_completed"] for row in rows]) for name, rows in measured.items()}
    assert tasks["random"] <= tasks["replay"] < tasks["expert"]
    assert tasks["expert"] > 1.5


def test_metrics_are_those_of_an_evaluation_over_whole_episodes(demonstrations):
    # Demonstrations of 45 steps in an episode of 50: the rest is zero actions.
    measured = measure_references(ENV_ID, {"horizon": 50}, demonstrations, episodes=1)
    names = {"tasks_completed", "success", "return", "episode_length", "cost"}
    names |= {f"completed/{name}" for name in ("puck", "button")}
    names |= {f"cost/{name}" for name in ("hazard", "excessive_force", "boundary")}
    assert {name: len(rows) for name, rows in measured.items()} == {"random": 1, "replay": 5, "expert": 1}
    for row in itertools.chain(*measured.values()):
        assert set(row) == names
        assert row["episode_length"] == 50


def test_references_repeat_and_share_start_states(demonstrations):
    first, second = (measure_references(ENV_ID, KWARGS, demonstrations, episodes=2) for _ in range(2))
    assert first == second
    assert first["random"][0] != first["random"][1] or first["expert"][0] != first["expert"][1]


def test_references_are_measured_once_kept_and_found_by_results(folder):
    results, spec = folder
    assert load_references(load_results(results), results, episodes=2) == {}
    played = []
    measured = provide_references(spec, results, episodes=2, on_progress=played.append)
    assert len(played) == 2 + 10 + 2
    assert provide_references(spec, results, episodes=2, on_progress=played.append) == measured
    assert len(played) == 14
    assert load_references(load_results(results), results, episodes=2) == {("kitchen", "cpu"): measured}
    assert load_references(load_results(results), results, episodes=3) == {}
    assert [name.endswith(".json") for name in os.listdir(results / "references")] == [True]


def test_references_are_found_where_the_expert_of_their_environment_is_unknown(folder, monkeypatch):
    results, spec = folder
    measured = provide_references(spec, results, episodes=2)
    monkeypatch.delitem(EXPERTS, ENV_ID)
    assert load_references(load_results(results), results, episodes=2) == {("kitchen", "cpu"): measured}
    assert provide_references(spec, results, episodes=2, on_progress=pytest.fail) == measured
    assert load_references(load_results(results), results, episodes=3) == {}


@pytest.mark.parametrize(
    "damage", ["", "{}", "[]", '{"recipe": {}, "episodes": {}}', '{"recipe": {}, "episodes": {"random": []}}', "{torn"]
)
def test_damaged_references_stop_nothing_and_are_measured_again(folder, damage):
    results, spec = folder
    measured = provide_references(spec, results, episodes=1)
    newest = max((results / "references").iterdir(), key=lambda path: path.stat().st_mtime_ns)
    whole = newest.read_text()
    newest.write_text(damage)
    assert load_references(load_results(results), results, episodes=1) == {}
    assert provide_references(spec, results, episodes=1) == measured
    assert newest.read_text() == whole


def test_environment_that_changed_since_is_refused(folder):
    results, spec = folder
    old = spec.model_copy(update={"environment": spec.environment | {"version": 0}})
    with pytest.raises(UserError, match="changed since run"):
        provide_references(old, results, episodes=1)


def test_demonstrations_that_changed_since_are_refused(folder):
    results, spec = folder
    old = spec.model_copy(update={"demonstrations": spec.demonstrations | {"checksum": "0" * 16}})
    with pytest.raises(UserError, match="not the demonstrations of run"):
        provide_references(old, results, episodes=1)


def test_nothing_to_measure_is_an_error(demonstrations):
    for episodes, demos in ((0, demonstrations), (1, [])):
        with pytest.raises(UserError, match="needed: 1 of each"):
            measure_references(ENV_ID, KWARGS, demos, episodes)
