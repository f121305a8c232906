"""SLURM's queue, seen from a results folder: which cell has which job, and what became of it.

Jobs are recognised by their name, which is that of a submission: a folder ``results/slurm/<name>/`` whose
``cells.json``, written before sbatch is called, lists the cells in the order of the array. So a submitter that
is killed at any moment leaves no job that a later one would not find.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path
from typing import Literal, TypeVar

from ailft_bench import durable
from ailft_bench.errors import UserError
from ailft_bench.store.attempts import Attempt, Verdict

FOLDER = "slurm"
T = TypeVar("T")
_TIMEOUT_S = 60

_VERDICTS: dict[str, Verdict] = {
    "OUT_OF_MEMORY": "out of memory",
    "TIMEOUT": "time limit",
    "DEADLINE": "time limit",
    "PREEMPTED": "preempted",
    "NODE_FAIL": "node failure",
    "BOOT_FAIL": "node failure",
    "CANCELLED": "cancelled",
}
_ENDED = {*_VERDICTS, "COMPLETED", "FAILED", "REVOKED"}


class QueueUnknownError(UserError):
    """SLURM did not answer: nothing is known about any job."""


@dataclass(frozen=True)
class Job:
    """One job, or one element of an array.

    ``reason`` says why it waits or how it ended; ``submitted`` is when, in seconds since the epoch.
    """

    id: str
    state: str
    reason: str
    node: str
    submitted: float = 0.0

    @property
    def live(self) -> bool:
        """Whether it waits, runs, or is about to."""
        return self.state not in _ENDED

    @property
    def verdict(self) -> Verdict:
        """What ended it, as far as SLURM knows."""
        return _VERDICTS.get(self.state, "killed")

    def speaks_for(self, last: Attempt | None) -> bool:
        """Whether this job says what becomes of a run with this ``last`` attempt.

        Not if it has ended and a later attempt was made elsewhere, on this machine or by another job.
        """
        return self.live or last is None or last.job == self.id or last.time < self.submitted

    def __str__(self) -> str:
        detail = f" ({self.reason})" if self.reason not in ("", "None") else ""
        return f"SLURM job {self.id}: {self.state}{detail}"


def controller(patience_s: float = 60) -> Literal["absent", "silent", "answers"]:
    """Return whether SLURM takes jobs from this machine.

    ``absent``: there is no sbatch, or nothing that says where a controller would be. ``silent``: a configured
    controller did not answer for ``patience_s``; one that starts again or is busy is waited for that long.
    """
    if shutil.which("sbatch") is None:
        return "absent"
    deadline = time.monotonic() + patience_s
    while True:
        try:
            ping = subprocess.run(["scontrol", "ping"], capture_output=True, text=True, timeout=_TIMEOUT_S, check=False)
        except subprocess.TimeoutExpired:
            return "silent"
        except OSError:  # an sbatch without its scontrol
            return "absent"
        if " is UP" in ping.stdout:
            return "answers"
        if not ping.stdout.startswith("Slurmctld"):
            return "absent"
        if time.monotonic() > deadline:
            return "silent"
        time.sleep(1)


def jobs(results: Path) -> dict[Path, Job]:
    """Return the job of each cell of ``results`` that has one: a live one, else the newest that SLURM remembers.

    Asks SLURM only if something was ever submitted from this folder.

    Raises:
        QueueUnknownError: SLURM does not answer.
    """
    if not (results / FOLDER).is_dir() or shutil.which("squeue") is None:
        return {}
    found: dict[Path, Job] = {}
    text = _ask("squeue", "--me", "--array", "--noheader", "--states=all", "--format=%i|%K|%T|%r|%N|%j")
    for line in text.splitlines():
        identifier, index, state, reason, node, name = line.split("|", 5)
        path = _cell(results, name, int(index) if index.isdigit() else 0)
        if path is not None:
            job = Job(identifier, state, reason, node, _submitted(results / FOLDER / name))
            found[path] = max(found.get(path, job), job, key=lambda known: (known.live, _order(known)))
    return found


def live(results: Path) -> dict[Path, Job]:
    """Return the jobs that are waiting or running; see ``jobs``."""
    return {path: job for path, job in jobs(results).items() if job.live}


def remembered(results: Path, path: Path) -> Job | None:
    """Return the last job of one cell, from the queue or else from the accounting, if that is on."""
    with_queue = _if_answered(lambda: jobs(results).get(path))
    if with_queue is not None:
        return with_queue
    for folder in sorted((results / FOLDER).glob("*/job.json"), key=lambda found: found.stat().st_mtime, reverse=True):
        cells = _cells(folder.with_name("cells.json"))
        job = str((durable.read_json(folder, strict=False) or {}).get("job", ""))
        if job and str(path.relative_to(results)) in cells:
            index = cells.index(str(path.relative_to(results)))
            last = accounted(f"{job}_{index}" if len(cells) > 1 else job)
            return last and replace(last, submitted=_submitted(folder.parent))
    return None


def accounted(job: str) -> Job | None:
    """Return what the accounting knows of the last run of ``job``, None without accounting."""
    command = ("sacct", "-X", "-D", "-n", "-P", "-j", job, "-o", "JobID,State,ExitCode,NodeList")
    text = _if_answered(lambda: _ask(*command))
    for line in reversed((text or "").splitlines()):
        identifier, state, code, node = line.split("|")
        # "CANCELLED by 1000"
        return Job(identifier, state.split()[0], f"exit code {code}", node)
    return None


def cancel(identifiers: Sequence[str]) -> None:
    """Cancel jobs.

    Raises:
        QueueUnknownError: SLURM does not answer.
    """
    for start in range(0, len(identifiers), 500):
        _ask("scancel", *identifiers[start : start + 500])


def release(identifiers: Iterable[str]) -> None:
    """Let jobs go on that SLURM holds because a node refused to start them."""
    for identifier in identifiers:
        _ask("scontrol", "release", identifier)


def requeue(identifier: str, give_up: Callable[[], bool], patience_s: float = 60) -> None:
    """Put a running job back into the queue; called by the job itself, for which nobody else will ask.

    ``give_up`` says when not to ask once more: the job may be cancelled while it waits for an answer.

    Raises:
        QueueUnknownError: SLURM refuses, or does not answer for ``patience_s``.
    """
    deadline = time.monotonic() + patience_s
    while True:
        try:
            _ask("scontrol", "requeue", identifier)
            return
        except QueueUnknownError:
            if give_up() or time.monotonic() > deadline:
                raise
        time.sleep(1)


def max_array_size() -> int:
    """Return how many elements an array may have here."""
    for line in _ask("scontrol", "show", "config").splitlines():
        if line.startswith("MaxArraySize"):
            # The size is one more than the highest index.
            return max(1, int(line.partition("=")[2]) - 1)
    return 1000


def _cell(results: Path, name: str, index: int) -> Path | None:
    if "/" in name or not name:
        return None
    cells = _cells(results / FOLDER / name / "cells.json")
    return results / cells[index] if index < len(cells) else None


def _submitted(folder: Path) -> float:
    try:
        return (folder / "cells.json").stat().st_mtime
    except FileNotFoundError:  # a submission that sbatch refused is cleared away
        return 0.0


def _cells(path: Path) -> tuple[str, ...]:
    """Return the cells of a submission; other people's jobs have none."""
    return _read_cells(path) if path.exists() else ()


@cache
def _read_cells(path: Path) -> tuple[str, ...]:
    return tuple((durable.read_json(path) or {}).get("cells", ()))


def _order(job: Job) -> tuple[int, ...]:
    return tuple(int(part) for part in job.id.split("_") if part.isdigit())


def _if_answered(question: Callable[[], T]) -> T | None:
    try:
        return question()
    except QueueUnknownError:
        return None


def _ask(*command: str) -> str:
    try:
        result = subprocess.run(
            command,
            capture_output=True,
            text=True,
            errors="replace",
            timeout=_TIMEOUT_S,
            env={**os.environ, "LC_ALL": "C"},
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        raise QueueUnknownError(f"{command[0]}: no answer from SLURM: {error}") from error
    if result.returncode != 0:
        said = (result.stderr or result.stdout).strip().splitlines()
        raise QueueUnknownError(f"{' '.join(command[:2])}: {said[-1] if said else f'exit code {result.returncode}'}")
    return result.stdout
