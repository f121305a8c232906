"""The run store: one directory a run, readable after a kill at any moment.

Layout of ``results/<suite>/<scale>/<algorithm>[+<variant>]/seed-<n>-<id8>/``::

    run.json         what the run is: configuration, provenance (``RunSpec``); written once
    attempts.jsonl   one line a start: host, pid, time, SLURM ids, the step it resumed from
    metrics.jsonl    measurements, append-only
    progress.json    how far the live worker is, for displays only
    checkpoint/      <serial>-<step>/ with a ``done`` file in it; the highest serial is the newest
    replay/          the agent's frames
    lease.json       the worker that holds the run, refreshed while it lives
    failed.json      why the last attempt failed; removed when the next one starts
    log.txt          what the worker printed
    result.parquet   the metrics as a tidy table; the first valid one stays
    done             last of all
"""

from __future__ import annotations

import json
import os
import shutil
import socket
import time
import uuid
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, suppress
from dataclasses import asdict, dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from ailft_bench import durable, provenance
from ailft_bench.durable import StorageError, storage_errors
from ailft_bench.errors import UserError
from ailft_bench.lease import Holder, Lease
from ailft_bench.metrics import MetricsLog, tidy

if TYPE_CHECKING:
    import pyarrow

SCHEMA_VERSION = 1

State = Literal["done", "failed", "running", "waiting"]


class RunSpec(BaseModel):
    """Everything that defines one run, and where it came from (``run.json``)."""

    model_config = ConfigDict(frozen=True, extra="forbid", populate_by_name=True, protected_namespaces=())

    schema_version: int = Field(default=SCHEMA_VERSION, alias="schema")
    run_id: str
    suite: str
    scale: str
    algorithm: str
    variant: str
    method: str
    seed: int
    #: ``id``, ``version`` and the keyword arguments of ``gymnasium.make``.
    environment: dict[str, Any]
    #: ``source``, ``episodes``, ``seed`` and ``checksum``.
    demonstrations: dict[str, Any]
    env_steps: int
    #: ``episodes`` a policy, ``every`` so many environment steps.
    evaluation: dict[str, Any]
    checkpoint_every: int
    #: All fields of ``algorithms.config.AgentConfig``.
    agent: dict[str, Any]
    provenance: dict[str, Any] = Field(default_factory=dict)
    created: str = ""

    @property
    def label(self) -> str:
        """``algorithm`` or ``algorithm+variant``, as folders and tables name it."""
        return self.algorithm if self.variant == "default" else f"{self.algorithm}+{self.variant}"

    def directory(self, results: Path) -> Path:
        """Return where this run lives below ``results``."""
        return results / self.suite / self.scale / self.label / f"seed-{self.seed}-{self.run_id[:8]}"

    @property
    def environment_kwargs(self) -> dict[str, Any]:
        """The keyword arguments of ``gymnasium.make(environment["id"], ...)``."""
        return {key: value for key, value in self.environment.items() if key not in ("id", "version")}


@dataclass(frozen=True)
class Progress:
    """How far a worker is: ``done`` of ``target`` units of ``phase`` (environment steps or updates)."""

    phase: str
    done: int
    target: int
    env_step: int
    updates: int
    time: float


@dataclass(frozen=True)
class Failure:
    """Why an attempt failed: one line, and the end of its traceback or log."""

    reason: str
    tail: str
    host: str
    time: float


class RunDirectory:
    """One run on disk: written by the worker that holds its lease, read by everybody."""

    def __init__(self, path: Path) -> None:
        self.path = Path(path)
        self._lease = Lease(self.path / "lease.json")
        self.metrics = MetricsLog(self.path / "metrics.jsonl", self._lease.check)

    @classmethod
    def create(cls, results: Path, spec: RunSpec) -> RunDirectory:
        """Make the directory of ``spec``, or return it where it is already there.

        Raises:
            StorageError: ``results`` cannot be written.
            UserError: another run stands in its place.
        """
        run = cls(spec.directory(results))
        with storage_errors(run.path):
            run.path.mkdir(parents=True, exist_ok=True)
        durable.write_json(run.path / "run.json", spec.model_dump(by_alias=True), exclusive=True)
        if run.spec.run_id != spec.run_id:
            raise UserError(f"{run.path}: holds run {run.spec.run_id}, not {spec.run_id}; move it away")
        return run

    @cached_property
    def spec(self) -> RunSpec:
        """What the run is.

        Raises:
            UserError: ``run.json`` is missing, damaged, or of another version of this program.
        """
        path = self.path / "run.json"
        content = durable.read_json(path)
        if content is None:
            raise UserError(f"{self.path}: not a run directory (it has no run.json)")
        try:
            return RunSpec.model_validate(content)
        except ValidationError as error:
            first = error.errors()[0]
            where = ".".join(str(part) for part in first["loc"])
            raise UserError(f"{path}: {where}: {first['msg']}; written by another version?") from error

    @property
    def state(self) -> State:
        """``done``, ``running`` (a live worker), ``failed`` (the last attempt) or ``waiting``."""
        if (self.path / "done").exists():
            return "done"
        if self.holder is not None:
            return "running"
        return "failed" if (self.path / "failed.json").exists() else "waiting"

    @property
    def holder(self) -> Holder | None:
        """The live worker, if any."""
        return self._lease.holder()

    @property
    def failure(self) -> Failure | None:
        """Why the last attempt failed, if it did."""
        content = durable.read_json(self.path / "failed.json")
        return None if content is None else Failure(**content)

    @property
    def progress(self) -> Progress | None:
        """How far the last worker came, if it said so."""
        content = durable.read_json(self.path / "progress.json", strict=False)
        return None if content is None else Progress(**content)

    @property
    def wall_time_s(self) -> float | None:
        """How long a finished run worked, over all attempts."""
        content = durable.read_json(self.path / "done")
        return None if content is None else float(content["wall_time_s"])

    def lease(self) -> AbstractContextManager[None]:
        """Hold the run while the block works on it; see ``Lease.hold`` for what it raises."""
        return self._lease.hold()

    def heartbeat(self) -> None:
        """Show a sign of life. ``lease()`` does so by itself."""
        self._lease.refresh()

    def start_attempt(self, resumed_from: int | None, restarts: int = 0) -> None:
        """Note that a worker starts, at the beginning or at the checkpoint of step ``resumed_from``."""
        self._lease.check()
        slurm = {key: value for key, value in os.environ.items() if key.startswith(("SLURM_JOB", "SLURM_ARRAY"))}
        attempt = {
            "host": socket.gethostname(),
            "pid": os.getpid(),
            "time": time.time(),
            "slurm": slurm,
            "restarts": restarts,
            "resumed_from": resumed_from,
            "provenance": provenance.collect(),
        }
        with storage_errors(self.path):
            with open(self.path / "attempts.jsonl", "ab") as file:
                file.write((json.dumps(attempt) + "\n").encode())
            (self.path / "failed.json").unlink(missing_ok=True)

    def report_progress(self, phase: str, done: int, target: int, env_step: int, updates: int) -> None:
        """Replace ``progress.json``: cheap, and never needed to resume."""
        progress = Progress(phase, done, target, env_step, updates, time.time())
        durable.write_json(self.path / "progress.json", asdict(progress), durable=False)

    def save_checkpoint(self, step: int, write: Callable[[Path], None]) -> Path:
        """Save a checkpoint: ``write`` fills the (empty) directory that it is given.

        The older ones are removed once this one is complete. The checkpoint should hold
        ``metrics.size()`` of the same moment.

        Raises:
            StorageError: the file system refused; the older checkpoint is still there.
            LeaseLostError: another worker took over.
        """
        self._lease.check()
        folder = self.path / "checkpoint"
        temporary = folder / f".{uuid.uuid4().hex}.tmp"
        with storage_errors(folder):
            temporary.mkdir(parents=True)
            try:
                with _refusals_as_os_errors(temporary):
                    write(temporary)
                (temporary / "done").touch()
                durable.fsync_tree(temporary)
                self._lease.check()
                complete = self._name_checkpoint(temporary, step)
            except BaseException:
                shutil.rmtree(temporary, ignore_errors=True)
                raise
            durable.fsync(folder)
        for other in folder.iterdir():
            if other.name < complete.name:
                shutil.rmtree(other, ignore_errors=True)
        return complete

    def latest_checkpoint(self) -> tuple[int, Path] | None:
        """Return the step and directory of the newest complete checkpoint."""
        complete = self._complete_checkpoints()
        return (int(complete[-1].name.partition("-")[2]), complete[-1]) if complete else None

    def fail(self, reason: str, tail: str = "") -> None:
        """Note that this attempt failed, unless another live worker has the run by now."""
        if self._lease.held_elsewhere:
            return
        failure = Failure(reason, tail, socket.gethostname(), time.time())
        durable.write_json(self.path / "failed.json", asdict(failure))

    def finish(self) -> None:
        """Write the result and, last of all, ``done``. A valid result that is already there stays."""
        import pyarrow.parquet

        self._lease.check()
        result = self.path / "result.parquet"
        if not _is_valid(result):
            table = self._table_of_metrics()
            temporary = durable.temporary_beside(result)
            with storage_errors(result):
                try:
                    pyarrow.parquet.write_table(table, temporary)
                    durable.fsync(temporary)
                    durable.commit(temporary, result, exclusive=not result.exists())
                finally:
                    with suppress(OSError):
                        temporary.unlink()
        rows = self.metrics.read()
        summary = {"wall_time_s": rows[-1]["wall_time_s"] if rows else 0.0, "time": time.time()}
        durable.write_json(self.path / "done", summary, exclusive=True)

    def table(self) -> pyarrow.Table:
        """Return the tidy table of what was measured so far (of a finished run: its result)."""
        import pyarrow.parquet

        if self.state == "done":
            return pyarrow.parquet.read_table(self.path / "result.parquet")
        return self._table_of_metrics()

    def _table_of_metrics(self) -> pyarrow.Table:
        return tidy(self.spec.model_dump(), self.metrics.read())

    def _complete_checkpoints(self) -> list[Path]:
        return sorted(done.parent for done in (self.path / "checkpoint").glob("[0-9]*-*/done"))

    def _name_checkpoint(self, temporary: Path, step: int) -> Path:
        """Give a complete checkpoint the next serial number: pretraining saves several at step 0."""
        names = [path.name for path in temporary.parent.iterdir() if path.name[0].isdigit()]
        serial = 1 + max((int(name.partition("-")[0]) for name in names), default=0)
        target = temporary.parent / f"{serial:06d}-{step}"
        os.rename(temporary, target)
        return target


@contextmanager
def _refusals_as_os_errors(folder: Path) -> Iterator[None]:
    """Let a full disk be an ``OSError`` again where a library hides it in one of its own exceptions.

    ``torch.save`` raises a bare ``RuntimeError``; whether the disk is to blame is found out by writing.
    """
    try:
        yield
    except (OSError, StorageError):
        raise
    except Exception:
        (folder / "probe").write_bytes(bytes(1 << 16))
        raise


def _is_valid(result: Path) -> bool:
    import pyarrow
    import pyarrow.parquet

    try:
        return pyarrow.parquet.read_metadata(result).num_columns > 0
    except (OSError, pyarrow.ArrowException):
        return False


def runs(results: Path, suite: str = "*", scale: str = "*") -> Iterator[RunDirectory]:
    """Find the runs below ``results``, in the order of their paths."""
    for path in sorted(results.glob(f"{suite}/{scale}/*/seed-*/run.json")):
        yield RunDirectory(path.parent)
