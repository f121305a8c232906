"""The SLURM executor: submits cells, watches the store and the queue, and submits again what ended without a result.

What became of a cell is read from its run directory, whether anybody still works on it from squeue, and whether it was
cancelled from squeue or, where that is on, the accounting; submitit's view decides nothing. Where SLURM does not answer
nothing is concluded.
"""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from rich.console import Console

from ailft_bench import display, signals
from ailft_bench.durable import StorageError
from ailft_bench.errors import UserError
from ailft_bench.pool import Ending
from ailft_bench.slurm import queue, submission
from ailft_bench.slurm.profile import Profile
from ailft_bench.slurm.queue import Job
from ailft_bench.store import RunDirectory, RunSpec
from ailft_bench.store.attempts import RERUNS, Failure
from ailft_bench.store.lease import LeaseHeldError

_TICK_S = 0.5
_LONGEST_PAUSE_S = 30.0
#: A job that is being queued again looks ended for a moment.
_SURE_AFTER_S = 10.0
#: How often the accounting is asked again for the end of a job that the queue has forgotten.
_LOOKS = 2


@dataclass(frozen=True)
class Slurm:
    """Jobs of a cluster; with ``detach`` the cells are submitted and left alone."""

    profile: Profile
    detach: bool = False
    adopts_jobs: bool = True

    def width(self, memory_gib: float) -> int:
        """Return the profile's parallelism."""
        return self.profile.parallel

    def has_gpu(self) -> bool:
        """Whether the profile asks for one."""
        return self.profile.gpus > 0

    def run(self, out: Console, results: Path, cells: Mapping[Path, RunSpec], memory_gib: float) -> dict[Path, Ending]:
        """Submit the cells that have no job, and stay until all have ended, or a signal sends this process away.

        Raises:
            UserError: sbatch refused the first jobs.
            QueueUnknownError: SLURM did not answer to the first question.
        """
        suite = next(iter(cells.values())).suite
        submitted = submission.submit_now(results, suite, list(cells), self.profile)
        live = queue.live(results)
        have = len(live.keys() & cells.keys())
        out.print(f"{len(submitted.taken)} cells submitted, {have} have a job; logs: log.txt in each run's folder")
        if self.detach:
            return {path: _left_alone(path, live.get(path), path in submitted.left) for path in cells}
        return _Watch(out, results, suite, cells, self.profile, submitted.left).run()


def _left_alone(path: Path, job: Job | None, not_submitted: bool) -> Ending:
    """Say what there is to say of a cell right after its submission."""
    if job is not None:
        return Ending("queued", str(job))
    if not_submitted:
        return Ending("waiting", "not submitted, SLURM takes no more jobs now; run the command again")
    run = RunDirectory(path)
    if run.state == "done":
        return Ending("done")
    if run.failure is not None:
        return Ending("failed", run.failure.reason)
    return Ending("waiting", "its job has ended already; ailft-bench explain says why, the same command goes on")


class _Watched:
    """What the watcher remembers of one cell."""

    def __init__(self, path: Path) -> None:
        self.run = RunDirectory(path)
        self.job: Job | None = None
        self._old_failure = self.run.failure
        self._without_job_since: float | None = None
        self._submissions = 1
        self._asked = 0
        self._checkpoint = self._latest()

    @property
    def new_failure(self) -> Failure | None:
        """Why the newest attempt failed, if the worker could say so."""
        failure = self.run.failure
        return failure if failure != self._old_failure else None

    def see(self, job: Job | None) -> bool:
        """Note what squeue says now; return whether the cell is without a job for sure."""
        self.job = job or self.job
        alone = job is None or not job.live
        now = time.monotonic()
        since = self._without_job_since
        self._without_job_since = (now if since is None else since) if alone else None
        return alone and since is not None and now - since >= _SURE_AFTER_S

    def may_be_known_later(self) -> bool:
        """Whether to look again before concluding what ended the job, which is then counted: accountings lag."""
        self._asked += 1
        return self._asked <= _LOOKS

    def may_run_again(self) -> bool:
        """Whether another submission is in order, which is then counted."""
        if (latest := self._latest()) != self._checkpoint:
            self._checkpoint, self._submissions = latest, 0
        self._submissions += 1
        self._without_job_since = None
        self.job, self._asked = None, 0
        return self._submissions <= 1 + RERUNS and self.run.attempts.fruitless() <= RERUNS

    def _latest(self) -> str | None:
        found = self.run.latest_checkpoint()
        return found and found[1].name


class _Watch:
    def __init__(
        self,
        out: Console,
        results: Path,
        suite: str,
        cells: Mapping[Path, RunSpec],
        profile: Profile,
        to_submit: Sequence[Path],
    ) -> None:
        self._out, self._results, self._suite, self._profile = out, results, suite, profile
        self._cells = cells
        self._open = {path: _Watched(path) for path in cells}
        self._endings: dict[Path, Ending] = {}
        self._to_submit = list(to_submit)
        self._never_submitted = set(to_submit)
        self._complaint = ""

    def run(self) -> dict[Path, Ending]:
        started, looked = time.monotonic(), 0.0
        with signals.noted() as received, display.LiveProgress(self._out, self._cells) as self._progress:
            while self._open and not received:
                now = time.monotonic()
                # Often at first, as somebody is watching; later as rarely as clusters like it.
                if now - looked >= min(_LONGEST_PAUSE_S, 1 + (now - started) / 10):
                    self._look()
                    looked = now
                running = [path for path, cell in self._open.items() if cell.job and cell.job.state == "RUNNING"]
                self._progress.poll(running)
                if self._open:
                    time.sleep(_TICK_S)
        for path, cell in self._open.items():
            self._endings[path] = Ending("interrupted", f"{cell.job} goes on" if cell.job else "goes on")
        if self._open:
            self._out.print(f"the jobs go on; ailft-bench cancel {self._suite} --results {self._results} ends them")
        return self._endings

    def _look(self) -> None:
        """Compare the store with the queue once."""
        try:
            jobs = queue.jobs(self._results)
            held = [job.id for path, job in jobs.items() if path in self._open and "requeued held" in job.reason]
            queue.release(held)
            for path, cell in list(self._open.items()):
                if path not in self._to_submit:
                    self._judge(path, cell, jobs.get(path))
                elif (path / "done").exists():  # while it waited: another process or machine has done it
                    self._to_submit.remove(path)
                    self._end(path, Ending("done"))
            self._submit()
            self._complaint = ""
        except LeaseHeldError:
            pass  # Another process submits; the next look tells what.
        except UserError as error:
            self._complain(str(error))

    def _judge(self, path: Path, cell: _Watched, job: Job | None) -> None:
        if job is not None and job.state == "PENDING":
            cell.see(job)
        elif (path / "done").exists():
            self._end(path, Ending("done"))
        elif cell.see(job) and cell.run.holder is None:
            self._decide(path, cell)

    def _decide(self, path: Path, cell: _Watched) -> None:
        """A cell has neither a result nor a job: does it run again?"""
        job = cell.job
        if job is None or job.live:  # as it was when somebody looked; what ended it is for SLURM to say
            job = queue.remembered(self._results, path) or job
            if job is not None and job.live and cell.may_be_known_later():
                return
        failure = cell.new_failure
        if job is not None and job.verdict == "cancelled":
            self._note(cell, job, f"cancelled: {job}")
            self._end(path, Ending("cancelled", str(job)))
        elif failure is not None and failure.verdict == "exception":
            self._end(path, Ending("failed", failure.reason))
        elif cell.may_run_again():
            self._to_submit.append(path)
        else:
            reason = f"started {1 + RERUNS} times without reaching the next checkpoint; the last time: "
            reason += failure.reason if failure else str(job or "its job left no trace")
            self._note(cell, job, reason)
            self._end(path, Ending("failed", reason))

    def _note(self, cell: _Watched, job: Job | None, reason: str) -> None:
        with suppress(StorageError):
            cell.run.fail(reason, cell.new_failure.tail if cell.new_failure else "", job.verdict if job else "killed")

    def _submit(self) -> None:
        if not self._to_submit:
            return
        taken, self._to_submit = submission.submit(self._results, self._suite, self._to_submit, self._profile)
        first = [path for path in taken if path in self._never_submitted]
        again = [path for path in taken if path not in self._never_submitted]
        self._never_submitted -= set(taken)
        for what, paths in (
            ("submitted, as SLURM takes more jobs now", first),
            ("submitted again, as the job ended without a result", again),
        ):
            if paths:
                names = ", ".join(display.cell_name(self._cells[path]) for path in paths)
                self._progress.say(f"{what}: {names}")

    def _end(self, path: Path, ending: Ending) -> None:
        del self._open[path]
        self._endings[path] = ending
        self._progress.ended(path, ending)

    def _complain(self, text: str) -> None:
        if text != self._complaint:
            self._progress.say(f"{text}; trying again")
            self._complaint = text


def cancel(results: Path, suite: str, scale: str | None = None, patience_s: float = 30.0) -> Sequence[str]:
    """Cancel the jobs of one suite (and scale) of one results folder, and return their ids.

    Raises:
        QueueUnknownError: SLURM does not answer.
    """
    cancelled: list[str] = []
    deadline = time.monotonic() + patience_s
    while True:
        ids = [
            job.id
            for path, job in queue.live(results).items()
            if path.relative_to(results).parts[0] == suite and scale in (None, path.relative_to(results).parts[1])
        ]
        new = [identifier for identifier in ids if identifier not in cancelled]
        queue.cancel(new)
        cancelled += new
        if not ids or time.monotonic() > deadline:
            return cancelled
        time.sleep(_TICK_S)
