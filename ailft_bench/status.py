"""Status: a read-only look at the runs of a results folder; it opens small files only."""

from __future__ import annotations

import os
import shlex
import sys
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from rich.console import Console
from rich.table import Table
from rich.text import Text

from ailft_bench.cells import expand, fraction_done
from ailft_bench.errors import UserError, nearest
from ailft_bench.slurm import queue
from ailft_bench.slurm.queue import Job, QueueUnknownError
from ailft_bench.store import RunDirectory, RunSpec, runs
from ailft_bench.suite import Suite
from ailft_bench.terminal import STYLES

_COLUMNS = ("suite", "scale", "cell", "seed", "run", "state", "progress", "node", "why")


@dataclass(frozen=True)
class CellStatus:
    """One row of the table. ``command`` runs what is not done of the suite this cell belongs to."""

    suite: str
    scale: str
    label: str
    seed: int
    run_id: str
    state: str
    fraction: float
    node: str
    reason: str
    command: str


def collect(results: Path, suite: str | None = None, scale: str | None = None) -> list[CellStatus]:
    """Return the status of all runs below ``results``, of one suite, or of one scale.

    Raises:
        UserError: there are none.
    """
    jobs = _jobs(results)
    found = [_status(run, jobs.get(run.path)) for run in runs(results, suite or "*", scale or "*")]
    if not found:
        present = {path.parents[1] for path in results.glob("*/*/*/seed-*")}
        suites = {path.parent.name for path in present}
        scales = {path.name for path in present if suite in (None, path.parent.name)}
        wanted = (f" of suite {suite}" if suite else "") + (f" at scale {scale}" if scale else "")
        if scale and scales:
            hint = nearest(scale, scales)
        else:
            hint = nearest(suite, suites) if suite and suites else "start one with: ailft-bench run SUITE"
        raise UserError(f"{results}: no runs{wanted}; {hint}")
    return found


def missing(suite: Suite, scales: Iterable[str], found: Sequence[CellStatus], given: str) -> list[CellStatus]:
    """Return a row for each cell of ``suite`` (given as ``given``) that has no directory yet."""
    # The beginning of the id is in the folder's name, which is all that is known of a damaged one.
    present = {(cell.scale, cell.label, cell.run_id[:8]) for cell in found}
    rows = []
    for scale in scales:
        for spec in expand(suite, scale):
            if (scale, spec.label, spec.run_id[:8]) not in present:
                rows.append(_absent(spec, f"ailft-bench run {given} --scale {scale}"))
    return rows


def show(out: Console, cells: Sequence[CellStatus]) -> None:
    """Print the table, and under it the commands that go on with what is not done."""
    rows = [
        (c.suite, c.scale, c.label, str(c.seed), c.run_id[:8], c.state, f"{c.fraction:.0%}", c.node, c.reason)
        for c in cells
    ]
    table = Table(box=None, pad_edge=False)
    for name, texts in zip(_COLUMNS, zip(*rows, strict=True), strict=True):
        # Fixed widths: measuring every cell takes a third of the time. The last column gives way on a narrow screen.
        width = None if name == _COLUMNS[-1] else max(len(name), *map(len, texts))
        table.add_column(name, width=width, no_wrap=width is not None)
    for row in rows:
        table.add_row(
            *(Text(text, STYLES[text] if name == "state" else "") for name, text in zip(_COLUMNS, row, strict=True))
        )
    out.print(table)
    states = [cell.state for cell in cells]
    out.print(", ".join(f"{states.count(state)} {state}" for state in STYLES if state in states))
    commands = {cell.command for cell in cells if cell.state in ("failed", "waiting", "missing")}
    for command in sorted(commands):
        out.print(f"to go on: {command}", markup=False)


def _jobs(results: Path) -> dict[Path, Job]:
    """Ask SLURM once for all cells; where it does not answer, the store alone is shown."""
    try:
        return queue.jobs(results)
    except QueueUnknownError as error:
        print(f"warning: {error}; SLURM's states are left out", file=sys.stderr)
        return {}


def _status(run: RunDirectory, job: Job | None) -> CellStatus:
    try:
        spec = run.spec
    except UserError as error:
        return _damaged(run.path, str(error))
    state, progress = str(run.state), run.progress
    holder = run.holder if state == "running" else None
    failure = run.failure if state == "failed" else None
    reason = failure.reason.partition("\n")[0] if failure else ""
    if job is not None and state in ("waiting", "failed"):
        state = "queued" if job.live else state
        if job.live or (not reason and job.speaks_for(run.attempts.last)):
            reason = str(job)
    elif job is not None and state == "running":
        reason = f"SLURM job {job.id}"
    fraction = fraction_done(spec, progress.env_step, progress.updates) if progress else 0.0
    return CellStatus(
        spec.suite,
        spec.scale,
        spec.label,
        spec.seed,
        spec.run_id,
        state,
        1.0 if state == "done" else fraction,
        holder.host if holder else failure.host if failure else job.node if job and state == "queued" else "",
        reason,
        command(spec),
    )


def _damaged(path: Path, reason: str) -> CellStatus:
    suite, scale, label, folder = path.parts[-4:]
    seed = folder.split("-")[1]
    return CellStatus(
        suite, scale, label, int(seed) if seed.isdigit() else -1, folder[-8:], "damaged", 0.0, "", reason, ""
    )


def command(spec: RunSpec) -> str:
    """Return the command that started the run: it knows the ``--set`` values that make its identity."""
    command = str(spec.provenance.get("command", f"ailft-bench run {spec.suite} --scale {spec.scale}"))
    directory = spec.provenance.get("directory", os.getcwd())
    return command if directory == os.getcwd() else f"cd {shlex.quote(directory)} && {command}"


def _absent(spec: RunSpec, command: str) -> CellStatus:
    return CellStatus(spec.suite, spec.scale, spec.label, spec.seed, spec.run_id, "missing", 0.0, "", "", command)
