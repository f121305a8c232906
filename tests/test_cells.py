"""Cells: which runs a suite stands for, and when two of them are the same."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from specs import make_spec, write_suite

from ailft_bench import cells, suite_file
from ailft_bench.errors import UserError
from ailft_bench.store import RunDirectory, RunSpec
from algorithms.config import LATER, AgentConfig

#: One change of each scientific field.
CHANGES: dict[str, dict[str, Any]] = {
    "method": {"method": "vmail"},
    "seed": {"seed": 1},
    "steps": {"env_steps": 201},
    "environment": {"environment": {"id": "ailft/Kitchen-v0", "version": 1, "image_size": 64}},
    "environment's version": {"environment": {"id": "ailft/Push-v0", "version": 2, "image_size": 64}},
    "environment's argument": {"environment": {"id": "ailft/Push-v0", "version": 1, "image_size": 128}},
    "another argument": {"environment": {"id": "ailft/Push-v0", "version": 1, "image_size": 64, "start_noise": 0.0}},
    "demonstrations": {"demonstrations": {**make_spec().demonstrations, "checksum": "other"}},
    "evaluation": {"evaluation": {"episodes": 3, "every": 100}},
    **{f"agent {name}": {"agent": {**make_spec().agent, name: "x"}} for name in make_spec().agent},
}
LABELS: dict[str, Any] = {
    "suite": "b",
    "scale": "c",
    "algorithm": "d",
    "variant": "e",
    "checkpoint_every": 7,
    "provenance": {"host": "f", "gpu": "g"},
    "created": "h",
    "demonstrations": {**make_spec().demonstrations, "source": "/elsewhere"},
}


@pytest.mark.parametrize("name", CHANGES)
def test_change_of_the_science_is_another_run(name: str) -> None:
    assert make_spec(**CHANGES[name]).run_id != make_spec().run_id


def test_run_from_before_a_setting_is_the_run_that_has_it_at_its_old_value() -> None:
    spec = make_spec(agent=AgentConfig().as_dict())
    before = make_spec(agent={name: value for name, value in spec.agent.items() if name not in LATER})
    assert (before.run_id, before.agent) == (spec.run_id, spec.agent)
    assert make_spec(agent={**spec.agent, "rescale_moments": True}).run_id != spec.run_id


def test_whole_number_where_the_environment_takes_any_is_the_same_science() -> None:
    spelled = [
        cells.expand(suite_file.load("quickstart", (f"environment.start_noise={value}",)), "smoke")
        for value in ("0", "0.0", "0.5")
    ]
    ids = [[spec.run_id for spec in specs] for specs in spelled]
    assert ids[0] == ids[1]
    assert spelled[0][0].environment == spelled[1][0].environment
    assert not set(ids[0]) & set(ids[2])


def test_published_runs_that_their_suites_still_hold_have_the_same_id_today() -> None:
    """The quick start's runs were made with settings that have not changed since."""
    quickstart = Path(__file__).parents[1] / "results" / "reference" / "quickstart"
    asked_for = {cell.run_id for cell in cells.expand(suite_file.load("quickstart", ()), "cpu")}
    published = [RunDirectory(path.parent).spec for path in quickstart.rglob("run.json")]
    assert asked_for == {spec.run_id for spec in published} == {cells.identity(spec) for spec in published}


@given(st.sets(st.sampled_from(sorted(LABELS))))
def test_labels_machine_and_places_are_not_the_science(names: set[str]) -> None:
    assert make_spec(**{name: LABELS[name] for name in names}).run_id == make_spec().run_id


@given(st.permutations(sorted(make_spec().agent)), st.permutations(["id", "version", "image_size"]))
def test_order_of_keys_does_not_matter(agent: list[str], environment: list[str]) -> None:
    spec = make_spec()
    shuffled = make_spec(
        agent={name: spec.agent[name] for name in agent},
        environment={name: spec.environment[name] for name in environment},
    )
    assert shuffled.run_id == spec.run_id


def test_identity_survives_the_disk_and_another_spelling_of_a_number() -> None:
    spec = make_spec(environment={"id": "ailft/Push-v0", "version": 1, "start_noise": 0.0})
    assert cells.identity(RunSpec.model_validate_json(spec.model_dump_json(by_alias=True))) == spec.run_id
    same = make_spec(environment={"id": "ailft/Push-v0", "version": 1, "start_noise": 0})
    assert same.run_id == spec.run_id


def expand(folder: Path, *assignments: str, scale: str = "smoke", **options: Any) -> list[RunSpec]:
    suite = suite_file.load(str(write_suite(folder)), assignments)
    return cells.expand(suite, scale, **options)


def test_expansion_is_every_algorithm_variant_and_seed(tmp_path: Path) -> None:
    specs = expand(tmp_path)
    assert [(spec.seed, spec.label) for spec in specs] == [
        (seed, label) for seed in (0, 1) for label in ("conservative", "conservative+mild", "vmail", "k1")
    ]
    assert len({spec.run_id for spec in specs}) == len(specs)
    assert specs[0].evaluation == {"episodes": 2, "every": 100}
    assert specs[0].checkpoint_every == 100
    assert specs[0].environment["start_noise"] == 0.01
    assert specs[0].environment_kwargs["tasks"] == ["puck", "button"], "defaults are part of the identity"


def test_a_default_that_is_spelled_out_is_the_same_run(tmp_path: Path) -> None:
    spelled = expand(tmp_path, "environment.horizon=50", "environment.tasks=[puck, button]")
    assert [spec.run_id for spec in spelled] == [spec.run_id for spec in expand(tmp_path)]


def test_expansion_is_restricted_by_algorithms_and_seeds(tmp_path: Path) -> None:
    specs = expand(tmp_path, algorithms=["vmail"], seeds=[7, 3])
    assert [(spec.seed, spec.label) for spec in specs] == [(7, "vmail"), (3, "vmail")]
    with pytest.raises(UserError, match="did you mean 'vmail'"):
        expand(tmp_path, algorithms=["vmial"])


def test_demonstrations_that_are_not_there_are_named_with_their_suite_scale_and_key(tmp_path: Path) -> None:
    where = f"suite toy, scale smoke: demonstrations.source: {Path('scriptd').resolve()}: no such directory"
    with pytest.raises(UserError, match=f"{re.escape(where)}.*allowed: scripted, or a directory"):
        expand(tmp_path, "demonstrations.source=scriptd")


def test_machine_and_checkpoints_do_not_change_a_suites_runs(tmp_path: Path) -> None:
    machine = expand(tmp_path, "resources.memory_gib=9.0", "scales.smoke.checkpoint_every=7", "name=other")
    assert [spec.run_id for spec in machine] == [spec.run_id for spec in expand(tmp_path)]


def test_scale_changes_a_suites_runs(tmp_path: Path) -> None:
    small, large = (expand(tmp_path, scale=scale) for scale in ("smoke", "cpu"))
    assert not {spec.run_id for spec in small} & {spec.run_id for spec in large}


def test_work_of_a_run_counts_its_updates(tmp_path: Path) -> None:
    agent = {
        **make_spec().agent,
        "pretrain_updates": 10,
        "bc_pretrain": 5,
        "prefill_steps": 100,
        "train_every": 10,
        "updates_per_train": 2,
    }
    spec = make_spec(agent=agent, env_steps=200)
    assert cells.planned_updates(spec) == 10 + 5 + 20
    assert cells.fraction_done(spec, 0, 0) == 0
    assert cells.fraction_done(spec, 200, 35) == 1
    offline = make_spec(agent={**agent, "online": False}, env_steps=200)
    assert cells.planned_updates(offline) == 15
    assert cells.fraction_done(offline, 0, 15) == 1


@given(st.integers(0, 60), st.integers(0, 60), st.integers(1, 7))
def test_updates_come_at_every_multiple_after_the_prefill(prefill: int, online: int, every: int) -> None:
    schedule = {"pretrain_updates": 0, "prefill_steps": prefill, "train_every": every, "updates_per_train": 2}
    spec = make_spec(agent={**make_spec().agent, **schedule}, env_steps=prefill + online)
    updates = sum(2 for step in range(prefill + 1, prefill + online + 1) if step % every == 0)
    assert cells.planned_updates(spec) == updates


@given(st.integers(0, 60), st.integers(1, 7), st.integers(1, 4), st.integers(0, 30))
def test_first_step_of_the_actor_is_that_of_the_schedule(prefill: int, every: int, updates: int, frozen: int) -> None:
    agent = {
        "prefill_steps": prefill,
        "train_every": every,
        "updates_per_train": updates,
        "actor_frozen_updates": frozen,
    }
    step, done = prefill, 0
    while True:
        step += 1
        before = done
        done += updates * (step % every == 0)
        if done > max(before, frozen):
            break
    assert cells.first_actor_step(agent) == step
