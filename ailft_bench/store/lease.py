"""The lease of a run directory: which worker holds it, and whether that worker is still alive.

A lease is one small file that its holder refreshes. On the same machine the holder's process decides
whether it is alive; from another machine a lease that was not refreshed for ``EXPIRES_AFTER_S`` is dead.
Clocks of two machines differ, and jump: before such a lease is taken over it is watched, and a refresh
proves its holder alive whatever the clocks say. A holder that was taken for dead (suspended, cut off from
the network) finds out at its next write, because every durable write asks for the lease first: the last
one to take it wins, and the other stops.
"""

from __future__ import annotations

import fcntl
import os
import threading
import time
import uuid
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass
from functools import cache
from pathlib import Path

from ailft_bench import machine
from ailft_bench.durable import read_record, storage_errors, write_json
from ailft_bench.errors import UserError

EXPIRES_AFTER_S = 120.0


class LeaseHeldError(UserError):
    """Another live worker holds the run."""


class LeaseLostError(RuntimeError):
    """This worker was taken for dead and another one took over: it must stop without writing."""


@dataclass(frozen=True)
class Holder:
    """Who holds a lease. ``machine`` is one kernel boot and pid namespace, where ``pid`` has a meaning."""

    token: str
    host: str
    machine: str
    pid: int
    started: str
    time: float

    @property
    def age_s(self) -> float:
        """Seconds since the last refresh, by this machine's clock."""
        return time.time() - self.time

    @property
    def alive(self) -> bool:
        """Whether the holder still works, as far as this machine can know."""
        if self.machine == _machine():
            return _process_start(self.pid) == self.started
        return abs(self.age_s) < EXPIRES_AFTER_S

    @property
    def surely_dead(self) -> bool:
        """Whether its process has ended, and did not just fall silent on another machine."""
        return self.machine == _machine() and not self.alive

    def __str__(self) -> str:
        return f"process {self.pid} on {self.host}, last sign of life {max(self.age_s, 0):.0f} s ago"


class Lease:
    """The lease file of one run directory, seen from one process."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._token: str | None = None

    def holder(self) -> Holder | None:
        """Return the live holder, or None."""
        holder = self._last_holder()
        return holder if holder is not None and holder.alive else None

    @property
    def held_elsewhere(self) -> bool:
        """Whether a live worker other than this object holds it."""
        holder = self.holder()
        return holder is not None and holder.token != self._token

    @contextmanager
    def hold(self) -> Iterator[bool]:
        """Hold the lease during the block, refreshing it in the background.

        The block is told whether it is alone for sure. It is not where the lease was taken over from another
        machine that fell silent: its worker may still write to files that it has open.

        Raises:
            LeaseHeldError: another live worker holds it.
            StorageError: the folder cannot be written.
        """
        alone = self._acquire()
        stop = threading.Event()
        refresher = threading.Thread(target=self._refresh_until, args=(stop,), name="lease", daemon=True)
        refresher.start()
        try:
            yield alone
        finally:
            stop.set()
            refresher.join()
            self._release()

    def check(self) -> None:
        """Raise ``LeaseLostError`` if this process held the lease and no longer does."""
        if self._token is not None and not self._is_ours():
            raise LeaseLostError(f"{self.path.parent}: another worker took over this run; this one stops")

    def refresh(self) -> None:
        """Show a sign of life, if this process (still) holds the lease."""
        with self._lock():
            if self._token is not None and self._is_ours():
                self._write(self._token, durable=False)

    def _acquire(self) -> bool:
        watched: Holder | None = None
        while True:
            with self._lock():
                last = self._last_holder()
                held = last is not None and (last.alive or watched not in (None, last))
                if last is None or last.surely_dead or (last == watched and not held):
                    self._token = uuid.uuid4().hex
                    self._write(self._token, durable=True)
                    return last is None or last.surely_dead
            if held:
                raise LeaseHeldError(
                    f"{self.path.parent}: another worker is on this run ({last}); "
                    "wait for it, or stop that process first"
                )
            # Not while the lock is held: its holder may be waiting for it to refresh the lease.
            watched = last
            time.sleep(2 * _refresh_interval_s())

    def _release(self) -> None:
        with suppress(OSError, UserError):
            if self._is_ours():
                self.path.unlink()
        self._token = None

    def _refresh_until(self, stop: threading.Event) -> None:
        while not stop.wait(_refresh_interval_s()):
            # A full disk is reported by the next write of the worker itself.
            with suppress(UserError):
                self.refresh()

    def _last_holder(self) -> Holder | None:
        """Return the holder, dead or alive; a damaged lease, or one that lacks a field, is none."""
        return read_record(Holder, self.path)

    def _is_ours(self) -> bool:
        holder = self._last_holder()
        return holder is not None and holder.token == self._token

    def _write(self, token: str, *, durable: bool) -> None:
        pid = os.getpid()
        holder = Holder(token, machine.node(), _machine(), pid, _process_start(pid) or "", time.time())
        write_json(self.path, asdict(holder), durable=durable)

    @contextmanager
    def _lock(self) -> Iterator[None]:
        """Serialise takers of a dead lease, where the file system can; the token decides where it cannot."""
        with storage_errors(self.path), open(self.path.with_suffix(".lock"), "w") as file:
            with suppress(OSError):
                fcntl.flock(file, fcntl.LOCK_EX)
            yield


def _refresh_interval_s() -> float:
    return EXPIRES_AFTER_S / 6


@cache
def _machine() -> str:
    boot = Path("/proc/sys/kernel/random/boot_id")
    if not boot.exists():
        return machine.node()
    return f"{boot.read_text().strip()} {os.readlink('/proc/self/ns/pid')}"


def _process_start(pid: int) -> str | None:
    """Return the start time of a live process (pids are reused, start times are not), None for a dead one."""
    try:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return None if Path("/proc/self").exists() else _process_alive(pid)
    state, start = fields[0], fields[19]
    return None if state in "ZX" else start


def _process_alive(pid: int) -> str | None:
    """Where there is no ``/proc``: every live process has the same start time."""
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return None
    except PermissionError:
        pass
    return ""
