"""Results as tables: every measurement of a results folder in one tidy frame, and every run in another.

Reads what the run store wrote and never writes there. Nothing is dropped silently: a failed, unfinished, damaged
or missing run is a row of ``Results.runs``, and measurements up to a failure stay in ``Results.metrics``.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.csv
import pyarrow.parquet

from ailft_bench.durable import commit, fsync, storage_errors, temporary_beside
from ailft_bench.errors import UserError, nearest
from ailft_bench.found_runs import CELL, MEASURED, FoundRun, found_run
from ailft_bench.store import RunDirectory, RunSpec, runs

_LABEL = pa.dictionary(pa.int32(), pa.string())
#: The tidy table, one row a measurement. Labels are pandas categories: they repeat millions of times.
SCHEMA = pa.schema(
    [
        *((name, _LABEL) for name in (*CELL, "run_id")),
        ("seed", pa.int64()),
        *zip(MEASURED.names, MEASURED.types, strict=True),
    ]
)
#: The table of runs. ``state``: done, failed, running, waiting (interrupted or not begun), damaged
#: (a file of it cannot be read) or missing.
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
_LABELS = [column.name for column in SCHEMA if pa.types.is_dictionary(column.type)]


@dataclass(frozen=True)
class Results:
    """What a results folder holds.

    ``metrics`` has the columns of ``SCHEMA`` and ``runs`` those of ``RUN_COLUMNS``: in ``runs``,
    ``env_steps`` is the last step with a measurement and ``budget`` the step to reach. A seed that another
    algorithm of the same suite and scale has and this one has not is a row with state ``missing``; its
    ``run_id`` is empty, as is that of a run whose ``run.json`` is damaged. ``superseded`` marks runs of another
    configuration under the same label (the one that was asked for last counts); their measurements are kept,
    figures leave them out and say so. ``specs`` says what each ``run_id`` is, up to labels: one id, which is the
    science, may stand under several.
    """

    metrics: pd.DataFrame
    runs: pd.DataFrame
    specs: dict[str, RunSpec] = field(default_factory=dict)


def load_results(
    results_dir: Path,
    suite: str | None = None,
    scale: str | None = None,
    only: Callable[[str], bool] = lambda metric: True,
    without: Collection[str] = (),
) -> Results:
    """Read all runs below ``results_dir``, or those of one suite and scale.

    Of metrics those are read that ``only`` accepts, and of columns those that are not in ``without``. A run with
    a damaged file is one of state ``damaged`` without measurements.

    Raises:
        UserError: no such suite or scale, or no run at all.
    """
    found: dict[tuple[str, ...], FoundRun] = {}
    for directory in _find(results_dir, suite, scale):
        run = found_run(directory)
        known = found.get(run.key)
        # A folder that was copied holds the same run twice: the finished copy counts.
        if known is None or (known.state != "done" and run.state == "done"):
            found[run.key] = run
    metrics, read, last_steps = _read_metrics(found.values(), only, without)
    superseded = _superseded(read)
    rows = [
        {
            **dict(zip(CELL, run.cell, strict=True)),
            "run_id": run.run_id,
            "seed": run.seed,
            "state": run.state,
            "env_steps": last_step,
            "budget": 0 if run.spec is None else run.spec.env_steps,
            "superseded": run.key in superseded,
            "reason": run.reason,
            "directory": str(run.directory.path),
        }
        for run, last_step in zip(read, last_steps, strict=True)
    ]
    table = pd.DataFrame(rows + _missing(rows), columns=list(RUN_COLUMNS)).astype(RUN_COLUMNS)
    table = table.sort_values([*CELL, "seed"], kind="stable", ignore_index=True)
    return Results(metrics, table, {run.run_id: run.spec for run in read if run.spec is not None})


def specs_of(table: pd.DataFrame) -> list[RunSpec]:
    """Return what each run of a table of runs is, under its own label; of those alone whose ``run.json`` is whole."""
    return [RunDirectory(Path(run.directory)).spec for run in table.itertuples() if run.run_id]


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
                pa.parquet.write_table(table, temporary, compression="zstd", compression_level=9)
            else:
                pa.csv.write_csv(table, temporary)
            fsync(temporary)
            commit(temporary, path)
        finally:
            temporary.unlink(missing_ok=True)
    return path


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


def _read_metrics(
    found: Iterable[FoundRun], only: Callable[[str], bool], without: Collection[str]
) -> tuple[pd.DataFrame, list[FoundRun], list[int]]:
    """Read all measurements into one frame; return it, the runs (now known to be whole or not), their last steps.

    Column by column and run by run: millions of rows are held once, and labels as small integers.
    """
    labels: dict[str, dict[str, int]] = {name: {} for name in ("metric", "phase")}
    columns = {
        name: _Column(np.int16 if name in labels else SCHEMA.field(name).type.to_pandas_dtype())
        for name in MEASURED.names
        if name not in without
    }
    read: list[FoundRun] = []
    counts, last_steps = [], []
    for run in found:
        try:
            table = run.measurements()
            read.append(run)
        except UserError as error:
            table = MEASURED.empty_table()
            read.append(run.damaged(str(error)))
        metrics = table["metric"].combine_chunks()
        wanted = np.array([only(name) for name in metrics.dictionary.to_pylist()], dtype=bool)
        rows = np.flatnonzero(wanted[metrics.indices.to_numpy()]) if wanted.size else np.empty(0, np.int64)
        counts.append(rows.size)
        last_steps.append(int(table["env_step"].to_numpy().max(initial=0)))
        for name, column in columns.items():
            if name not in labels:
                column.append(table[name].to_numpy()[rows])
            elif rows.size:
                known, coded = labels[name], table[name].combine_chunks()
                codes = [known.setdefault(label, len(known)) for label in coded.dictionary.to_pylist()]
                column.append(np.array(codes)[coded.indices.to_numpy()[rows]])
    frame: dict[str, Any] = {}
    of_runs: list[dict[str, Any]] = [
        {**dict(zip(CELL, run.cell, strict=True)), "run_id": run.run_id, "seed": run.seed} for run in read
    ]
    for name in SCHEMA.names:
        if name in columns:
            values = columns.pop(name).finish()
            frame[name] = _labelled(values, labels[name]) if name in labels else values
        elif name in _LABELS:
            known = {label: code for code, label in enumerate(dict.fromkeys(run[name] for run in of_runs))}
            codes_of_runs = np.array([known[run[name]] for run in of_runs], np.min_scalar_type(-1 - len(known)))
            frame[name] = _labelled(np.repeat(codes_of_runs, counts), known)
        elif name not in without:
            frame[name] = np.repeat(np.array([run[name] for run in of_runs]), counts)
    return pd.DataFrame(frame, copy=False), read, last_steps


def _labelled(codes: np.ndarray, labels: Iterable[str]) -> Any:
    return pd.Categorical.from_codes(codes, dtype=pd.CategoricalDtype(list(labels)))


class _Column:
    """An array that grows in place: many small pieces would take their memory twice."""

    def __init__(self, kind: type[np.generic]) -> None:
        self._array, self._used = np.empty(1024, kind), 0

    def append(self, values: np.ndarray) -> None:
        end = self._used + values.size
        if end > self._array.size:
            self._array.resize(max(end, 2 * self._array.size), refcheck=False)
        self._array[self._used : end] = values
        self._used = end

    def finish(self) -> np.ndarray:
        self._array.resize(self._used, refcheck=False)
        return self._array


def _superseded(found: Iterable[FoundRun]) -> set[tuple[str, ...]]:
    """Return the runs that figures leave out.

    Under one label only one configuration may be averaged, the one that was asked for last, and of it one run a
    seed: a finished one before others, then the newest. A run whose configuration is damaged counts where its seed
    has no other.
    """
    cells: dict[tuple[str, ...], list[FoundRun]] = {}
    for run in found:
        cells.setdefault(run.cell, []).append(run)
    superseded = set()
    for members in cells.values():
        members.sort(key=lambda run: (run.directory.asked_at, run.run_id) if run.spec else (-1.0, ""), reverse=True)
        newest, seeds = members[0].configuration, set()
        for run in sorted(members, key=lambda run: (run.spec is None, run.state != "done")):
            if run.configuration not in (newest, None) or run.seed in seeds:
                superseded.add(run.key)
            else:
                seeds.add(run.seed)
    return superseded


def _missing(rows: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """Return a row for each seed that some cell of a suite and scale has, and another cell has not."""
    seeds: dict[tuple[str, str], set[int]] = {}
    cells: dict[tuple[str, ...], dict[int, dict[str, Any]]] = {}
    others = {(*(row[key] for key in CELL), row["seed"]) for row in rows if row["superseded"]}
    for row in rows:
        if not row["superseded"]:
            seeds.setdefault((row["suite"], row["scale"]), set()).add(row["seed"])
            cells.setdefault(tuple(row[key] for key in CELL), {})[row["seed"]] = row
    absent = {"run_id": "", "state": "missing", "env_steps": 0, "directory": ""}
    reasons = {False: "never started", True: "there in another configuration alone"}
    return [
        {**next(iter(present.values())), **absent, "seed": seed, "reason": reasons[(*cell, seed) in others]}
        for cell, present in cells.items()
        for seed in sorted(seeds[cell[0], cell[1]] - present.keys())
    ]
