"""Explaining one run: the verdict, where and why, what its attempts were, and the command that reruns it."""

from __future__ import annotations

import re
import time
from dataclasses import dataclass
from pathlib import Path

from rich.console import Console
from rich.table import Table

from ailft_bench import status
from ailft_bench.errors import UserError, nearest
from ailft_bench.slurm import queue
from ailft_bench.slurm.queue import Job
from ailft_bench.store import RunDirectory, runs
from ailft_bench.store.attempts import Attempt, Failure

_OUT_OF_MEMORY = re.compile(r"out of memory|OutOfMemory|MemoryError|cannot allocate memory", re.IGNORECASE)
_ATTEMPTS_SHOWN = 10


@dataclass(frozen=True)
class Explanation:
    """``verdict`` in two words, ``reason`` in a line, ``where`` it happened, ``tail``: the last lines it left."""

    verdict: str
    reason: str
    where: str
    tail: str


def find(results: Path, wanted: str) -> RunDirectory:
    """Return the run that is given by its directory or by (the beginning of) its id.

    Raises:
        UserError: there is none, or several begin like this.
    """
    if (Path(wanted) / "run.json").exists():
        return RunDirectory(Path(wanted).absolute())
    all_runs: dict[str, RunDirectory] = {}
    for run in runs(results.absolute()):
        short = run.path.name.rpartition("-")[2]
        # Two suites may share a run: the one that was imported came without its networks.
        if short not in all_runs or all_runs[short].latest_checkpoint() is None:
            all_runs[short] = run
    matches = [
        run for short, run in all_runs.items() if wanted and (short.startswith(wanted) or wanted.startswith(short))
    ]
    if len(matches) == 1:
        return matches[0]
    if matches:
        begun = sorted(run.path.name.rpartition("-")[2] for run in matches)
        raise UserError(f"{wanted}: {len(matches)} runs begin like this: {', '.join(begun)}")
    raise UserError(f"{wanted}: no run directory, and no run of {results} has this id; {nearest(wanted, all_runs)}")


def explain(run: RunDirectory) -> Explanation:
    """Say what became of ``run``, from its directory and from what SLURM remembers."""
    state, attempts, failure = run.state, run.attempts.read(), run.failure
    last = attempts[-1] if attempts else None
    where = f"{last.host}{f', SLURM job {last.job}' if last.job else ''}" if last else "nowhere yet"
    if state == "done":
        starts = f"after {len(attempts)} start{'s' if len(attempts) != 1 else ''}"
        return Explanation("done", f"{starts}{_score(run)}", where, "")
    if state == "running":
        return Explanation("running", str(run.holder), where, "")
    job = _job(run)
    if job is not None and not job.speaks_for(last):
        job = None
    if job is not None and job.live:
        return Explanation("queued", str(job), job.node or where, "")
    if failure is not None:
        place = f"{failure.host}{f', SLURM job {last.job}' if last and last.job else ''}"
        return Explanation(_verdict(failure, job), failure.reason, place, failure.tail)
    if job is not None and job.state != "COMPLETED":
        return Explanation(job.verdict, str(job), job.node or where, _log_tail(run))
    if last is None:
        return Explanation("never started", "no worker was on it", where, "")
    return Explanation(
        "stopped", "its last worker left or vanished; the next one goes on from its checkpoint", where, ""
    )


def show(out: Console, run: RunDirectory) -> None:
    """Print one screen about ``run``."""
    spec, found = run.spec, explain(run)
    out.print(f"{spec.suite} {spec.scale} {spec.label} seed {spec.seed}, run {spec.run_id}", markup=False)
    out.print(f"verdict: {found.verdict}", markup=False)
    out.print(f"why:     {found.reason}", markup=False)
    out.print(f"where:   {found.where}", markup=False)
    out.print(f"folder:  {run.path}", markup=False)
    attempts = run.attempts.read()
    if attempts:
        failure = run.failure
        ending = "done" if found.verdict == "done" else failure.reason if failure else ""
        out.print(_table(attempts, ending))
    if found.tail:
        out.print(found.tail, markup=False, style="dim")
    if found.verdict not in ("done", "running", "queued"):
        out.print(f"again:   {status.command(spec)}", markup=False)


def _score(run: RunDirectory) -> str:
    last = next((row["metrics"] for row in reversed(run.metrics.read()) if row["phase"] == "eval"), {})
    score = last.get("tasks_completed")
    return f"; sub-tasks completed at its last evaluation: {score:.2f}" if score is not None else ""


def _job(run: RunDirectory) -> Job | None:
    """Return the run's last job; one that was copied to near the root has no results folder above it, and none."""
    above = run.path.parents
    return queue.remembered(above[3], run.path) if len(above) > 3 else None


def _verdict(failure: Failure, job: Job | None) -> str:
    if failure.verdict == "killed" and job is not None and job.verdict != "cancelled":
        return job.verdict
    memory = failure.verdict == "exception" and _OUT_OF_MEMORY.search(f"{failure.reason} {failure.tail}")
    return "out of memory" if memory else failure.verdict


def _table(attempts: list[Attempt], ending: str) -> Table:
    table = Table("start", "at", "node", "job", "from checkpoint", "ended", box=None, pad_edge=False)
    reasons = [str(attempt.after["reason"]) if attempt.after else "" for attempt in attempts[1:]]
    reasons.append(ending)
    numbered = list(zip(range(1, len(attempts) + 1), attempts, reasons, strict=True))
    for number, attempt, reason in numbered[-_ATTEMPTS_SHOWN:]:
        started = time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(attempt.time)) if attempt.time else "unknown"
        reason = reason.partition("\n")[0].replace("[", "\\[")
        table.add_row(str(number), started, attempt.host, attempt.job, attempt.checkpoint or "the beginning", reason)
    return table


def _log_tail(run: RunDirectory, lines: int = 10) -> str:
    try:
        return "\n".join((run.path / "log.txt").read_text(errors="replace").splitlines()[-lines:])
    except OSError:
        return ""
