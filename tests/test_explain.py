"""Explaining a run: the verdict that its directory allows, and one screen that names the way on."""

from __future__ import annotations

import io
import shutil
import tempfile
from pathlib import Path

import pytest
from rich.console import Console
from specs import make_spec

from ailft_bench import explain
from ailft_bench.errors import UserError
from ailft_bench.explain import Explanation
from ailft_bench.pool import Pool
from ailft_bench.store import RunDirectory


@pytest.fixture
def run(tmp_path: Path) -> RunDirectory:
    return RunDirectory.create(tmp_path, make_spec(provenance={"command": "ailft-bench run toy"}))


@pytest.mark.parametrize(
    ("reason", "tail", "verdict"),
    [
        ("ValueError: no", "Traceback ...", "exception"),
        ("OutOfMemoryError: CUDA out of memory. Tried to allocate", "", "out of memory"),
        ("RuntimeError: [enforce fail] cannot allocate memory", "", "out of memory"),
    ],
)
def test_what_the_worker_said_is_the_verdict(run: RunDirectory, reason: str, tail: str, verdict: str) -> None:
    run.start_attempt()
    run.fail(reason, tail)
    found = explain.explain(run)
    assert (found.verdict, found.reason, found.tail) == (verdict, reason, tail)


def test_killed_worker_is_told_from_one_that_failed(run: RunDirectory) -> None:
    Pool(1, lambda path: ["sh", "-c", "kill -9 $$"]).run([run.path])
    assert explain.explain(run).verdict == "killed"


def test_runs_without_failure_have_a_verdict_too(run: RunDirectory) -> None:
    assert explain.explain(run).verdict == "never started"
    with run.lease():
        run.start_attempt()
        assert explain.explain(run).verdict == "running"
    assert explain.explain(run).verdict == "stopped"
    run.finish()
    assert explain.explain(run) == Explanation("done", "after 1 start", explain.explain(run).where, "")


def test_finished_run_says_how_well_it_did(run: RunDirectory) -> None:
    for step, tasks in ((0, 0.5), (100, 1.25)):
        run.metrics.append("eval", step, 1, {"tasks_completed": tasks}, 1.0)
        run.metrics.append("train", step, 1, {"return": 3.0}, 1.0)
    run.finish()
    assert explain.explain(run).reason == "after 0 starts; sub-tasks completed at its last evaluation: 1.25"


def test_run_that_was_copied_to_near_the_root_has_a_verdict(run: RunDirectory) -> None:
    with tempfile.TemporaryDirectory(dir="/tmp") as copied:
        shutil.copy(run.path / "run.json", copied)
        assert explain.explain(RunDirectory(Path(copied))).verdict == "never started"


def test_screen_shows_every_attempt_with_its_end_and_the_command(run: RunDirectory) -> None:
    run.start_attempt()
    run.fail("killed by SIGKILL: out of memory?", verdict="killed")
    run.save_checkpoint(40, lambda folder: None)
    run.start_attempt()
    run.fail("ValueError: [no] luck", "last line")
    text = io.StringIO()
    explain.show(Console(file=text, width=200), run)
    for part in ("killed by SIGKILL", "000001-40", "the beginning", "ValueError: [no] luck", "last line"):
        assert part in text.getvalue()
    assert "again:   ailft-bench run toy" in text.getvalue()


def test_run_is_found_by_folder_or_by_the_beginning_of_its_id(run: RunDirectory, tmp_path: Path) -> None:
    other = RunDirectory.create(tmp_path, make_spec(seed=1))
    for name in (str(run.path), run.spec.run_id, run.spec.run_id[:6]):
        assert explain.find(tmp_path, name).spec == run.spec
    assert other.spec.run_id[:6] != run.spec.run_id[:6]
    with pytest.raises(UserError, match="no run directory"):
        explain.find(tmp_path, "zzzz")


def test_beginning_that_several_ids_have_names_those_alone(tmp_path: Path) -> None:
    ids = [RunDirectory.create(tmp_path, make_spec(seed=seed)).spec.run_id[:8] for seed in range(40)]
    first = next(digit for digit in "0123456789abcdef" if sum(name.startswith(digit) for name in ids) > 1)
    begun = sorted(name for name in ids if name.startswith(first))
    with pytest.raises(UserError, match=f"{first}: {len(begun)} runs begin like this: {', '.join(begun)}$"):
        explain.find(tmp_path, first)


@pytest.mark.parametrize("trained", ["kitchen", "kitchen_alpha"])
def test_of_a_run_that_two_suites_have_the_one_with_a_network_is_found(tmp_path: Path, trained: str) -> None:
    one = make_spec(suite="kitchen")
    both = [
        RunDirectory.create(tmp_path, one.model_copy(update={"suite": name})) for name in ("kitchen", "kitchen_alpha")
    ]
    for made in both:
        if made.spec.suite == trained:
            made.save_checkpoint(40, lambda folder: None)
    assert explain.find(tmp_path, one.run_id).spec.suite == trained
