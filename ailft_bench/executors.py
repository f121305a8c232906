"""Executors: where the cells of a suite are worked on. Planning, demonstrations and the final table are shared."""

from __future__ import annotations

import os
import sys
import traceback
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, Protocol

from rich.console import Console

from ailft_bench import display, machine, pretraining
from ailft_bench.errors import UserError
from ailft_bench.pool import Command, Ending, Pool, default_jobs, worker_command
from ailft_bench.slurm import profile, queue
from ailft_bench.slurm.watch import Slurm
from ailft_bench.store import RunSpec

Name = Literal["auto", "local", "slurm", "inline"]
Cells = Mapping[Path, RunSpec]


class Executor(Protocol):
    """Works on cells."""

    @property
    def adopts_jobs(self) -> bool:
        """Whether a cell that has a SLURM job already is this executor's to wait for."""

    def width(self, memory_gib: float) -> int:
        """Return how many cells of ``memory_gib`` are worked on at once."""

    def has_gpu(self) -> bool:
        """Whether cells find a GPU, which decides on the default scale."""

    def run(self, out: Console, results: Path, cells: Cells, memory_gib: float) -> dict[Path, Ending]:
        """Work on all of ``cells`` and return how each ended."""


def choose(name: Name, jobs: int | None, detach: bool, profile_name: str | None) -> Executor:
    """Return the executor that the options ask for.

    ``auto`` is SLURM where there is one, outside of its jobs, and wherever an option is for SLURM alone. A SLURM
    that is here but silent is an error: its login node is no place for the cells.

    Raises:
        UserError: SLURM is asked for and does not answer, or an option does not go with the executor.
    """
    for_slurm = [option for option, given in (("--detach", detach), ("--profile", profile_name is not None)) if given]
    if name in ("local", "inline") and for_slurm:
        raise UserError(f"{for_slurm[0]}: only SLURM has jobs that go on alone; here the executor is {name}")
    if name == "slurm":
        for_slurm.insert(0, "--executor slurm")
    if name in ("slurm", "auto") and (for_slurm or "SLURM_JOB_ID" not in os.environ):
        controller = queue.controller()
        if controller == "answers":
            chosen = profile.load(profile_name)
            return Slurm(chosen if jobs is None else chosen.model_copy(update={"parallel": jobs}), detach)
        if for_slurm:
            raise UserError(f"{for_slurm[0]}: no SLURM answers here (tried: scontrol ping); allowed: --executor local")
        if controller == "silent":
            raise UserError(
                "SLURM is set up here but its controller does not answer (tried for a minute: scontrol ping); "
                "try again later, or run on this machine: --executor local"
            )
    return Inline() if name == "inline" else Local(jobs)


def set_for_workers(precision: str, compiled: bool) -> None:
    """Pass settings of the machine on to this process and all that it starts or submits, by environment variable."""
    os.environ[machine.PRECISION] = precision
    if compiled:
        os.environ[machine.COMPILE] = "1"


@dataclass(frozen=True)
class Local:
    """A bounded pool of worker processes on this machine."""

    jobs: int | None = None
    command: Command = worker_command
    adopts_jobs: bool = False

    def width(self, memory_gib: float) -> int:
        """Return ``--jobs``, else what fits this machine."""
        return self.jobs or default_jobs(memory_gib)

    def has_gpu(self) -> bool:
        """Whether this machine has one that torch can use."""
        return bool(machine.usable_gpus())

    def run(self, out: Console, results: Path, cells: Cells, memory_gib: float) -> dict[Path, Ending]:
        """Run the pool until all cells have ended or a signal stops it."""
        jobs = self.width(memory_gib)
        pool = Pool(jobs, self.command, machine.usable_gpus())
        out.print(f"{len(cells)} cells to run, {min(jobs, len(cells))} at once; logs: log.txt in each run's folder")
        warned = False

        def poll() -> None:
            nonlocal warned
            if pool.stopping and not warned:
                warned = True
                progress.say("stopping: the workers save a checkpoint; once more kills them")
            progress.poll(pool.active)

        with display.LiveProgress(out, cells) as progress:
            return pool.run(pretraining.in_turn(cells, jobs), progress.ended, poll)


@dataclass(frozen=True)
class Inline:
    """This process, one cell after another, for debuggers."""

    adopts_jobs: bool = False

    def width(self, memory_gib: float) -> int:
        """Return 1."""
        return 1

    def has_gpu(self) -> bool:
        """Whether this machine has one that torch can use."""
        return bool(machine.usable_gpus())

    def run(self, out: Console, results: Path, cells: Cells, memory_gib: float) -> dict[Path, Ending]:
        """Run the cells in this process; a traceback goes to stderr."""
        from ailft_bench.store.lease import LeaseHeldError, LeaseLostError
        from ailft_bench.worker import run_cell

        endings = {path: Ending("interrupted", "not started") for path in cells}
        for path, spec in cells.items():
            out.print(f"{display.cell_name(spec)}: started in this process")
            try:
                done = run_cell(path)
            except (LeaseHeldError, LeaseLostError) as error:
                endings[path] = Ending("elsewhere", str(error))
            except Exception as error:
                traceback.print_exc(file=sys.stderr)
                endings[path] = Ending("failed", f"{type(error).__name__}: {error}")
            else:
                endings[path] = Ending("done") if done else Ending("interrupted", "stopped")
                if not done:
                    break
        return endings
