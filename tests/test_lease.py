"""The lease of a run: one worker at a time, free when its holder dies, and whoever lost it writes no more."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from specs import make_spec

from ailft_bench.store import RunDirectory
from ailft_bench.store.lease import EXPIRES_AFTER_S, LeaseHeldError, LeaseLostError


@pytest.fixture
def run(tmp_path: Path) -> RunDirectory:
    return RunDirectory.create(tmp_path, make_spec())


def test_second_worker_on_a_run_is_turned_away(run: RunDirectory) -> None:
    with run.lease(), pytest.raises(LeaseHeldError, match="another worker"), RunDirectory(run.path).lease():
        pass
    assert run.state == "waiting"
    with RunDirectory(run.path).lease():
        assert run.state == "running"


def test_lease_of_a_killed_process_is_free_at_once(run: RunDirectory) -> None:
    holder = _hold_in_another_process(run)
    assert run.state == "running"
    os.kill(holder.pid, signal.SIGKILL)
    # Dead but not yet reaped: a zombie holds nothing.
    deadline = time.monotonic() + 10
    while run.state == "running" and time.monotonic() < deadline:
        time.sleep(0.01)
    assert run.state == "waiting"
    with run.lease():
        assert run.state == "running"
    holder.wait()


@pytest.mark.parametrize(("age", "state"), [(1.0, "running"), (EXPIRES_AFTER_S + 1, "waiting")])
def test_lease_of_another_machine_expires(run: RunDirectory, age: float, state: str) -> None:
    _write_foreign_lease(run, age)
    assert run.state == state


def test_worker_that_was_taken_for_dead_stops_before_it_writes(run: RunDirectory) -> None:
    with run.lease():
        run.metrics.append("train", 10, 1, {"return": 1.0}, 0.5)
        _write_foreign_lease(run, age=0)
        with pytest.raises(LeaseLostError):
            run.metrics.append("train", 20, 2, {"return": 2.0}, 0.6)
        with pytest.raises(LeaseLostError):
            run.save_checkpoint(20, lambda folder: None)
        with pytest.raises(LeaseLostError):
            run.finish()
        run.fail("too late to matter")
    assert len(run.metrics.read()) == 1
    assert run.state == "running"
    assert run.failure is None


def test_lease_is_refreshed_while_the_worker_computes(run: RunDirectory, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("ailft_bench.store.lease.EXPIRES_AFTER_S", 0.1)
    with run.lease():
        before = run.holder
        deadline = time.monotonic() + 10
        while run.holder == before and time.monotonic() < deadline:
            time.sleep(0.01)
        after = run.holder
    assert before is not None
    assert after is not None
    assert after.time > before.time


def _hold_in_another_process(run: RunDirectory) -> subprocess.Popen[str]:
    code = (
        "import sys, time; from ailft_bench.store import RunDirectory\n"
        "with RunDirectory(sys.argv[1]).lease(): print('held', flush=True); time.sleep(600)"
    )
    holder = subprocess.Popen([sys.executable, "-c", code, str(run.path)], stdout=subprocess.PIPE, text=True)
    assert holder.stdout is not None
    assert holder.stdout.readline() == "held\n"
    return holder


def _write_foreign_lease(run: RunDirectory, age: float) -> None:
    lease = {
        "token": "theirs",
        "host": "node7",
        "machine": "another boot",
        "pid": 1,
        "started": "1",
        "time": time.time() - age,
    }
    (run.path / "lease.json").write_text(json.dumps(lease))
