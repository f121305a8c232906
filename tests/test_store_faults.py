"""Faults injected into the run store: death between any two writes, silent machines, wrong clocks, old folders."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import time
from pathlib import Path

import pytest
from specs import make_spec
from streams import table

from ailft_bench import status
from ailft_bench.errors import UserError
from ailft_bench.estimate import estimate
from ailft_bench.store import RunDirectory
from ailft_bench.store.lease import LeaseHeldError
from ailft_bench.store.metrics import MetricsLog

# For each number n: a worker is killed just before its n-th change of the file system (opening a file for writing,
# renaming, linking, removing, truncating, making a folder: Python announces them to audit hooks), then another one
# finishes the run. Forks, as a Python process takes longer to start than all of this.
KILLED_BEFORE_EACH_WRITE = """
import json, os, signal, sys
from pathlib import Path
from ailft_bench import provenance
from ailft_bench.store import RunDirectory
import pyarrow.parquet

provenance.collect()  # remembers what git says
CHANGES = ("os.rename", "os.link", "os.remove", "os.truncate", "os.mkdir", "os.rmdir")
count, limit, folder = 0, None, ""

def watch(event, arguments):
    global count
    if limit is None or not (event == "open" or event in CHANGES):
        return
    if event == "open" and not (isinstance(arguments[2], int) and arguments[2] & (os.O_WRONLY | os.O_RDWR)):
        return
    count += 1
    if count == limit:
        os.kill(os.getpid(), signal.SIGKILL)

sys.addaudithook(watch)

def work(path):
    run = RunDirectory(path)
    if run.state == "done":
        return
    with run.lease():
        run.start_attempt()
        found = run.latest_checkpoint()
        step, size = map(int, (found[1] / "state").read_text().split()) if found else (0, 0)
        run.metrics.truncate(size)
        while step < 4:
            step += 1
            run.metrics.append("train", step, step, {"square": step * step}, 0.0)
            run.report_progress("online", step, 4, step, 0)
            if step % 2 == 0:
                run.save_checkpoint(step, lambda d: (d / "state").write_text(f"{step} {run.metrics.size()}") and None)
        run.finish()

def in_a_fork(path, kill_at):
    global limit, count
    pid = os.fork()
    if pid == 0:
        limit, count = kill_at, 0
        try:
            work(path)
        except BaseException as error:
            print(error, file=sys.stderr)
            os._exit(1)
        os._exit(0)
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])

deaths = 0
for number, path in enumerate(map(Path, sys.argv[1:]), start=1):
    code = in_a_fork(path, number)
    if code == 0:
        break
    assert code == -signal.SIGKILL, code
    deaths += 1
    assert RunDirectory(path).state in ("waiting", "done")
    assert in_a_fork(path, None) == 0
else:
    sys.exit("more changes than runs")
print(deaths)
"""


def test_death_between_any_two_writes_loses_nothing(tmp_path: Path) -> None:
    paths = [RunDirectory.create(tmp_path, make_spec(seed=seed)).path for seed in range(100)]
    result = subprocess.run(
        [sys.executable, "-c", KILLED_BEFORE_EACH_WRITE, *map(str, paths)], capture_output=True, text=True, check=False
    )
    assert result.returncode == 0, result.stderr
    deaths = int(result.stdout)
    assert deaths > 40
    for path in paths[: deaths + 1]:
        run = RunDirectory(path)
        assert run.state == "done"
        run.tidy_up()
        assert table(run).column("value").to_pylist() == [step * step for step in range(1, 5)]
        assert [row["env_step"] for row in run.metrics.read()] == list(range(1, 5))
        assert not [name for name in os.listdir(path) if name.endswith(".tmp")]
        assert len(list((path / "checkpoint").iterdir())) == 1


@pytest.mark.parametrize("line", [b'{"host": "n1", "pi', b"3\n", b"null\n", b"[]\n", b'"\xff"\n'])
def test_torn_or_foreign_attempt_is_skipped_and_the_next_one_is_whole(tmp_path: Path, line: bytes) -> None:
    run = RunDirectory.create(tmp_path, make_spec())
    run.start_attempt()
    with open(run.attempts.path, "ab") as file:
        file.write(line)
    run.start_attempt()
    assert len(run.attempts.read()) == 2


def test_fruitless_attempts_are_those_since_the_last_checkpoint(tmp_path: Path) -> None:
    run = RunDirectory.create(tmp_path, make_spec())
    assert run.attempts.fruitless() == 0
    for _ in range(3):
        run.start_attempt()
    assert run.attempts.fruitless() == 3
    run.save_checkpoint(0, lambda folder: None)
    run.start_attempt()
    assert run.attempts.fruitless() == 1


HOLDER = """
import sys, time
from pathlib import Path
from ailft_bench.store import lease
from ailft_bench.store import RunDirectory
real, jump = time.time, float(sys.argv[2])
time.time = lambda: real() + jump
lease.EXPIRES_AFTER_S = 3
run = RunDirectory(Path(sys.argv[1]))
with run.lease():
    print("held", flush=True)
    for step in range(1000):
        time.sleep(0.1)
        run.metrics.append("train", step, 0, {"x": 1.0}, 0.0)
"""


def hold_on_another_machine(run: RunDirectory, clock_jump_s: float = 0.0) -> subprocess.Popen[str]:
    """Hold a run in a process-id namespace of its own, which is another machine as far as the store can see."""
    if os.geteuid() != 0 or shutil.which("unshare") is None:
        pytest.skip("a process-id namespace needs root")
    command = ["unshare", "--pid", "--fork", "--kill-child", sys.executable, "-c", HOLDER]
    holder = subprocess.Popen([*command, str(run.path), str(clock_jump_s)], stdout=subprocess.PIPE, text=True)
    assert holder.stdout is not None
    if holder.stdout.readline() != "held\n":
        pytest.skip("no process-id namespaces here")
    return holder


@pytest.mark.parametrize("jump", [-3600.0, 0.0, 3600.0])
def test_live_worker_keeps_its_run_whatever_its_clock_says(
    tmp_path: Path, jump: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("ailft_bench.store.lease.EXPIRES_AFTER_S", 3.0)
    run = RunDirectory.create(tmp_path, make_spec())
    holder = hold_on_another_machine(run, jump)
    try:
        with pytest.raises(LeaseHeldError), RunDirectory(run.path).lease():
            pass
    finally:
        holder.kill()
        holder.wait()


@pytest.mark.parametrize("jump", [-3600.0, 0.0, 3600.0])
def test_dead_worker_of_another_machine_loses_its_run_whatever_its_clock_said(
    tmp_path: Path, jump: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("ailft_bench.store.lease.EXPIRES_AFTER_S", 3.0)
    run = RunDirectory.create(tmp_path, make_spec())
    holder = hold_on_another_machine(run, jump)
    holder.kill()
    holder.wait()
    deadline = time.monotonic() + 30
    while True:
        try:
            with RunDirectory(run.path).lease() as alone:
                assert not alone
                break
        except LeaseHeldError:
            assert time.monotonic() < deadline


def test_silent_worker_that_wakes_up_harms_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("ailft_bench.store.lease.EXPIRES_AFTER_S", 3.0)
    run = RunDirectory.create(tmp_path, make_spec())
    (run.path / "replay").mkdir()
    (run.path / "replay" / "frames.u8").write_bytes(b"frames")
    stale = open(run.path / "replay" / "frames.u8", "r+b")  # noqa: SIM115 - the silent worker has it open
    holder = hold_on_another_machine(run)
    (worker,) = map(int, Path(f"/proc/{holder.pid}/task/{holder.pid}/children").read_text().split())
    os.kill(worker, 19)
    time.sleep(3.5)
    with run.lease() as alone:
        assert not alone
        run.detach_replay()
        run.metrics.truncate(0)
        run.metrics.append("train", 7, 1, {"return": 1.0}, 0.1)
        os.kill(worker, 18)
        assert holder.wait(20) != 0
        with stale:
            stale.write(b"ZOMBIE")
        assert [row["env_step"] for row in run.metrics.read()] == [7]
        assert (run.path / "replay" / "frames.u8").read_bytes() == b"frames"
        run.finish()
    assert run.state == "done"


def test_results_of_an_older_version_are_a_row_and_a_message(tmp_path: Path) -> None:
    good = RunDirectory.create(tmp_path, make_spec())
    old = RunDirectory.create(tmp_path, make_spec(seed=1))
    content = json.loads((old.path / "run.json").read_text())
    (old.path / "run.json").write_text(json.dumps({**content, "schema": 0}))
    with pytest.raises(UserError, match=r"run\.json: schema 0, but this version .* reads schema 1"):
        _ = RunDirectory(old.path).spec
    rows = {row.seed: row for row in status.collect(tmp_path)}
    assert rows[0].run_id == good.spec.run_id
    assert rows[1].state == "damaged"
    assert "schema 0" in rows[1].reason


@pytest.mark.parametrize("name", ["lease.json", "failed.json", "progress.json"])
@pytest.mark.parametrize("content", [b'{"some": "thing"}', b"[]", b'{"torn', b"", b'{"host": "\xff"}'])
def test_small_records_of_an_older_version_or_damaged_count_as_none(tmp_path: Path, name: str, content: bytes) -> None:
    run = RunDirectory.create(tmp_path, make_spec())
    (run.path / name).write_bytes(content)
    assert run.state in ("waiting", "failed")
    assert (run.holder, run.failure, run.progress) == (None, None, None)
    with run.lease():
        run.start_attempt()
    assert run.state == "waiting"


@pytest.mark.parametrize("value", [None, "soon", [1]])
def test_lease_whose_time_is_none_is_held_by_nobody(tmp_path: Path, value: object) -> None:
    run = RunDirectory.create(tmp_path, make_spec())
    lease = run.path / "lease.json"
    with run.lease():
        content = json.loads(lease.read_text())
        assert run.holder is not None
    lease.write_text(json.dumps({**content, "time": value}))
    assert run.holder is None
    with run.lease():
        assert run.state == "running"


@pytest.mark.parametrize("content", [b'{"time": 1}', b'{"wall_time_s": null, "time": 1}', b"[]", b""])
def test_finished_run_that_does_not_say_how_long_it_took_is_no_basis_of_an_estimate(
    tmp_path: Path, content: bytes
) -> None:
    run = RunDirectory.create(tmp_path, make_spec())
    (run.path / "done").write_bytes(content)
    assert run.wall_time_s is None
    assert estimate([run.spec], tmp_path).basis.startswith("rough")


def test_progress_without_a_number_counts_as_none_and_its_run_is_a_row(tmp_path: Path) -> None:
    run = RunDirectory.create(tmp_path, make_spec())
    run.report_progress("online", 100, 200, 100, 3)
    path = run.path / "progress.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"env_step": None}))
    assert run.progress is None
    assert [row.fraction for row in status.collect(tmp_path)] == [0.0]


def test_run_json_that_is_no_text_is_a_row_and_a_message(tmp_path: Path) -> None:
    run = RunDirectory.create(tmp_path, make_spec())
    (run.path / "run.json").write_bytes(b'{"schema": "\xff"}')
    with pytest.raises(UserError, match=r"run\.json: not valid JSON .* it was changed or damaged"):
        _ = RunDirectory(run.path).spec
    assert [row.state for row in status.collect(tmp_path)] == ["damaged"]


def test_second_writer_of_the_metrics_is_noticed(tmp_path: Path) -> None:
    ours, theirs = MetricsLog(tmp_path / "metrics.jsonl"), MetricsLog(tmp_path / "metrics.jsonl")
    ours.append("train", 1, 0, {"x": 1.0}, 0.0)
    theirs.append("train", 2, 0, {"x": 1.0}, 0.0)
    with pytest.raises(RuntimeError, match="written by another process"):
        ours.append("train", 3, 0, {"x": 1.0}, 0.0)
