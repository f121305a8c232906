"""A bounded pool of worker processes on this machine.

Every worker leads a session of its own, so that its whole process group can be ended, and dies with this
process however this process ends. What becomes of a run is read from its directory; the exit code only
explains a run that did not say itself why it stopped.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from ailft_bench import machine, signals
from ailft_bench.durable import StorageError, storage_errors
from ailft_bench.store import RunDirectory

#: How long a worker may take to save a checkpoint after SIGTERM.
GRACE_S = 60.0
_POLL_S = 0.1
_TAIL_LINES = 20

# One thread a worker: several runs of one thread do more work than one run of several. The allocator's
# settings keep large buffers mapped (1.1 to 1.2 times faster updates) and must be set before the start.
WORKER_ENVIRONMENT = {
    "OMP_NUM_THREADS": "1",
    "MKL_NUM_THREADS": "1",
    "OPENBLAS_NUM_THREADS": "1",
    "MALLOC_MMAP_THRESHOLD_": str(2**33),
    "MALLOC_TRIM_THRESHOLD_": str(2**34),
    "MALLOC_TOP_PAD_": str(2**28),
    "PYTHONUNBUFFERED": "1",
    "PYTHONFAULTHANDLER": "1",
}

# Runs in the worker's process before the worker: asks the kernel for SIGKILL when the pool dies
# (prctl PR_SET_PDEATHSIG = 1, which survives exec), and leaves if that has happened already.
_GUARD = """
import ctypes, os, sys
prctl = getattr(ctypes.CDLL(None), "prctl", None)
if prctl is not None:
    prctl(1, 9)
if os.getppid() != int(sys.argv[1]):
    sys.exit("the pool is gone")
os.execvp(sys.argv[2], sys.argv[2:])
"""

Command = Callable[[Path], Sequence[str]]


@dataclass(frozen=True)
class Ending:
    """How work on a run ended here.

    ``elsewhere``: another live worker holds it. ``queued``: its job goes on. ``waiting``: it has no job.
    """

    state: Literal["done", "failed", "interrupted", "elsewhere", "queued", "waiting", "cancelled"]
    reason: str = ""


def worker_command(path: Path) -> list[str]:
    """Return the command that works on the run at ``path``."""
    return [sys.executable, "-m", "ailft_bench.worker", str(path)]


def default_jobs(memory_gib: float) -> int:
    """Return how many workers of ``memory_gib`` each fit this machine: one a GPU, else one a core."""
    slots = len(machine.usable_gpus()) or machine.cores()
    return int(max(1, min(slots, machine.free_memory_gib() // memory_gib)))


@dataclass
class _Worker:
    run: RunDirectory
    process: subprocess.Popen[bytes]
    device: str | None
    log_start: int
    started: float


class Pool:
    """Runs at most ``jobs`` workers at once.

    Args:
        jobs: how many at once.
        command: the worker's command line for a run directory.
        devices: CUDA devices to share out; empty leaves the environment alone.
        grace_s: seconds between SIGTERM and SIGKILL when the pool is asked to stop.
    """

    def __init__(
        self,
        jobs: int,
        command: Command = worker_command,
        devices: Sequence[str] = (),
        grace_s: float = GRACE_S,
    ) -> None:
        self.jobs = jobs
        self._command = command
        self._devices = tuple(devices)
        self._grace_s = grace_s
        self._workers: list[_Worker] = []
        #: The signals to stop that came so far.
        self.received: list[int] = []

    @property
    def stopping(self) -> bool:
        """Whether a signal asked the pool to stop."""
        return bool(self.received)

    @property
    def active(self) -> list[Path]:
        """The run directories that have a worker now."""
        return [worker.run.path for worker in self._workers]

    def run(
        self,
        paths: Sequence[Path],
        on_end: Callable[[Path, Ending], None] = lambda path, ending: None,
        on_poll: Callable[[], None] = lambda: None,
    ) -> dict[Path, Ending]:
        """Work on all of ``paths`` and return how each ended; those never started are ``interrupted``.

        A signal to stop passes SIGTERM on to the workers, which save a checkpoint and leave; those that
        take longer than the grace, and all of them at a second Ctrl-C, are killed. So it is where ``on_end``
        or ``on_poll`` raises.
        """
        waiting = list(reversed(paths))
        endings: dict[Path, Ending] = {path: Ending("interrupted", "not started") for path in paths}
        deadline: float | None = None
        with signals.noted() as self.received:
            try:
                while self._workers or (waiting and not self.stopping):
                    while waiting and len(self._workers) < self.jobs and not self.stopping:
                        path = waiting.pop()
                        try:
                            self._start(path)
                        except StorageError as error:  # of this cell: the others go on
                            endings[path] = ending = Ending("failed", str(error))
                            on_end(path, ending)
                    for worker in [worker for worker in self._workers if worker.process.poll() is not None]:
                        self._workers.remove(worker)
                        endings[worker.run.path] = ending = self._ending(worker)
                        on_end(worker.run.path, ending)
                    if self.stopping and deadline is None:
                        deadline = time.monotonic() + self._grace_s
                        self._signal_all(signal.SIGTERM)
                    if deadline is not None and self._is_over(deadline):
                        self._signal_all(signal.SIGKILL)
                    on_poll()
                    if self._workers:
                        time.sleep(_POLL_S)
            finally:
                self._end_all(deadline)
        return endings

    def _start(self, path: Path) -> None:
        environment = {**os.environ, **WORKER_ENVIRONMENT}
        device = self._least_used_device()
        if device is not None:
            environment["CUDA_VISIBLE_DEVICES"] = device
        guard = [sys.executable, "-I", "-S", "-c", _GUARD, str(os.getpid())]
        with storage_errors(path), open(path / "log.txt", "ab") as log:
            log_start = log.tell()
            process = subprocess.Popen(
                [*guard, *self._command(path)],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                env=environment,
                start_new_session=True,
            )
            self._workers.append(_Worker(RunDirectory(path), process, device, log_start, time.time()))

    def _least_used_device(self) -> str | None:
        used = [worker.device for worker in self._workers]
        return min(self._devices, key=used.count, default=None)

    def _ending(self, worker: _Worker) -> Ending:
        """Read what became of the run; note the reason where the worker could not."""
        _signal_group(worker.process, signal.SIGKILL)
        run, code = worker.run, worker.process.returncode
        if run.state == "done":
            return Ending("done")
        if run.holder is not None:
            return Ending("elsewhere", str(run.holder))
        if self.stopping or code == os.EX_TEMPFAIL:
            return Ending("interrupted", "stopped; goes on from its last checkpoint")
        failure = run.failure
        if failure is None or failure.time < worker.started:
            tail = _tail(run.path / "log.txt", worker.log_start)
            reason = _reason(code, tail)
            # Where the disk is full, the reason is at least shown.
            with suppress(StorageError):
                run.fail(reason, tail, "killed" if code < 0 else "exception")
            return Ending("failed", reason)
        return Ending("failed", failure.reason)

    def _end_all(self, deadline: float | None) -> None:
        """End the workers that are left, of which those that were not asked to leave are asked first."""
        if deadline is None:
            deadline = time.monotonic() + self._grace_s
            self._signal_all(signal.SIGTERM)
        while any(worker.process.poll() is None for worker in self._workers) and not self._is_over(deadline):
            time.sleep(_POLL_S)
        self._signal_all(signal.SIGKILL)
        for worker in self._workers:
            worker.process.wait()

    def _is_over(self, deadline: float) -> bool:
        """Whether workers that were asked to leave have had their time, or somebody will not wait."""
        return self.received.count(signal.SIGINT) > 1 or time.monotonic() > deadline

    def _signal_all(self, number: signal.Signals) -> None:
        for worker in self._workers:
            _signal_group(worker.process, number)


def _signal_group(process: subprocess.Popen[bytes], number: signal.Signals) -> None:
    with suppress(ProcessLookupError):
        os.killpg(process.pid, number)


def _tail(path: Path, start: int) -> str:
    """Return the last lines that were written to a log after ``start``."""
    with suppress(OSError), open(path, "rb") as file:
        file.seek(max(start, file.seek(0, os.SEEK_END) - 65536))
        return "\n".join(file.read().decode(errors="replace").splitlines()[-_TAIL_LINES:])
    return ""


def _reason(returncode: int, tail: str) -> str:
    if returncode == -signal.SIGKILL:
        return "killed by SIGKILL: out of memory?"
    if returncode < 0:
        return f"killed by {signal.Signals(-returncode).name}"
    if returncode == 0:
        return "the worker left without finishing and without saying why"
    last = next((line.strip() for line in reversed(tail.splitlines()) if line.strip()), "no output")
    return f"{last} (exit code {returncode})"
