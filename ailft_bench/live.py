"""Live logging: what goes into ``metrics.jsonl`` shown elsewhere at once, as in TensorBoard. Off unless asked for.

The log file stays the only source of truth: a worker first hands a live log all rows that still count, then each
new one, so that after any kill it holds the same rows, none twice and none lost. It is no part of a run's
identity, and a live log that fails is reported and left alone: the run goes on.
"""

from __future__ import annotations

import importlib
import os
import shutil
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Protocol

from ailft_bench.errors import UserError, nearest
from ailft_bench.store import RunDirectory
from ailft_bench.store.metrics import Row

#: How workers, here and on a cluster, are told: the name of a live log.
VARIABLE = "AILFT_LIVE"


class LiveLog(Protocol):
    """Where rows are shown. Made with the run's directory as its only argument, by the worker that holds it."""

    def start(self, rows: Sequence[Row]) -> None:
        """Forget what an earlier attempt logged, and take ``rows``, all that still count of it."""

    def log(self, row: Row) -> None:
        """Take one row, which is in ``metrics.jsonl`` already."""

    def close(self) -> None:
        """The worker leaves: the run is done, stopped or failed."""


class TensorBoard:
    """Scalars in ``RUN/tensorboard``, by environment step; pretraining, without such steps, by updates.

    Tags are ``<phase>/<metric>`` with the phases train, eval and pretrain.
    """

    def __init__(self, run: Path) -> None:
        self._folder = run / "tensorboard"

    def start(self, rows: Sequence[Row]) -> None:
        """Write ``rows`` anew; a viewer that is open drops what it had read (``purge_step``)."""
        from torch.utils.tensorboard import SummaryWriter

        shutil.rmtree(self._folder, ignore_errors=True)
        self._writer = SummaryWriter(str(self._folder), purge_step=0, flush_secs=10)
        # As if the run had never been interrupted, and ended now.
        self._origin = time.time() - (rows[-1]["wall_time_s"] if rows else 0.0)
        for row in rows:
            self.log(row)

    def log(self, row: Row) -> None:
        """Write one row."""
        metrics, phase, step = row["metrics"], str(row["phase"]), row["env_step"]
        if phase == "train" and "time/env_steps_per_s" not in metrics:  # updates between which nothing was played
            phase, step = "pretrain", int(metrics.get("time/updates", 0))
        for name, value in metrics.items():
            self._writer.add_scalar(f"{phase}/{name}", value, step, self._origin + row["wall_time_s"])

    def close(self) -> None:
        """Write what is still in memory."""
        self._writer.close()


NAMES = ("tensorboard",)


def find(name: str) -> Callable[[Path], LiveLog]:
    """Return the live log ``tensorboard`` or ``module:Class``.

    Raises:
        UserError: there is none of this name, or what it needs is not installed.
    """
    if name in NAMES:
        try:
            importlib.import_module("tensorboard")
        except ImportError as error:
            raise UserError(f"--live {name}: not installed; add it with: pip install 'ailft-bench[{name}]'") from error
        return TensorBoard
    module, _, attribute = name.partition(":")
    if not (module and attribute):
        raise UserError(f"--live {name}: {nearest(name, NAMES)}, or module:Class for one of your own")
    try:
        found = getattr(importlib.import_module(module), attribute)
    except (ImportError, AttributeError) as error:
        raise UserError(f"--live {name}: cannot be imported ({error})") from error
    absent = [method for method in ("start", "log", "close") if not callable(getattr(found, method, None))]
    if absent:
        raise UserError(f"--live {name}: has no {', '.join(absent)}; a live log has start, log and close")
    return found


def ask_for(name: str | None) -> None:
    """Let the workers that this process starts, or submits, log to ``name``; None changes nothing.

    Raises:
        UserError: see ``find``.
    """
    if name is not None:
        find(name)
        os.environ[VARIABLE] = name


@contextmanager
def following(run: RunDirectory) -> Iterator[None]:
    """Log live, where asked for, what the block measures; the metrics must hold what still counts, no more."""
    name = os.environ.get(VARIABLE)
    if not name:
        yield
        return
    logs: list[LiveLog] = []

    def report(error: Exception) -> None:
        logs.clear()
        print(f"live log {name} left alone: {type(error).__name__}: {error}", file=sys.stderr)

    def log(row: Row) -> None:
        for found in list(logs):
            try:
                found.log(row)
            except Exception as error:
                report(error)

    try:
        logs.append(find(name)(run.path))
        logs[0].start(run.metrics.read())
    except Exception as error:
        report(error)
    run.metrics.on_append = log
    try:
        yield
    finally:
        for found in list(logs):
            try:
                found.close()
            except Exception as error:
                report(error)
