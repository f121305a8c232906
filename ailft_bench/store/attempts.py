"""The attempts of one run: a line for each start of a worker, and what became of the start before it."""

from __future__ import annotations

import json
import os
import time
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any, Literal

from ailft_bench import machine, provenance
from ailft_bench.durable import storage_errors

#: How often in a row a run is started again by itself without reaching its next checkpoint.
RERUNS = 3

_SLURM_VARIABLES = ("SLURM_JOB_ID", "SLURM_ARRAY_JOB_ID", "SLURM_ARRAY_TASK_ID", "SLURM_JOB_PARTITION")

#: ``exception``: the worker said so itself. ``killed``: a signal ended it. The others are SLURM's words.
Verdict = Literal["exception", "killed", "cancelled", "out of memory", "time limit", "preempted", "node failure"]


@dataclass(frozen=True)
class Failure:
    """Why an attempt failed: one line, and the end of its traceback or log."""

    reason: str
    tail: str
    host: str
    time: float
    verdict: Verdict = "exception"


@dataclass(frozen=True)
class Attempt:
    """One start: where and when, as which SLURM job (its variables), from which checkpoint, after which failure."""

    host: str
    pid: int
    time: float
    slurm: dict[str, str]
    restarts: int
    checkpoint: str | None
    after: dict[str, Any] | None
    provenance: dict[str, Any]

    @property
    def job(self) -> str:
        """The id of the SLURM job, or of the element of an array; empty outside SLURM."""
        return job_id(self.slurm)


class Attempts:
    """``attempts.jsonl``: append-only; a torn or foreign line is skipped."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def add(self, checkpoint: str | None, after: Failure | None, settings: Mapping[str, Any]) -> None:
        """Note that this process starts on the run, from ``checkpoint`` or the beginning.

        ``settings`` of the machine join the provenance: what is no part of the run's identity.
        """
        attempt = Attempt(
            host=machine.node(),
            pid=os.getpid(),
            time=time.time(),
            slurm={key: os.environ[key] for key in _SLURM_VARIABLES if key in os.environ},
            restarts=int(os.environ.get("SLURM_RESTART_COUNT", "0")),
            checkpoint=checkpoint,
            after=None if after is None else asdict(after),
            provenance={**provenance.collect(), **settings},
        )
        with storage_errors(self.path), open(self.path, "ab+") as file:
            torn = file.tell() > 0 and os.pread(file.fileno(), 1, file.tell() - 1) != b"\n"
            file.write(b"\n" * torn + (json.dumps(asdict(attempt)) + "\n").encode())
            file.flush()
            os.fsync(file.fileno())

    def read(self) -> list[Attempt]:
        """Return all attempts, the first one first."""
        try:
            lines = self.path.read_bytes().splitlines()
        except FileNotFoundError:
            return []
        found = []
        for line in lines:
            try:
                content = json.loads(line)
            except ValueError:
                continue
            if not isinstance(content, dict):
                continue
            # A line of an older version may lack some.
            known: dict[str, Any] = {field.name: content.get(field.name) for field in fields(Attempt)}
            known |= {name: known[name] or {} for name in ("slurm", "provenance")}
            found.append(Attempt(**{**known, "time": known["time"] or 0.0}))
        return found

    @property
    def last(self) -> Attempt | None:
        """The newest attempt, if there was one."""
        return next(reversed(self.read()), None)

    def versions(self) -> set[str]:
        """Return the hashes of the sources that the run is made with: one, unless others went on from a checkpoint."""
        attempts = self.read()
        anew = max((index for index, attempt in enumerate(attempts) if attempt.checkpoint is None), default=0)
        hashes = {attempt.provenance.get("source_sha256") for attempt in attempts[anew:]}
        return {str(found) for found in hashes if found}

    def fruitless(self) -> int:
        """Return how many of the last starts were from one checkpoint: all but the last did not reach the next."""
        attempts = self.read()
        count = 0
        while count < len(attempts) and attempts[-1 - count].checkpoint == attempts[-1].checkpoint:
            count += 1
        return count


def job_id(variables: dict[str, str]) -> str:
    """Return the id by which SLURM's commands know the job with these environment variables."""
    if "SLURM_ARRAY_TASK_ID" in variables:
        return f"{variables['SLURM_ARRAY_JOB_ID']}_{variables['SLURM_ARRAY_TASK_ID']}"
    return variables.get("SLURM_JOB_ID", "")
