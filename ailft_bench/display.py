"""What ``run`` shows: the plan, live progress with the time left, and the final table."""

from __future__ import annotations

import math
import time
from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path

from rich.console import Console
from rich.live import Live
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from ailft_bench.cells import fraction_done
from ailft_bench.durable import StorageError
from ailft_bench.errors import UserError
from ailft_bench.estimate import Estimate, expected_seconds
from ailft_bench.pool import Ending
from ailft_bench.store import RunDirectory, RunSpec
from ailft_bench.store.run import Progress
from ailft_bench.terminal import STYLES, duration, size
from algorithms.methods import METHODS

_REFRESH_S = 0.5
_PLAIN_INTERVAL_S = 60.0
_SETTLED_S = 5.0
_ROWS = 24


def cell_name(spec: RunSpec) -> str:
    """Return ``algorithm+variant seed n``."""
    return f"{spec.label} seed {spec.seed}"


def show_methods(out: Console, specs: Sequence[RunSpec]) -> None:
    """Print what each algorithm is."""
    table = Table("algorithm", "method", "what it is", box=None, pad_edge=False)
    for algorithm, method in dict.fromkeys((spec.algorithm, spec.method) for spec in specs):
        table.add_row(algorithm, method, METHODS[method].summary)
    out.print(table)
    out.print()


def show_plan(out: Console, specs: Sequence[RunSpec], results: Path, states: Mapping[Path, str]) -> None:
    """Print every cell with its state (by its directory)."""
    table = Table("algorithm", "variant", "seed", "run", "state", box=None, pad_edge=False)
    for spec in specs:
        state = states[spec.directory(results)]
        style = STYLES[state]
        table.add_row(spec.algorithm, spec.variant, str(spec.seed), spec.run_id, f"[{style}]{state}[/]")
    out.print(table)


def show_estimate(out: Console, found: Estimate, count: int, jobs: int) -> None:
    """Print how long ``count`` cells take with ``jobs`` workers, and their disk space."""
    wall = found.work_s / max(1, min(jobs, count))
    out.print(
        f"to do: {count} cells, about {duration(wall)} with {jobs} at once ({found.basis}), "
        f"at most about {size(found.peak_bytes(min(jobs, count)))} of disk, {size(found.kept_bytes)} of it to stay"
    )


def show_endings(out: Console, specs: Sequence[RunSpec], results: Path, endings: Mapping[Path, Ending]) -> None:
    """Print the final table: the state of each cell, and the tasks of its last evaluation."""
    table = Table("cell", "run", "state", "tasks completed", "why", box=None, pad_edge=False)
    for spec in specs:
        path = spec.directory(results)
        ending = endings.get(path, Ending("done"))
        style = STYLES[ending.state]
        score = _last_score(RunDirectory(path))
        reason = Text(ending.reason.partition("\n")[0], overflow="fold")  # paths are there to be copied
        table.add_row(cell_name(spec), spec.run_id[:8], f"[{style}]{ending.state}[/]", score, reason)
    out.print(table)


def _last_score(run: RunDirectory) -> str:
    try:
        rows = run.metrics.read()
    except UserError:  # what other commands say of it, and no reason to show nothing of all the others
        return "damaged log"
    for row in reversed(rows):
        if row["phase"] == "eval" and "tasks_completed" in row["metrics"]:
            return f"{row['metrics']['tasks_completed']:.2f} at step {row['env_step']}"
    return "-"


def _progress(path: Path) -> Progress | None:
    with suppress(StorageError):  # of a file that is there for displays only
        return RunDirectory(path).progress
    return None


class LiveProgress:
    """Progress of the cells that are worked on: a live table on a terminal, else a line now and then.

    Where the terminal goes away, or whoever reads the output, nothing more is shown and nothing breaks; whether the
    work goes on is for the signal to say that comes with it (``signals``).
    """

    def __init__(self, out: Console, specs: Mapping[Path, RunSpec]) -> None:
        self._out = out
        self._specs = specs
        self._work = {path: expected_seconds(spec) for path, spec in specs.items()}
        self._endings: dict[Path, Ending] = {}
        self._fractions: dict[Path, float] = {}
        self._first_seen: dict[Path, tuple[float, float]] = {}
        self._last = 0.0
        self._live = Live(console=out, auto_refresh=False, transient=True) if out.is_terminal else None

    def __enter__(self) -> LiveProgress:
        with self._while_shown():
            if self._live is not None:
                self._live.start()
        return self

    def __exit__(self, *exception: object) -> None:
        with self._while_shown():
            if self._live is not None:
                self._live.stop()

    def say(self, text: str) -> None:
        """Print a line."""
        with self._while_shown():
            self._out.print(text, markup=False)

    def ended(self, path: Path, ending: Ending) -> None:
        """Note how a cell ended."""
        self._endings[path] = ending
        if ending.state == "done":
            self._fractions[path] = 1.0
        if self._live is None or ending.state == "failed":
            where = f"; log: {path / 'log.txt'}" if ending.state == "failed" else ""
            reason = f": {ending.reason}" if ending.reason else ""
            self.say(f"{cell_name(self._specs[path])}: {ending.state}{reason}{where}")

    def poll(self, active: Sequence[Path]) -> None:
        """Show how far the ``active`` cells are."""
        now = time.monotonic()
        for path in active:
            if path not in self._first_seen:
                self._measure(path)
                if self._live is None:
                    self.say(f"{cell_name(self._specs[path])}: started")
        if now - self._last < (_PLAIN_INTERVAL_S if self._live is None else _REFRESH_S):
            return
        first, self._last = self._last == 0.0, now
        for path in active:
            self._measure(path)
        if self._live is not None:
            with self._while_shown():
                self._live.update(self._table(active), refresh=True)
        elif not first:
            parts = [f"{cell_name(self._specs[path])} {self._fractions[path]:.0%}" for path in active]
            self.say(f"{self._summary()}; {', '.join(parts)}")

    @contextmanager
    def _while_shown(self) -> Iterator[None]:
        try:
            yield
        except (OSError, SystemExit):  # rich wants to leave where a pipe is closed
            self._out.quiet = True

    def _measure(self, path: Path) -> None:
        progress = _progress(path)
        fraction = fraction_done(self._specs[path], progress.env_step, progress.updates) if progress else 0.0
        self._fractions[path] = fraction
        self._first_seen.setdefault(path, (time.monotonic(), fraction))

    def _time_left(self, left: Collection[Path], seen: Collection[Path]) -> str:
        """Return how long ``left`` take, at the pace of what was done of ``seen`` since the first of them was seen."""
        passed = time.monotonic() - min((self._first_seen[path][0] for path in seen), default=math.inf)
        done = sum(self._work[path] * (self._fractions[path] - self._first_seen[path][1]) for path in seen)
        work = sum(self._work[path] * (1 - self._fractions.get(path, 0.0)) for path in left)
        return duration(work * passed / done) if done > 0 and passed > _SETTLED_S else "unknown"

    def _summary(self) -> str:
        left = [path for path in self._specs if path not in self._endings]
        states = [ending.state for ending in self._endings.values()]
        failed = f", {states.count('failed')} failed" if "failed" in states else ""
        counts = f"{len(states) - states.count('interrupted')} of {len(self._specs)} cells ended{failed}"
        return f"{counts}, time left: {self._time_left(left, self._first_seen)}"

    def _table(self, active: Sequence[Path]) -> Table:
        table = Table("cell", "", "", "phase", "steps", "updates", "left", box=None, pad_edge=False)
        table.caption, table.caption_justify = self._summary(), "left"
        for path in list(active)[:_ROWS]:
            progress = _progress(path)
            fraction = self._fractions[path]
            table.add_row(
                cell_name(self._specs[path]),
                ProgressBar(total=1.0, completed=fraction, width=24),
                f"{fraction:.0%}",
                progress.phase if progress else "starting",
                f"{progress.env_step:,}" if progress else "",
                f"{progress.updates:,}" if progress else "",
                self._time_left([path], [path]),
            )
        return table
