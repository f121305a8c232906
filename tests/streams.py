"""What a run measured, without what a clock measured: equal for runs that computed the same."""

from __future__ import annotations

from typing import Any

import pyarrow
import pyarrow.parquet

from ailft_bench.store import RunDirectory
from ailft_bench.store.metrics import Row


def stream(run: RunDirectory) -> list[Any]:
    def clean(row: Row) -> Any:
        metrics = {name: value for name, value in row["metrics"].items() if not name.startswith("time/")}
        return row["phase"], row["env_step"], row["episode"], metrics

    return [clean(row) for row in run.metrics.read()]


def table(run: RunDirectory) -> pyarrow.Table:
    """The tidy table of a finished run."""
    return pyarrow.parquet.read_table(run.path / "result.parquet")


def result(run: RunDirectory) -> list[Any]:
    """The same of the result that counts."""
    rows = table(run).select(["run_id", "phase", "env_step", "episode", "metric", "value"]).to_pylist()
    return [tuple(row.values()) for row in rows if not row["metric"].startswith("time/")]
