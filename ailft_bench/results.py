"""Results as tables: every measurement of a results folder in one tidy frame, and every run in another.

Reads what the run store wrote and never writes there. Nothing is dropped silently: a failed, unfinished or
missing run is a row of ``Results.runs``, and its measurements up to the failure stay in ``Results.metrics``.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pandas as pd
import pyarrow as pa
import pyarrow.csv
import pyarrow.dataset
import pyarrow.parquet

from ailft_bench.durable import commit, fsync, storage_errors, temporary_beside
from ailft_bench.errors import UserError, nearest
from ailft_bench.metrics import tidy
from ailft_bench.store import RunDirectory, RunSpec, runs

_LABEL = pa.dictionary(pa.int32(), pa.string())
#: The tidy table, one row a measurement. Labels are pandas categories: they repeat millions of times.
SCHEMA = pa.schema(
    [
        ("suite", _LABEL),
        ("scale", _LABEL),
        ("algorithm", _LABEL),
        ("variant", _LABEL),
        ("run_id", _LABEL),
        ("seed", pa.int64()),
        ("phase", _LABEL),
        ("env_step", pa.int64()),
        ("episode", pa.int64()),
        ("metric", _LABEL),
        ("value", pa.float64()),
        ("wall_time_s", pa.float64()),
    ]
)
#: The table of runs. ``state``: done, failed, running, waiting (interrupted or not begun) or missing.
RUN_COLUMNS = {
    "run_id": "str",
    "suite": "str",
    "scale": "str",
    "algorithm": "str",
    "variant": "str",
    "seed": "int64",
    "state": "str",
    "env_steps": "int64",
    "budget": "int64",
    "superseded": "bool",
    "reason": "str",
    "directory": "str",
}
FORMATS = ("parquet", "csv")
_CELL = ["suite", "scale", "algorithm", "variant"]
#: What must be equal in runs that are averaged, besides the demonstrations.
_SCIENCE = {"method", "environment", "env_steps", "evaluation", "agent"}


@dataclass(frozen=True)
class Results:
    """What a results folder holds.

    ``metrics`` has the columns of ``SCHEMA`` and ``runs`` those of ``RUN_COLUMNS``: in ``runs``,
    ``env_steps`` is the last step with a measurement and ``budget`` the step to reach. A seed that another
    algorithm of the same suite and scale has and this one has not is a row with state ``missing`` and an
    empty ``run_id``. ``superseded`` marks runs of an older configuration under the same label (the newest
    counts); their measurements are kept, figures leave them out and say so. ``specs`` says what each
    ``run_id`` is, up to labels: one id, which is the science, may stand under several.
    """

    metrics: pd.DataFrame
    runs: pd.DataFrame
    specs: dict[str, RunSpec] = field(default_factory=dict)


def load_results(results_dir: Path, suite: str | None = None, scale: str | None = None) -> Results:
    """Read all runs below ``results_dir``, or those of one suite and scale.

    Raises:
        UserError: no such suite or scale, no run at all, or a damaged file (named).
    """
    found: dict[tuple[str, ...], _Run] = {}
    for directory in _find(results_dir, suite, scale):
        run = _Run(directory, directory.spec, directory.state)
        known = found.get(run.key)
        # A folder that was copied holds the same run twice: the finished copy counts.
        if known is None or (known.state != "done" and run.state == "done"):
            found[run.key] = run
    metrics = _read_metrics(list(found.values()))
    by_run = metrics.groupby([*_CELL, "run_id"], observed=True, sort=False)
    reached = by_run["env_step"].max().to_dict()
    superseded = _superseded(found.values())
    rows = [
        {
            **{name: getattr(run.spec, name) for name in ("run_id", *_CELL, "seed")},
            "state": run.state,
            "env_steps": reached.get(key, 0),
            "budget": run.spec.env_steps,
            "superseded": key in superseded,
            "reason": run.reason,
            "directory": str(run.directory.path),
        }
        for key, run in found.items()
    ]
    table = pd.DataFrame(rows + _missing(rows), columns=list(RUN_COLUMNS)).astype(RUN_COLUMNS)
    table = table.sort_values([*_CELL, "seed"], kind="stable", ignore_index=True)
    return Results(metrics, table, {run.spec.run_id: run.spec for run in found.values()})


def newest_suite(results_dir: Path) -> str:
    """Return the suite whose runs were written to last.

    Raises:
        UserError: there is no run below ``results_dir``.
    """

    def last_written(run: RunDirectory) -> float:
        files = (run.path / name for name in ("run.json", "metrics.jsonl", "done"))
        return max(file.stat().st_mtime for file in files if file.exists())

    return max(_find(results_dir), key=last_written).path.parents[2].name


def write_table(frame: pd.DataFrame, path: Path, format: str | None = None) -> Path:
    """Write ``frame`` to ``path`` in one step, as ``parquet`` or ``csv`` (None: as the suffix says).

    Labels are written as plain strings, so that any reader of these formats takes them.

    Raises:
        UserError: no such format, or the file system refused.
    """
    chosen = format or path.suffix.removeprefix(".")
    if chosen not in FORMATS:
        raise UserError(f"{path}: no export format {chosen!r}; {nearest(chosen, FORMATS)}")
    table = pa.Table.from_pandas(frame, preserve_index=False).replace_schema_metadata()
    plain = [f.with_type(pa.string()) if pa.types.is_dictionary(f.type) else f for f in table.schema]
    table = table.cast(pa.schema(plain))
    with storage_errors(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        temporary = temporary_beside(path)
        try:
            if chosen == "parquet":
                pa.parquet.write_table(table, temporary)
            else:
                pa.csv.write_csv(table, temporary)
            fsync(temporary)
            commit(temporary, path)
        finally:
            temporary.unlink(missing_ok=True)
    return path


@dataclass(frozen=True)
class _Run:
    """One run as found: its state is read once, so that a run that ends meanwhile is not seen twice."""

    directory: RunDirectory
    spec: RunSpec
    state: str

    @property
    def cell(self) -> tuple[str, ...]:
        return tuple(getattr(self.spec, name) for name in _CELL)

    @property
    def key(self) -> tuple[str, ...]:
        """Cell and id: the id says what the science is, and that may stand under two labels."""
        return (*self.cell, self.spec.run_id)

    @property
    def configuration(self) -> str:
        science = self.spec.model_dump(include=_SCIENCE)
        return json.dumps([science, self.spec.demonstrations.get("checksum")], sort_keys=True)

    @property
    def reason(self) -> str:
        failure = self.directory.failure if self.state == "failed" else None
        return "" if failure is None else failure.reason


def _find(results_dir: Path, suite: str | None = None, scale: str | None = None) -> list[RunDirectory]:
    found = list(runs(results_dir))
    for depth, kind, wanted in ((2, "suite", suite), (1, "scale", scale)):
        names = {run.path.parents[depth].name for run in found}
        if found and wanted is not None and wanted not in names:
            raise UserError(f"{results_dir}: no results of {kind} {wanted!r}; {nearest(wanted, names)}")
        found = [run for run in found if wanted in (None, run.path.parents[depth].name)]
    if not found:
        raise UserError(f"{results_dir}: no runs here yet; start some with: ailft-bench run {suite or 'SUITE'}")
    return found


def _read_metrics(found: Sequence[_Run]) -> pd.DataFrame:
    """Read the results of finished runs and the logs of the others into one frame."""
    finished = [str(run.directory.path / "result.parquet") for run in found if run.state == "done"]
    labels = [column.name for column in SCHEMA if pa.types.is_dictionary(column.type)]
    options = pa.dataset.ParquetReadOptions(dictionary_columns=labels)
    format = pa.dataset.ParquetFileFormat(read_options=options)
    try:
        tables = [pa.dataset.dataset(finished, schema=SCHEMA, format=format).to_table()]
    except (pa.ArrowInvalid, OSError) as error:
        raise UserError(f"a finished run cannot be read: {error}; move its folder away to run it again") from error
    for run in found:
        if run.state != "done":
            tables.append(tidy(run.spec.model_dump(), run.directory.metrics.read()).cast(SCHEMA))
    return pa.concat_tables(tables).unify_dictionaries().to_pandas()


def _superseded(found: Iterable[_Run]) -> set[tuple[str, ...]]:
    """Return the runs that figures leave out.

    Under one label only one configuration may be averaged, the newest, and of it one run a seed: a finished
    one before others, then the newest.
    """
    cells: dict[tuple[str, ...], list[_Run]] = {}
    for run in found:
        cells.setdefault(run.cell, []).append(run)
    superseded = set()
    for members in cells.values():
        members.sort(key=lambda run: (run.spec.created, run.spec.run_id), reverse=True)
        newest, seeds = members[0].configuration, set()
        for run in sorted(members, key=lambda run: run.state != "done"):
            if run.configuration != newest or run.spec.seed in seeds:
                superseded.add(run.key)
            else:
                seeds.add(run.spec.seed)
    return superseded


def _missing(rows: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """Return a row for each seed that some cell of a suite and scale has, and another cell has not."""
    seeds: dict[tuple[str, str], set[int]] = {}
    cells: dict[tuple[str, ...], dict[int, dict[str, Any]]] = {}
    for row in rows:
        if not row["superseded"]:
            seeds.setdefault((row["suite"], row["scale"]), set()).add(row["seed"])
            cells.setdefault(tuple(row[key] for key in _CELL), {})[row["seed"]] = row
    absent = {"run_id": "", "state": "missing", "env_steps": 0, "reason": "never started", "directory": ""}
    return [
        {**next(iter(present.values())), **absent, "seed": seed}
        for cell, present in cells.items()
        for seed in sorted(seeds[cell[0], cell[1]] - present.keys())
    ]
