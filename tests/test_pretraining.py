"""Shared pretraining: what is shared, with whom, and that nobody's results change by it."""

import typing
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from streams import stream
from test_agent import ACTIONS, batch, config
from test_training import prepare, start, wait_for
from torch.utils._pytree import tree_leaves

from ailft_bench import pretraining
from ailft_bench.estimate import estimate
from ailft_bench.store import RunDirectory
from ailft_bench.worker import EXIT_DONE
from algorithms.agent import Agent
from algorithms.config import AgentConfig

CLONING_FIRST = (
    "settings.pretrain_updates=0",
    "settings.bc_pretrain=30",
    "settings.bc_scale=0.1",
    "settings.average_decay=0.9",
    "settings.acting=mean",
    "scales.smoke.env_steps=120",
    "evaluation.every=120",
    "evaluation.episodes=1",
)


def run_to_the_end(results: Path, algorithm: str, *assignments: str) -> RunDirectory:
    run = prepare(results, algorithm, *CLONING_FIRST, *assignments)
    assert start(run).wait() == EXIT_DONE
    return run


@pytest.fixture(scope="module")
def first(tmp_path_factory: pytest.TempPathFactory) -> RunDirectory:
    return run_to_the_end(tmp_path_factory.mktemp("results"), "conservative")


def results_of(run: RunDirectory) -> Path:
    return run.path.parents[3]


@pytest.mark.slow
@pytest.mark.parametrize("algorithm", ["vmail", "no_ail", "bc"])
def test_run_that_begins_where_another_came_is_the_run_that_began_by_itself(
    first: RunDirectory, tmp_path: Path, algorithm: str
) -> None:
    shared = run_to_the_end(results_of(first), algorithm)
    alone = run_to_the_end(tmp_path, algorithm)
    assert stream(shared) == stream(alone) != stream(first)
    assert len(list((results_of(first) / "pretrained").iterdir())) == 1
    begun = torch.load(next((results_of(first) / "pretrained").iterdir()), weights_only=False)["rows"]
    assert shared.metrics.read()[: len(begun)] == begun, "the time of the pretraining counts as if it had been spent"
    assert (begun[-1]["phase"], begun[-1]["env_step"]) == ("eval", 0)
    taken = [run.attempts.read()[0].provenance["shared_pretraining"] for run in (first, shared, alone)]
    assert taken == [None, next((results_of(first) / "pretrained").iterdir()).stem, None]


@pytest.mark.parametrize("damage", ["truncated", "one byte of a weight"])
def test_damaged_file_is_as_good_as_none(first: RunDirectory, tmp_path: Path, damage: str) -> None:
    (whole,) = (results_of(first) / "pretrained").iterdir()
    content = bytearray(whole.read_bytes())
    damaged = tmp_path / whole.name
    if damage == "truncated":
        damaged.write_bytes(content[: len(content) // 2])
    else:
        content[len(content) // 2] ^= 1
        damaged.write_bytes(content)
    assert pretraining.load(whole) is not None
    assert pretraining.load(damaged) is None
    state, rows = pretraining.load(whole)  # type: ignore[misc]
    pretraining.save(damaged, tmp_path, state, rows)
    assert pretraining.load(damaged) is not None
    assert list(tmp_path.iterdir()) == [damaged]


def test_file_that_cannot_be_written_stops_nobody(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    blocked = tmp_path / "pretrained"
    blocked.write_text("a file where the folder should be")
    pretraining.save(blocked / "key.pt", tmp_path, {"weights": torch.zeros(3)}, [])
    assert "key.pt: not written" in capsys.readouterr().out
    assert pretraining.load(blocked / "key.pt") is None
    assert list(tmp_path.iterdir()) == [blocked]


@pytest.mark.parametrize(
    ("changes", "shared"),
    [
        ({"alpha": 7.0, "horizon": 9, "bc_scale": 0.5, "prefill_steps": 7}, True),
        ({"demo_batch_fraction": 1.0}, True),
        ({"demo_batch_fraction": 0.0}, False),
        ({"model_lr": 2e-3}, False),
        ({"bc_pretrain": 31}, False),
        ({"n_critics": 3}, False),  # other random numbers for the actor's first weights
    ],
)
def test_runs_share_what_they_have_in_common_and_nothing_else(
    tmp_path: Path, changes: dict[str, Any], shared: bool
) -> None:
    spec = prepare(tmp_path, "conservative", *CLONING_FIRST).spec
    other = spec.model_copy(update={"agent": {**spec.agent, **changes}})
    places = [pretraining.shared_file(tmp_path, each, "cpu", "float32") for each in (spec, other)]
    assert (places[0] == places[1]) is shared
    other_seed = spec.model_copy(update={"seed": 1})
    assert pretraining.shared_file(tmp_path, other_seed, "cpu", "float32") != places[0]
    better_evaluated = spec.model_copy(update={"evaluation": {**spec.evaluation, "episodes": 9}})
    assert pretraining.shared_file(tmp_path, better_evaluated, "cpu", "float32") != places[0]
    assert pretraining.shared_file(tmp_path, spec, "cpu", "bfloat16") != places[0]


@pytest.mark.parametrize("changes", [{"pretrain_updates": 1}, {"bc_pretrain": 0}])
def test_pretraining_that_depends_on_everything_is_not_shared(tmp_path: Path, changes: dict[str, int]) -> None:
    spec = prepare(tmp_path, "conservative", *CLONING_FIRST).spec
    other = spec.model_copy(update={"agent": {**spec.agent, **changes}})
    assert pretraining.shared_file(tmp_path, other, "cpu", "float32") is None


def another(name: str) -> Any:
    """Return an allowed value of a setting that is not its value in ``SMALL``."""
    hint, value = typing.get_type_hints(AgentConfig)[name], getattr(config(), name)
    if isinstance(value, bool):
        return not value
    if options := [option for option in typing.get_args(hint) if isinstance(option, str) and option != value]:
        return options[0]
    if isinstance(value, float):
        return value / 2 if value else 0.25
    return (value or 1) + 1


#: What the ``cpu`` preset switches on in the model and the batches.
HELPS = {
    "center_frames": True,
    "random_shift": 4,
    "prioritize_ends": True,
    "model_bc_scale": 10.0,
    "free_nats": 3.0,
    "average_decay": 0.9,
}


@pytest.mark.parametrize("helps", [{}, HELPS], ids=["plain", "cpu"])
@pytest.mark.parametrize("name", sorted(pretraining.AFTERWARDS))
def test_nothing_reads_a_setting_before_its_time(name: str, helps: dict[str, Any]) -> None:
    """Two updates of cloning with another value of it leave the same networks, optimisers and random numbers."""
    first = config(bc_pretrain=2, **helps)
    agents = [Agent(settings, 64, ACTIONS, seed=1) for settings in (first, replace(first, **{name: another(name)}))]
    assert agents[0].config != agents[1].config
    metrics = [[agent.clone(batch(first), None, 1.0, 2.0) for _ in range(2)] for agent in agents]
    assert metrics[0] == metrics[1]
    for agent in agents:  # the evaluation after it is shared too
        agent.settle()
    image = np.random.default_rng(0).integers(0, 256, (64, 64, 3), dtype=np.uint8)
    for sample in (False, True):
        policies = [agent.policy(sample, torch.Generator().manual_seed(0)) for agent in agents]
        assert np.array_equal(*(policy.act(image) for policy in policies))
    fresh, generators = batch(first, 1), [torch.Generator().manual_seed(0) for _ in agents]
    judged = [agent.judge(fresh.frames, fresh.actions, own) for agent, own in zip(agents, generators, strict=True)]
    assert judged[0] == judged[1]
    beliefs = [policy.state_dict() for policy in policies]
    foreseen = [
        agent.foresee(belief, np.zeros((3, 2, ACTIONS), np.float32))
        for agent, belief in zip(agents, beliefs, strict=True)
    ]
    assert np.array_equal(*foreseen)
    states = [agent.state_dict() for agent in agents]
    for left, right in zip(*(tree_leaves(state) for state in states), strict=True):
        assert torch.equal(left, right) if isinstance(left, torch.Tensor) else left == right


def test_estimate_counts_a_shared_pretraining_once(tmp_path: Path) -> None:
    specs = [prepare(tmp_path, name, *CLONING_FIRST).spec for name in ("conservative", "vmail")]
    own = prepare(tmp_path / "own", "vmail", *CLONING_FIRST, "settings.bc_pretrain=31").spec
    together, apart = (estimate([specs[0], other], tmp_path) for other in (specs[1], own))
    alone = [estimate([spec], tmp_path).work_s for spec in specs]
    assert max(alone) < together.work_s < sum(alone)
    assert together.work_s < apart.work_s
    assert together.kept_bytes < apart.kept_bytes


@pytest.mark.slow
def test_run_that_was_killed_while_it_cloned_leaves_its_pretraining_all_the_same(
    first: RunDirectory, tmp_path: Path
) -> None:
    run = prepare(tmp_path, "conservative", *CLONING_FIRST, "scales.smoke.checkpoint_every=5")
    process = start(run)
    wait_for(run.latest_checkpoint, process)
    process.kill()
    process.wait()
    assert not (tmp_path / "pretrained").exists()
    assert start(run).wait() == EXIT_DONE
    (left,), (whole,) = (list((results / "pretrained").iterdir()) for results in (tmp_path, results_of(first)))
    assert left.name == whole.name
    states = [torch.load(path, weights_only=False)["state"]["agent"] for path in (left, whole)]
    for one, other in zip(*(tree_leaves(state) for state in states), strict=True):
        assert torch.equal(one, other) if isinstance(one, torch.Tensor) else one == other


@settings(max_examples=40, deadline=None)
@given(
    seeds=st.integers(1, 5),
    at_once=st.integers(1, 4),
    methods=st.lists(st.sampled_from(("conservative", "vmail", "bc", "no_ail", "loner")), min_size=1, unique=True),
)
def test_cells_with_a_common_pretraining_begin_one_after_the_other(
    first: RunDirectory, seeds: int, at_once: int, methods: list[str]
) -> None:
    cells = {}
    for seed in range(seeds):
        for method in methods:
            agent = {**first.spec.agent, **({"bc_pretrain": 77} if method == "loner" else {})}
            cells[Path(method, str(seed))] = first.spec.model_copy(update={"seed": seed, "agent": agent})
    order = pretraining.in_turn(cells, at_once)
    assert sorted(order) == sorted(cells)
    groups = [cells[path].seed // at_once for path in order]
    assert groups == sorted(groups), "an early stop leaves whole seeds, but for those that are at work"
    together = [(path.name, path.parts[0] == "loner") for path in order[: min(at_once, seeds)]]
    sharing = [name for name, loner in together if not loner]
    assert len(sharing) == len(set(sharing))
    for seed in range(seeds):
        own = [path for path in order if path.name == str(seed) and path.parts[0] != "loner"]
        if len(own) > 1 and "loner" in methods:
            assert order.index(own[0]) < order.index(Path("loner", str(seed))) < order.index(own[1])
