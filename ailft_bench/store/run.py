"""One run's directory: what lies in it, and in which order it is written.

Layout of ``results/<suite>/<scale>/<algorithm>[+<variant>]/seed-<n>-<id8>/``::

    run.json         what the run is: configuration, provenance (``RunSpec``); stays from the first checkpoint on
    attempts.jsonl   one line a start: host, pid, time, SLURM ids, the checkpoint it resumed from
    metrics.jsonl    measurements, append-only
    progress.json    how far the live worker is, for displays only
    checkpoint/      <serial>-<step>/ with a ``done`` file in it; the highest serial is the newest
    replay/          the agent's frames
    lease.json       the worker that holds the run, refreshed while it lives
    failed.json      why the last attempt failed; removed when the next one starts
    log.txt          what the worker printed
    tensorboard/     the metrics once more, where live logging was asked for
    result.parquet   the metrics as a tidy table; the first valid one stays
    done             last of all
    asked.json       when the run was asked for again while its label had other configurations too
"""

from __future__ import annotations

import shutil
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, suppress
from dataclasses import asdict, dataclass
from datetime import datetime
from functools import cached_property
from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator

from ailft_bench import durable, machine
from ailft_bench.durable import storage_errors
from ailft_bench.errors import UserError
from ailft_bench.store.attempts import Attempts, Failure, Verdict
from ailft_bench.store.checkpoints import Checkpoints
from ailft_bench.store.lease import Holder, Lease
from ailft_bench.store.metrics import MetricsLog, tidy
from algorithms.config import LATER

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
    #: All fields of ``algorithms.config.AgentConfig``; those that came later are filled in (``LATER``).
    agent: dict[str, Any]
    provenance: dict[str, Any] = Field(default_factory=dict)
    created: str = ""

    @field_validator("agent")
    @classmethod
    def _with_later_settings(cls, agent: dict[str, Any]) -> dict[str, Any]:
        return {**LATER, **agent}

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
class Asked:
    """When a run was asked for again, in seconds since the epoch."""

    time: float


@dataclass(frozen=True)
class Done:
    """How long a finished run worked, over all attempts, and when it was finished, in seconds since the epoch."""

    wall_time_s: float
    time: float


class RunDirectory:
    """One run on disk: written by the worker that holds its lease, read by everybody."""

    def __init__(self, path: Path) -> None:
        self.path = Path(path)
        self._lease = Lease(self.path / "lease.json")
        self.metrics = MetricsLog(self.path / "metrics.jsonl", self._lease.check)
        self.attempts = Attempts(self.path / "attempts.jsonl")
        self._checkpoints = Checkpoints(self.path / "checkpoint", self._lease.check)

    @classmethod
    def create(cls, results: Path, spec: RunSpec) -> RunDirectory:
        """Make the directory of ``spec``, or return it where it is already there.

        While a run has nothing to go on from, its provenance is that of the last who asked for it (who worked on it
        is in ``attempts.jsonl``).

        Raises:
            StorageError: ``results`` cannot be written.
            UserError: another run stands in its place.
        """
        run = cls(spec.directory(results))
        with storage_errors(run.path):
            run.path.mkdir(parents=True, exist_ok=True)
        durable.write_json(run.path / "run.json", spec.model_dump(by_alias=True), exclusive=True)
        if run.spec.run_id != spec.run_id:
            raise UserError(f"{run.path}: holds run {run.spec.run_id}, not {spec.run_id}")
        if run.state in ("failed", "waiting") and run.latest_checkpoint() is None:
            durable.write_json(run.path / "run.json", spec.model_dump(by_alias=True))
            run = cls(run.path)  # which reads it anew
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
        if not isinstance(content, dict) or content.get("schema") != SCHEMA_VERSION:
            written = content.get("schema") if isinstance(content, dict) else None
            raise UserError(
                f"{path}: schema {written}, but this version of ailft-bench reads schema {SCHEMA_VERSION}; "
                "use the version that wrote it, or another folder with --results"
            )
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
        return durable.read_record(Failure, self.path / "failed.json")

    @property
    def progress(self) -> Progress | None:
        """How far the last worker came, if it said so."""
        return durable.read_record(Progress, self.path / "progress.json")

    @property
    def wall_time_s(self) -> float | None:
        """How long a finished run worked, over all attempts, a pretraining that it took over included; if known."""
        done = durable.read_record(Done, self.path / "done")
        return None if done is None else done.wall_time_s

    @property
    def asked_at(self) -> float:
        """When somebody asked for this run last, in seconds since the epoch; 0 where that is not known."""
        again = durable.read_record(Asked, self.path / "asked.json")
        known = again.time if again else 0.0
        with suppress(ValueError):
            return max(datetime.fromisoformat(self.spec.created).timestamp(), known)
        return known

    def ask_again(self) -> None:
        """Note that the run is asked for again: its configuration is then the newest under its label."""
        durable.write_json(self.path / "asked.json", asdict(Asked(time.time())))

    def lease(self) -> AbstractContextManager[bool]:
        """Hold the run while the block works on it; see ``Lease.hold`` for what it yields and raises."""
        return self._lease.hold()

    def start_attempt(self, **settings: Any) -> None:
        """Note that a worker starts, under these settings of the machine; clear away what the last one half wrote."""
        self._lease.check()
        latest = self.latest_checkpoint()
        self.attempts.add(latest and latest[1].name, self.failure, settings)
        with storage_errors(self.path):
            (self.path / "failed.json").unlink(missing_ok=True)
            self._remove_leftovers()

    def report_progress(self, phase: str, done: int, target: int, env_step: int, updates: int) -> None:
        """Replace ``progress.json``: cheap, and never needed to resume."""
        progress = Progress(phase, done, target, env_step, updates, time.time())
        durable.write_json(self.path / "progress.json", asdict(progress), durable=False)

    def save_checkpoint(self, step: int, write: Callable[[Path], None]) -> Path:
        """Save a checkpoint, which should hold ``metrics.size()``; see ``Checkpoints.save``."""
        return self._checkpoints.save(step, write)

    def latest_checkpoint(self) -> tuple[int, Path] | None:
        """Return the step and directory of the newest complete checkpoint."""
        return self._checkpoints.latest()

    def fail(self, reason: str, tail: str = "", verdict: Verdict = "exception") -> None:
        """Note that this attempt failed, unless another live worker has the run by now."""
        if self._lease.held_elsewhere:
            return
        failure = Failure(reason, tail, machine.node(), time.time(), verdict)
        durable.write_json(self.path / "failed.json", asdict(failure))

    def finish(self) -> None:
        """Write the result and, last of all, ``done``. A valid result that is already there stays."""
        import pyarrow.parquet

        self._lease.check()
        result = self.path / "result.parquet"
        if not _is_valid(result):
            table = tidy(self.spec.model_dump(), self.metrics.read())
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
        done = Done(rows[-1]["wall_time_s"] if rows else 0.0, time.time())
        durable.write_json(self.path / "done", asdict(done), exclusive=True)

    @property
    def has_replay(self) -> bool:
        """Whether the agent's frames are there."""
        return any((self.path / "replay").glob("[!.]*"))

    def detach_replay(self) -> None:
        """Give the replay's files to this process alone: a silent worker may still have the old ones open."""
        for path in (self.path / "replay").glob("[!.]*"):
            copy = durable.temporary_beside(path)
            with storage_errors(path):
                durable.copy_sparse(path, copy)
                durable.commit(copy, path)

    def tidy_up(self) -> None:
        """Free what a finished run does not need: its replay, and what killed workers left half-written."""
        shutil.rmtree(self.path / "replay", ignore_errors=True)
        self._remove_leftovers()

    def _remove_leftovers(self) -> None:
        for leftover in (*self.path.glob(".*.tmp"), *self.path.glob("replay/.*.tmp")):
            leftover.unlink(missing_ok=True)
        self._checkpoints.keep_newest()


def _is_valid(result: Path) -> bool:
    import pyarrow
    import pyarrow.parquet

    try:
        return pyarrow.parquet.read_metadata(result).num_columns > 0
    except (OSError, pyarrow.ArrowException):
        return False


def runs(results: Path, suite: str = "*", scale: str = "*") -> Iterator[RunDirectory]:
    """Find the runs below ``results`` (of one suite, at one scale), in the order of their paths."""
    for path in sorted(results.glob("*/*/*/seed-*/run.json")):
        # Compared, not globbed: whoever types a path or a bracket means a name.
        if suite in ("*", path.parts[-5]) and scale in ("*", path.parts[-4]):
            yield RunDirectory(path.parent)
