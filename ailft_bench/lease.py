"""The lease of a run directory: which worker holds it, and whether that worker is still alive.

A lease is one small file that its holder refreshes. On the same machine the holder's process decides
whether it is alive; from another machine a lease that was not refreshed for ``EXPIRES_AFTER_S`` is dead.
A holder that was taken for dead (suspended, cut off from the network) finds out at its next write, because
every durable write asks for the lease first: the last one to take it wins, and the other stops.
"""

from __future__ import annotations

import fcntl
import os
import socket
import threading
import time
import uuid
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass
from functools import cache
from pathlib import Path

from ailft_bench.durable import read_json, storage_errors, write_json
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
        return self.age_s < EXPIRES_AFTER_S

    def __str__(self) -> str:
        return f"process {self.pid} on {self.host}, last sign of life {max(self.age_s, 0):.0f} s ago"


class Lease:
    """The lease file of one run directory, seen from one process."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._token: str | None = None

    def holder(self) -> Holder | None:
        """Return the live holder, or None."""
        content = read_json(self.path, strict=False)
        if content is None:
            return None
        holder = Holder(**content)
        return holder if holder.alive else None

    @property
    def held_elsewhere(self) -> bool:
        """Whether a live worker other than this object holds it."""
        holder = self.holder()
        return holder is not None and holder.token != self._token

    @contextmanager
    def hold(self) -> Iterator[None]:
        """Hold the lease during the block, refreshing it in the background.

        Raises:
            LeaseHeldError: another live worker holds it.
            StorageError: the folder cannot be written.
        """
        self._acquire()
        stop = threading.Event()
        refresher = threading.Thread(target=self._refresh_until, args=(stop,), name="lease", daemon=True)
        refresher.start()
        try:
            yield
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

    def _acquire(self) -> None:
        with self._lock():
            holder = self.holder()
            if holder is not None:
                raise LeaseHeldError(
                    f"{self.path.parent}: another worker is on this run ({holder}); "
                    "wait for it, or stop that process first"
                )
            self._token = uuid.uuid4().hex
            self._write(self._token, durable=True)

    def _release(self) -> None:
        with suppress(OSError, UserError):
            if self._is_ours():
                self.path.unlink()
        self._token = None

    def _refresh_until(self, stop: threading.Event) -> None:
        while not stop.wait(EXPIRES_AFTER_S / 6):
            # A full disk is reported by the next write of the worker itself.
            with suppress(UserError):
                self.refresh()

    def _is_ours(self) -> bool:
        content = read_json(self.path, strict=False)
        return content is not None and content["token"] == self._token

    def _write(self, token: str, *, durable: bool) -> None:
        pid = os.getpid()
        holder = Holder(token, socket.gethostname(), _machine(), pid, _process_start(pid) or "", time.time())
        write_json(self.path, asdict(holder), durable=durable)

    @contextmanager
    def _lock(self) -> Iterator[None]:
        """Serialise takers of a dead lease, where the file system can; the token decides where it cannot."""
        with storage_errors(self.path), open(self.path.with_suffix(".lock"), "w") as file:
            with suppress(OSError):
                fcntl.flock(file, fcntl.LOCK_EX)
            yield


@cache
def _machine() -> str:
    boot = Path("/proc/sys/kernel/random/boot_id")
    if not boot.exists():
        return socket.gethostname()
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
