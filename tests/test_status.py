"""Status: every cell is a row, and looking changes nothing."""

from __future__ import annotations

import io
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from rich.console import Console
from specs import SUITE, make_spec, write_suite

from ailft_bench import cells, status, suite_file
from ailft_bench.cli import commands
from ailft_bench.errors import UserError
from ailft_bench.store import RunDirectory


@pytest.fixture
def results(tmp_path: Path) -> Iterator[Path]:
    """One run of each state: done, failed, waiting halfway, running."""
    directories = [
        RunDirectory.create(
            tmp_path, make_spec(seed=seed, provenance={"command": "ailft-bench run toy --set name=toy"})
        )
        for seed in range(4)
    ]
    directories[0].finish()
    directories[1].fail("ValueError: no such luck\nmore", "Traceback ...")
    with directories[3].lease():
        directories[3].report_progress("pretrain", 100, 1000, 0, 0)
        yield tmp_path


def test_each_state_has_its_row(results: Path) -> None:
    rows = {row.seed: row for row in status.collect(results)}
    assert {seed: row.state for seed, row in rows.items()} == {
        0: "done",
        1: "failed",
        2: "waiting",
        3: "running",
    }
    assert rows[0].fraction == 1
    assert rows[1].reason == "ValueError: no such luck"
    assert rows[1].node
    assert rows[3].node
    text = io.StringIO()
    status.show(Console(file=text, width=200), list(rows.values()))
    assert "1 done, 1 failed, 1 running, 1 waiting" in text.getvalue()
    assert "ailft-bench run toy --set name=toy" in text.getvalue()


def test_looking_writes_nothing(results: Path) -> None:
    def snapshot() -> dict[Path, tuple[int, bytes]]:
        return {path: (path.stat().st_mtime_ns, path.read_bytes()) for path in results.rglob("*") if path.is_file()}

    before = snapshot()
    status.collect(results)
    assert snapshot() == before


def test_progress_is_the_share_of_the_work(results: Path) -> None:
    spec = make_spec(seed=2)
    half = cells.planned_updates(spec) // 2
    RunDirectory(spec.directory(results)).report_progress("online", 100, 200, 100, half)
    (row,) = (row for row in status.collect(results) if row.seed == 2)
    assert row.fraction == pytest.approx(0.5, abs=0.01)


def test_cells_that_never_started_are_missing(results: Path) -> None:
    suite = suite_file.load(str(write_suite(results)))
    specs = cells.expand(suite, "smoke")
    RunDirectory.create(results, specs[0])
    found = status.collect(results, "toy", "smoke")
    rows = status.missing(suite, ["smoke"], found, "toy.yaml")
    assert {row.run_id for row in rows} == {spec.run_id for spec in specs[1:]}
    assert {row.command for row in rows} == {"ailft-bench run toy.yaml --scale smoke"}


def test_runs_are_shown_where_their_demonstrations_are_out_of_reach(
    results: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    text = SUITE.replace("demonstrations: {episodes: 2}", "demonstrations: {source: nowhere, episodes: 2}")
    commands.status(str(write_suite(results, text)), None, results)
    shown = capsys.readouterr()
    assert "demonstrations.source" in shown.err
    assert "cells that were never started are left out" in shown.err
    assert "no such luck" in shown.out


def test_damaged_cell_is_not_missing_as_well(results: Path) -> None:
    suite = suite_file.load(str(write_suite(results)))
    for spec in cells.expand(suite, "smoke"):
        (RunDirectory.create(results, spec).path / "run.json").write_text("{")
    found = status.collect(results, "toy", "smoke")
    assert sum(row.state == "damaged" for row in found) == 8
    assert status.missing(suite, ["smoke"], found, "toy.yaml") == []


def test_command_of_another_folder_can_be_pasted(tmp_path: Path) -> None:
    made_at = {"command": "ailft-bench run toy", "directory": "/home/me/my project"}
    assert status.command(make_spec(provenance=made_at)) == "cd '/home/me/my project' && ailft-bench run toy"


def test_unknown_suite_is_named(results: Path) -> None:
    with pytest.raises(UserError, match="no runs of suite toy at scale smok; did you mean 'smoke'"):
        status.collect(results, "toy", "smok")
    with pytest.raises(UserError, match="did you mean 'toy'"):
        status.collect(results, "toi")
    with pytest.raises(UserError, match="start one with"):
        status.collect(results / "nowhere")


def test_two_thousand_runs_are_listed(tmp_path: Path) -> None:
    """The time is printed, not asserted."""
    template = RunDirectory.create(tmp_path, make_spec()).path
    text = (template / "run.json").read_text()
    for seed in range(1, 2000):
        path = template.with_name(f"seed-{seed}-00000000")
        path.mkdir()
        (path / "run.json").write_text(text)
    started = time.perf_counter()
    assert len(status.collect(tmp_path)) == 2000
    print(f"{time.perf_counter() - started:.2f} s")
