"""The metrics of one run: an append-only file of JSON lines, and the tidy table made of it."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, TypedDict

from ailft_bench.durable import storage_errors
from ailft_bench.errors import UserError
from ailft_bench.store.lease import LeaseLostError

if TYPE_CHECKING:
    import pyarrow

Phase = Literal["train", "eval"]


class Row(TypedDict):
    """One measurement moment: all metrics that were measured then."""

    phase: Phase
    env_step: int
    episode: int
    wall_time_s: float
    metrics: dict[str, float]


class MetricsLog:
    """``metrics.jsonl``: one JSON object a line, in the order of measurement.

    A kill can tear the last line only: readers skip it, and the next writer cuts it off. A checkpoint
    remembers ``size()``; a resumed run calls ``truncate`` with it and measures again what came after.
    """

    def __init__(self, path: Path, before_write: Callable[[], None] = lambda: None) -> None:
        self.path = path
        #: Called with each row once it is written.
        self.on_append: Callable[[Row], None] = lambda row: None
        self._before_write = before_write
        self._end: int | None = None

    def append(
        self, phase: Phase, env_step: int, episode: int, metrics: Mapping[str, float], wall_time_s: float
    ) -> None:
        """Add one line. NaN and infinities are kept: a diverged run must show.

        Raises:
            LeaseLostError: another process writes this file.
            StorageError: the file system refused; the line is not counted as written.
        """
        row = Row(
            phase=phase,
            env_step=int(env_step),
            episode=int(episode),
            wall_time_s=float(wall_time_s),
            metrics={name: float(value) for name, value in metrics.items()},
        )
        line = (json.dumps(row) + "\n").encode()
        self._before_write()
        with storage_errors(self.path), open(self.path, "ab", buffering=0) as file:
            end = os.fstat(file.fileno()).st_size
            if self._end is None:
                end = self._end = _end_of_last_line(self.path)
                os.ftruncate(file.fileno(), end)
            if end != self._end:
                raise LeaseLostError(f"{self.path}: written by another process; this one stops")
            written = 0
            try:
                while written < len(line):
                    written += file.write(line[written:])
            except OSError:
                os.ftruncate(file.fileno(), end)
                raise
            self._end = end + len(line)
        self.on_append(row)

    def size(self) -> int:
        """Return the length in bytes of all whole lines, which are on the disk when this returns."""
        if not self.path.exists():
            return 0
        with storage_errors(self.path), open(self.path, "rb") as file:
            os.fsync(file.fileno())
        return _end_of_last_line(self.path)

    def truncate(self, size: int) -> None:
        """Forget every line after the first ``size`` bytes.

        Raises:
            UserError: the file is shorter than that: it was changed by hand or damaged.
        """
        self._before_write()
        with storage_errors(self.path), open(self.path, "ab") as file:
            actual = os.fstat(file.fileno()).st_size
            if actual < size:
                raise UserError(
                    f"{self.path}: {actual} bytes, but the checkpoint was made when it had {size}; "
                    "it was changed or damaged: delete this run's folder to start it again"
                )
            os.ftruncate(file.fileno(), size)
            os.fsync(file.fileno())
        self._end = size

    def read(self) -> list[Row]:
        """Return all whole lines.

        Raises:
            UserError: a line other than the last is broken; names it.
        """
        try:
            content = self.path.read_bytes()
        except FileNotFoundError:
            return []
        rows: list[Row] = []
        for number, line in enumerate(content.split(b"\n")[:-1], start=1):
            try:
                rows.append(json.loads(line))
            except ValueError as error:
                raise UserError(f"{self.path}, line {number}: not valid JSON ({error})") from error
        return rows


def _end_of_last_line(path: Path) -> int:
    """Return the offset just after the last newline, reading backwards."""
    block = 65536
    with open(path, "rb") as file:
        end = file.seek(0, os.SEEK_END)
        while end > 0:
            start = max(0, end - block)
            file.seek(start)
            newline = file.read(end - start).rfind(b"\n")
            if newline >= 0:
                return start + newline + 1
            end = start
    return 0


def tidy(labels: Mapping[str, Any], rows: Sequence[Row]) -> pyarrow.Table:
    """Return the results table: one row a metric, in the order of measurement.

    ``labels`` holds suite, scale, algorithm, variant, run_id and seed. Pretraining has several rows at
    environment step 0; their ``time/updates`` tells them apart.
    """
    import pyarrow

    seen = [
        (row["phase"], row["env_step"], row["episode"], name, value, row["wall_time_s"])
        for row in rows
        for name, value in row["metrics"].items()
    ]
    count = len(seen)
    text, integer, real = pyarrow.string(), pyarrow.int64(), pyarrow.float64()
    columns: dict[str, tuple[Sequence[Any], pyarrow.DataType]] = {
        "suite": ([labels["suite"]] * count, text),
        "scale": ([labels["scale"]] * count, text),
        "algorithm": ([labels["algorithm"]] * count, text),
        "variant": ([labels["variant"]] * count, text),
        "run_id": ([labels["run_id"]] * count, text),
        "seed": ([labels["seed"]] * count, integer),
        "phase": ([row[0] for row in seen], text),
        "env_step": ([row[1] for row in seen], integer),
        "episode": ([row[2] for row in seen], integer),
        "metric": ([row[3] for row in seen], text),
        "value": ([row[4] for row in seen], real),
        "wall_time_s": ([row[5] for row in seen], real),
    }
    return pyarrow.table({name: pyarrow.array(values, kind) for name, (values, kind) in columns.items()})
