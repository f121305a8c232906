"""Runs as found on disk: labels, state and measurements, each read once; what is damaged says so and stops nothing."""

from __future__ import annotations

import json
from dataclasses import dataclass, replace

import pyarrow as pa
import pyarrow.parquet

from ailft_bench.errors import UserError
from ailft_bench.store import RunDirectory, RunSpec
from ailft_bench.store.metrics import tidy

_LABEL = pa.dictionary(pa.int32(), pa.string())
#: What one run's tables hold of a measurement.
MEASURED = pa.schema(
    [
        ("phase", _LABEL),
        ("env_step", pa.int64()),
        ("episode", pa.int64()),
        ("metric", _LABEL),
        ("value", pa.float64()),
        ("wall_time_s", pa.float64()),
    ]
)
CELL = ("suite", "scale", "algorithm", "variant")
#: What must be equal in runs that are averaged, besides the demonstrations.
_SCIENCE = {"method", "environment", "env_steps", "evaluation", "agent"}


@dataclass(frozen=True)
class FoundRun:
    """One run; its state is read once, so that a run that ends meanwhile is not seen twice.

    ``cell`` and ``seed`` come from ``spec``; where that is damaged (None), from the folders' names.
    """

    directory: RunDirectory
    spec: RunSpec | None
    cell: tuple[str, ...]
    seed: int
    state: str
    reason: str

    @property
    def run_id(self) -> str:
        """The run's id, empty where it is not known."""
        return "" if self.spec is None else self.spec.run_id

    @property
    def key(self) -> tuple[str, ...]:
        """Cell and id: the id says what the science is, and that may stand under two labels."""
        return (*self.cell, self.run_id or str(self.directory.path))

    @property
    def configuration(self) -> str | None:
        """What must be equal in runs that are averaged."""
        if self.spec is None:
            return None
        science = self.spec.model_dump(include=_SCIENCE)
        return json.dumps([science, self.spec.demonstrations.get("checksum")], sort_keys=True)

    def damaged(self, reason: str) -> FoundRun:
        """Return this run as one that cannot be read."""
        return replace(self, state="damaged", reason=reason)

    def measurements(self) -> pa.Table:
        """Return what was measured, in the schema ``MEASURED``; nothing of a damaged run.

        Raises:
            UserError: the result of a finished run or the log of another one is damaged.
        """
        if self.spec is None:
            return MEASURED.empty_table()
        if self.state != "done":
            try:
                rows = self.directory.metrics.read()
                return tidy(self.spec.model_dump(), rows).select(MEASURED.names).cast(MEASURED)
            except (LookupError, TypeError, ValueError, AttributeError, OverflowError, OSError) as error:
                raise UserError(f"{self.directory.metrics.path}: not a log of measurements ({error})") from error
        path = self.directory.path / "result.parquet"
        try:
            table = pa.parquet.ParquetFile(path, read_dictionary=["phase", "metric"]).read(MEASURED.names)
            return table.select(MEASURED.names)
        except (pa.ArrowException, OSError, LookupError) as error:
            raise UserError(f"{path}: cannot be read ({error}); move its folder away to run it again") from error


def found_run(directory: RunDirectory) -> FoundRun:
    """Look at one run."""
    try:
        spec, state = directory.spec, directory.state
    except (UserError, ValueError) as error:
        suite, scale, label, folder = directory.path.parts[-4:]
        algorithm, _, variant = label.partition("+")
        number = folder.split("-")[1]
        cell, seed = (suite, scale, algorithm, variant or "default"), int(number) if number.isdigit() else -1
        return FoundRun(directory, None, cell, seed, "damaged", str(error))
    failure = directory.failure if state == "failed" else None
    cell = tuple(getattr(spec, name) for name in CELL)
    return FoundRun(directory, spec, cell, spec.seed, state, "" if failure is None else failure.reason)
