"""The pool: bounded, nothing left behind, and every crash has a reason."""

from __future__ import annotations

import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest
from specs import make_spec

from ailft_bench import machine, signals
from ailft_bench.pool import Ending, Pool, default_jobs
from ailft_bench.store import RunDirectory

FINISH = "from ailft_bench.store import RunDirectory; RunDirectory(sys.argv[1]).finish()"


def python(code: str) -> Callable[[Path], Sequence[str]]:
    """Return a pool's command that runs ``code`` with the run's directory as its argument."""
    return lambda path: [sys.executable, "-c", f"import os, signal, sys, time\n{code}", str(path)]


def make_runs(folder: Path, count: int) -> list[Path]:
    return [RunDirectory.create(folder, make_spec(seed=seed)).path for seed in range(count)]


def wait_for(condition: Callable[[], object], seconds: float = 30) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "waited in vain"
        time.sleep(0.02)


def running(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] not in "ZX"
    except OSError:
        return False


def test_all_runs_are_worked_on_and_never_more_than_the_limit_at_once(tmp_path: Path) -> None:
    paths = make_runs(tmp_path, 5)
    most = 0

    def poll() -> None:
        nonlocal most
        most = max(most, len(pool.active))

    pool = Pool(2, python(f"{FINISH}; time.sleep(0.2)"))
    endings = pool.run(paths, on_poll=poll)
    assert set(endings.values()) == {Ending("done")}
    assert list(endings) == paths
    assert most == 2


@pytest.mark.parametrize(
    ("code", "reason"),
    [
        ("raise ValueError('no such luck')", "ValueError: no such luck (exit code 1)"),
        ("os.kill(os.getpid(), signal.SIGKILL)", "killed by SIGKILL: out of memory?"),
        ("os.kill(os.getpid(), signal.SIGSEGV)", "killed by SIGSEGV"),
        ("print('short of', 'ideas'); sys.exit(3)", "short of ideas (exit code 3)"),
        ("pass", "the worker left without finishing and without saying why"),
    ],
)
def test_crash_is_a_failure_with_its_reason_and_the_rest_goes_on(tmp_path: Path, code: str, reason: str) -> None:
    paths = make_runs(tmp_path, 2)
    command = python(f"if 'seed-0' in sys.argv[1]:\n    {code}\nelse:\n    {FINISH}")
    endings = Pool(1, command).run(paths)
    assert endings == {paths[0]: Ending("failed", reason), paths[1]: Ending("done")}
    failure = RunDirectory(paths[0]).failure
    assert failure is not None
    assert failure.reason == reason
    if "Value" in reason:
        assert "Traceback" in failure.tail


def test_cell_that_cannot_be_started_fails_and_the_others_go_on(tmp_path: Path) -> None:
    first, lost, third = make_runs(tmp_path, 3)
    seen: list[Path] = []

    def poll() -> None:
        if lost.exists():
            shutil.rmtree(lost)

    pool = Pool(1, python(f"time.sleep(0.3); {FINISH}"))
    endings = pool.run([first, lost, third], on_end=lambda path, ending: seen.append(path), on_poll=poll)
    assert (endings[first], endings[third]) == (Ending("done"), Ending("done"))
    assert endings[lost].state == "failed"
    assert f"{lost / 'log.txt'}: No such file or directory" in endings[lost].reason
    assert seen == [first, lost, third]


def test_reason_of_an_earlier_failure_is_not_taken_for_the_new_one(tmp_path: Path) -> None:
    (path,) = make_runs(tmp_path, 1)
    RunDirectory(path).fail("yesterday's")
    assert Pool(1, python("sys.exit('today')")).run([path])[path].reason == "today (exit code 1)"


def test_workers_own_reason_is_kept(tmp_path: Path) -> None:
    (path,) = make_runs(tmp_path, 1)
    code = "from ailft_bench.store import RunDirectory; RunDirectory(sys.argv[1]).fail('my own'); sys.exit(1)"
    assert Pool(1, python(code)).run([path])[path] == Ending("failed", "my own")


def test_run_that_another_worker_holds_is_left_to_it(tmp_path: Path) -> None:
    (path,) = make_runs(tmp_path, 1)
    with RunDirectory(path).lease():
        assert Pool(1, python("sys.exit(75)")).run([path])[path].state == "elsewhere"
    assert RunDirectory(path).failure is None


def test_worker_environment_has_one_thread_and_its_own_log(tmp_path: Path) -> None:
    (path,) = make_runs(tmp_path, 1)
    Pool(1, python(f"print('threads', os.environ['OMP_NUM_THREADS']); {FINISH}")).run([path])
    assert (path / "log.txt").read_text() == "threads 1\n"


def test_devices_are_shared_out(tmp_path: Path) -> None:
    paths = make_runs(tmp_path, 4)
    code = f"print(os.environ['CUDA_VISIBLE_DEVICES']); {FINISH}; time.sleep(0.5)"
    Pool(2, python(code), devices=("3", "5")).run(paths)
    used = [(path / "log.txt").read_text().strip() for path in paths]
    assert sorted(used[:2]) == ["3", "5"]
    assert set(used) == {"3", "5"}


def test_page_cache_of_a_container_leaves_no_worker_out(monkeypatch: pytest.MonkeyPatch) -> None:
    """The container's limit is nearly reached, mostly by files that were read once."""
    files = {
        "/proc/meminfo": "MemAvailable:   67108864 kB\n",
        "/sys/fs/cgroup/memory.max": f"{10 * 2**30}\n",
        "/sys/fs/cgroup/memory.current": f"{9 * 2**30}\n",
        "/sys/fs/cgroup/memory.stat": f"anon {2**30}\nfile {8 * 2**30}\ninactive_file {7 * 2**30}\nslab 4096\n",
    }
    monkeypatch.setattr(machine, "_read", lambda path: files.get(path, ""))
    monkeypatch.setattr(machine, "cores", lambda: 16)
    monkeypatch.setattr(machine, "usable_gpus", list)
    assert machine.free_memory_gib() == 8
    assert default_jobs(2.0) == 4
    del files["/sys/fs/cgroup/memory.stat"]
    assert machine.free_memory_gib() == 1


POOL = """
import signal, sys
from pathlib import Path
from ailft_bench.pool import Pool

signal.signal(signal.SIGHUP, signal.SIG_DFL)  # these tests may run under nohup

def command(path):
    return [sys.executable, "-c", sys.argv[2], str(path)]

paths = sorted(Path(sys.argv[1]).glob("toy/*/*/*"))
endings = Pool(2, command, grace_s=float(sys.argv[3])).run(paths)
print(*(ending.state for ending in endings.values()))
"""
NOTE_PID = "open(sys.argv[1] + '/pid', 'w').write(str(os.getpid()))\n"
POLITE = """
def stop(*_):
    open(sys.argv[1] + '/saved', 'w')
    sys.exit(75)
signal.signal(signal.SIGTERM, stop)
"""
STUBBORN = "signal.signal(signal.SIGTERM, signal.SIG_IGN)\n"


def start_pool(folder: Path, worker: str, grace: float = 60.0) -> tuple[subprocess.Popen[str], list[int]]:
    """Start a pool of two in a process of its own and return it with the ids of its workers."""
    paths = make_runs(folder, 3)
    code = f"import os, signal, sys, time\n{worker}{NOTE_PID}time.sleep(600)"
    parent = subprocess.Popen(
        [sys.executable, "-c", POOL, str(folder), code, str(grace)], stdout=subprocess.PIPE, text=True
    )
    wait_for(lambda: sum((path / "pid").exists() and bool((path / "pid").read_text()) for path in paths) == 2)
    pids = [int((path / "pid").read_text()) for path in paths if (path / "pid").exists()]
    return parent, pids


def test_sigkill_of_the_pool_leaves_no_worker(tmp_path: Path) -> None:
    parent, pids = start_pool(tmp_path, STUBBORN)
    assert all(map(running, pids))
    parent.kill()
    parent.wait()
    wait_for(lambda: not any(map(running, pids)))


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_signal_lets_the_workers_save_and_starts_no_other(tmp_path: Path, number: signal.Signals) -> None:
    parent, pids = start_pool(tmp_path, POLITE)
    parent.send_signal(number)
    output, _ = parent.communicate(timeout=30)
    assert output.split() == ["interrupted"] * 3
    assert len(list(tmp_path.glob("toy/*/*/*/saved"))) == 2
    assert not any(map(running, pids))
    assert not list(tmp_path.glob("toy/*/*/*/failed.json"))


def test_error_of_whoever_looks_on_lets_the_workers_save(tmp_path: Path) -> None:
    paths = make_runs(tmp_path, 2)

    def look() -> None:
        if all((path / "pid").exists() and (path / "pid").read_text() for path in paths):
            raise OSError("the terminal is gone")

    code = f"import os, signal, sys, time\n{POLITE}{NOTE_PID}time.sleep(600)"
    with pytest.raises(OSError, match="the terminal is gone"):
        Pool(2, python(code)).run(paths, on_poll=look)
    assert all((path / "saved").exists() for path in paths)
    assert not any(running(int((path / "pid").read_text())) for path in paths)


def test_stubborn_workers_are_killed_after_the_grace(tmp_path: Path) -> None:
    parent, pids = start_pool(tmp_path, STUBBORN, grace=0.3)
    parent.send_signal(signal.SIGTERM)
    output, _ = parent.communicate(timeout=30)
    assert output.split() == ["interrupted"] * 3
    assert not any(map(running, pids))


def test_second_signal_kills_at_once(tmp_path: Path) -> None:
    parent, pids = start_pool(tmp_path, STUBBORN, grace=600)
    parent.send_signal(signal.SIGINT)
    time.sleep(0.3)
    assert all(map(running, pids))
    parent.send_signal(signal.SIGINT)
    parent.communicate(timeout=30)
    assert not any(map(running, pids))


def test_children_of_a_worker_do_not_outlive_it(tmp_path: Path) -> None:
    (path,) = make_runs(tmp_path, 1)
    code = (
        "import subprocess\n"
        "child = subprocess.Popen(['sleep', '600'])\n"
        "open(sys.argv[1] + '/pid', 'w').write(str(child.pid))\n" + FINISH
    )
    assert Pool(1, python(code)).run([path])[path].state == "done"
    wait_for(lambda: not running(int((path / "pid").read_text())))


def test_terminal_that_goes_away_stops_the_pool_but_not_under_nohup(tmp_path: Path) -> None:
    before = signal.getsignal(signal.SIGHUP)
    try:
        signal.signal(signal.SIGHUP, signal.SIG_IGN)
        with signals.noted() as received:
            signal.raise_signal(signal.SIGHUP)
        assert received == []
        signal.signal(signal.SIGHUP, signal.SIG_DFL)
        with signals.noted() as received:
            signal.raise_signal(signal.SIGHUP)
        assert received == [signal.SIGHUP]
    finally:
        signal.signal(signal.SIGHUP, before)


def test_signal_handlers_are_as_before_afterwards(tmp_path: Path) -> None:
    before = signal.getsignal(signal.SIGINT)
    Pool(1, python(FINISH)).run(make_runs(tmp_path, 1))
    assert signal.getsignal(signal.SIGINT) is before
