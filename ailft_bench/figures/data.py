"""The numbers behind figures: what is drawn is a table first, and that table is saved beside the figure."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any, NamedTuple

import numpy as np
import pandas as pd

from ailft_bench.results import Results
from ailft_bench.seeding import branch
from ailft_bench.statistics import Floats, mean_band, step_curve
from ailft_bench.store import RunSpec

#: Columns of a figure's table. ``series``: mean (a point of a thick line, with its interval and the number of
#: runs in it), seed (one run), final (mean of the last evaluations of finished runs) or reference.
COLUMNS = ["metric", "algorithm", "variant", "series", "seed", "env_step", "value", "low", "high", "runs"]
#: Curves with more points than this are sampled at so many steps; values are carried forward.
MAX_POINTS = 200
#: Up to so many seeds each run is drawn as a thin line.
MOST_THIN_LINES = 10
_RUN = ["suite", "scale", "algorithm", "variant", "run_id"]
_ORDER = ("conservative", "vmail", "bc", "no_ail", "cmil", "vmail_original")


class Cell(NamedTuple):
    """One line of a figure: an algorithm in one variant."""

    algorithm: str
    variant: str

    @property
    def label(self) -> str:
        """``algorithm`` or ``algorithm+variant``."""
        return self.algorithm if self.variant == "default" else f"{self.algorithm}+{self.variant}"


@dataclass(frozen=True)
class Comparison:
    """One suite at one scale: what one figure may show together. Superseded runs are only counted.

    ``metrics`` may hold other suites and scales too: what is not of ``runs`` is left out.
    """

    suite: str
    scale: str
    metrics: pd.DataFrame
    runs: pd.DataFrame
    specs: Mapping[str, RunSpec]
    superseded: int

    @cached_property
    def cells(self) -> list[Cell]:
        """The lines, the project's own methods first."""
        found = {Cell(*pair) for pair in self.runs[["algorithm", "variant"]].itertuples(index=False)}
        rank = {name: place for place, name in enumerate(_ORDER)}

        def order(cell: Cell) -> tuple[int, str, bool, str]:
            return (
                rank.get(cell.algorithm, len(rank)),
                cell.algorithm,
                cell.variant != "default",
                cell.variant,
            )

        return sorted(found, key=order)

    @property
    def budget(self) -> int:
        """Environment steps of the longest run."""
        return int(self.runs["budget"].max())

    def runs_of(self, cell: Cell) -> pd.DataFrame:
        """Return the runs of one line, missing ones included."""
        return self.runs[(self.runs["algorithm"] == cell.algorithm) & (self.runs["variant"] == cell.variant)]

    def seeds(self, cell: Cell) -> str:
        """Return for example ``4/5 seeds``: finished of wanted."""
        runs = self.runs_of(cell)
        return f"{(runs['state'] == 'done').sum()}/{len(runs)} seeds"

    def is_offline(self, cell: Cell) -> bool:
        """Whether the algorithm learns from the demonstrations alone, without an environment step."""
        return not self.spec_of(cell).agent.get("online", True)

    def spec_of(self, cell: Cell) -> RunSpec:
        """Return the specification of one of the line's runs; they differ in the seed alone."""
        return next(self.specs[run_id] for run_id in self.runs_of(cell)["run_id"] if run_id)

    def finished(self, cell: Cell) -> set[int]:
        """Return the seeds of one line that are done."""
        runs = self.runs_of(cell)
        return set(runs.loc[runs["state"] == "done", "seed"])

    def online(self) -> Comparison:
        """Return the comparison without the algorithms that take no environment steps."""
        offline = {cell for cell in self.cells if self.is_offline(cell)}
        pairs = zip(self.runs["algorithm"], self.runs["variant"], strict=True)
        return replace(self, runs=self.runs[[pair not in offline for pair in pairs]])

    def names(self, prefix: str) -> list[str]:
        """Return the ``<name>`` of all evaluation metrics ``prefix<name>``, in the order of measurement."""
        first: dict[str, int] = {}
        for (_, phase, metric), places in self._places.items():
            if phase == "eval" and metric.startswith(prefix):
                first[metric] = min(first.get(metric, places[0]), places[0])
        return [metric.removeprefix(prefix) for metric in sorted(first, key=lambda metric: first[metric])]

    def rows(self, cell: Cell, phase: str, metric: str) -> pd.DataFrame:
        """Return the measurements (seed, env_step, value) of one metric of one line."""
        places = self._places.get((cell, phase, metric), [])
        return pd.DataFrame({name: self.metrics[name].to_numpy()[places] for name in ("seed", "env_step", "value")})

    @cached_property
    def _places(self) -> dict[tuple[Cell, str, str], Any]:
        """Row numbers of ``metrics`` by line, phase and metric, other runs left out.

        There may be millions of rows: they are sorted once, by small integers, and never copied as a whole.
        """
        lines = {Cell(*pair): place for place, pair in enumerate(self.cells)}
        rows = zip(*(self.runs[name] for name in _RUN), strict=True)
        line_of = {run: lines[Cell(*run[2:4])] for run in rows}
        labels = [self.metrics[name].cat for name in _RUN]
        codes = [column.codes.to_numpy() for column in labels]
        # A run's rows lie together.
        changes = np.zeros(len(self.metrics), bool)
        for code in codes:
            changes |= np.diff(code, prepend=-1) != 0
        starts = np.flatnonzero(changes)
        found = [
            line_of.get(tuple(column.categories[code[start]] for column, code in zip(labels, codes, strict=True)), -1)
            for start in starts
        ]
        phase, metric = self.metrics["phase"].cat, self.metrics["metric"].cat
        sizes = len(phase.categories), len(metric.categories)
        small = np.min_scalar_type(-1 - len(lines) * sizes[0] * sizes[1])
        line = np.repeat(np.array(found, small), np.diff(np.append(starts, len(self.metrics))))
        key = ((line * sizes[0] + phase.codes.to_numpy()) * sizes[1] + metric.codes.to_numpy()).astype(small)
        key[line < 0] = -1
        order = np.argsort(key, kind="stable")
        ordered = key[order]
        begins = np.flatnonzero(np.diff(ordered, prepend=-2))
        places = {}
        for begin, part in zip(begins, np.split(order, begins[1:]), strict=True):
            if ordered[begin] >= 0:
                rest, name = divmod(int(ordered[begin]), sizes[1])
                cell, kind = divmod(rest, sizes[0])
                places[self.cells[cell], phase.categories[kind], metric.categories[name]] = part
        return places

    def final_rows(self, cell: Cell, metric: str) -> pd.DataFrame:
        """Return the last evaluation (seed, value) of each finished run of one line."""
        rows = self.rows(cell, "eval", metric).drop_duplicates("seed", keep="last").sort_values("seed")
        return rows.loc[rows["seed"].isin(self.finished(cell)), ["seed", "value"]]


def comparisons(results: Results) -> Iterator[Comparison]:
    """Split results by suite and scale; those without a single evaluation are left out."""
    for (suite, scale), runs in results.runs.groupby(["suite", "scale"]):
        current = runs[~runs["superseded"]]
        found = Comparison(str(suite), str(scale), results.metrics, current, results.specs, len(runs) - len(current))
        if found.names(""):
            yield found


def curve_table(comparison: Comparison, metric: str, cell: Cell, rows: pd.DataFrame) -> pd.DataFrame:
    """Return each run's curve and their mean with its band; ``rows`` has seed, env_step and value.

    More than ``MOST_THIN_LINES`` runs are not drawn one by one: their mean and band alone are returned.
    """
    grid = np.unique(rows["env_step"])
    if grid.size > MAX_POINTS:
        grid = np.unique(np.linspace(grid[0], grid[-1], MAX_POINTS).astype(np.int64))
    ordered = rows.sort_values("seed", kind="stable")
    seeds, begins = np.unique(ordered["seed"].to_numpy(), return_index=True)
    parts = (np.split(ordered[name].to_numpy(), begins[1:]) for name in ("env_step", "value"))
    curves = np.array([step_curve(steps, values, grid) for steps, values in zip(*parts, strict=True)])
    shown = zip(seeds, curves, strict=True) if 0 < len(seeds) <= MOST_THIN_LINES else ()
    tables = [series(metric, cell, "seed", grid, curve, seed=seed)[~np.isnan(curve)] for seed, curve in shown]
    if len(seeds):
        runs = (~np.isnan(curves)).sum(axis=0)
        low, high = mean_band(curves, rng_for(comparison, metric, cell))
        average = np.nansum(curves, axis=0) / np.maximum(runs, 1)
        average[runs == 0] = np.nan
        tables.append(series(metric, cell, "mean", grid, average, low=low, high=high, runs=runs)[runs > 0])
    return concatenate(tables)


def final_table(comparison: Comparison, metric: str, cell: Cell) -> pd.DataFrame:
    """Return the last evaluation of each finished run, and their mean with its interval."""
    return estimate_table(comparison, metric, cell, comparison.final_rows(cell, metric).set_index("seed")["value"])


def estimate_table(comparison: Comparison, metric: str, cell: Cell, by_seed: pd.Series) -> pd.DataFrame:
    """Return one number a run (indexed by seed), and their mean with its interval as series ``final``."""
    if by_seed.empty:
        return concatenate([])
    values = by_seed.to_numpy()
    low, high = mean_band(values[:, None], rng_for(comparison, metric, cell))
    return concatenate(
        [
            series(metric, cell, "seed", np.nan, values, seed=by_seed.index.to_numpy()),
            series(metric, cell, "final", np.nan, [values.mean()], low=low, high=high, runs=len(values)),
        ]
    )


def finals(table: pd.DataFrame) -> Floats:
    """Return value, low and high (n, 3) of the final means in a table."""
    return table.loc[table["series"] == "final", ["value", "low", "high"]].to_numpy(np.float64)


def learning_table(
    comparison: Comparison, metrics: Sequence[str], references: Mapping[str, Mapping[str, float]]
) -> pd.DataFrame:
    """Return all that a learning-curve figure of ``metrics`` shows."""
    tables = [reference_table(metric, references) for metric in metrics]
    for metric in metrics:
        for cell in comparison.cells:
            if comparison.is_offline(cell):
                tables.append(final_table(comparison, metric, cell))
            else:
                tables.append(curve_table(comparison, metric, cell, comparison.rows(cell, "eval", metric)))
    return concatenate(tables)


def reference_table(metric: str, references: Mapping[str, Mapping[str, float]]) -> pd.DataFrame:
    """Return the reference lines of one metric, those that were measured."""
    known = {name: values[metric] for name, values in references.items() if metric in values}
    return concatenate([series(metric, Cell(name, ""), "reference", np.nan, [value]) for name, value in known.items()])


def cost_rate_table(comparison: Comparison, references: Mapping[str, Mapping[str, float]]) -> pd.DataFrame:
    """Return violating steps so far / environment steps so far, in training, of each run and on average."""
    rates = {
        name: {"cost_rate": values["cost"] / values["episode_length"]}
        for name, values in references.items()
        if "cost" in values and values.get("episode_length")
    }
    tables = [reference_table("cost_rate", rates)]
    for cell in comparison.cells:
        rows = _costs_so_far(comparison, cell)
        rate = rows.assign(value=rows["value"] / rows["env_step"])
        tables.append(curve_table(comparison, "cost_rate", cell, rate))
    return concatenate(tables)


def cumulative_cost_table(comparison: Comparison) -> pd.DataFrame:
    """Return violating steps so far, in training, of each run and on average."""
    return concatenate(
        [curve_table(comparison, "cumulative_cost", cell, _costs_so_far(comparison, cell)) for cell in comparison.cells]
    )


def _costs_so_far(comparison: Comparison, cell: Cell) -> pd.DataFrame:
    rows = comparison.rows(cell, "train", "cost").query("env_step > 0").sort_values("env_step", kind="stable")
    return rows.assign(value=rows.groupby("seed")["value"].cumsum())


def series(
    metric: str,
    cell: Cell,
    kind: str,
    steps: object,
    values: object,
    **columns: object,
) -> pd.DataFrame:
    """Return rows of a figure's table that share metric, line and kind of row."""
    labels = {"metric": metric, "algorithm": cell.algorithm, "variant": cell.variant, "series": kind}
    return pd.DataFrame({"env_step": steps, "value": values, **columns}).assign(**labels)


def concatenate(tables: Sequence[pd.DataFrame]) -> pd.DataFrame:
    """Join tables of one figure: all ``COLUMNS`` in their order and types, even without a row."""
    filled = [table for table in tables if not table.empty]
    table = pd.concat(filled) if filled else pd.DataFrame()
    kinds = {
        "seed": "Int64",
        "env_step": "Int64",
        "runs": "Int64",
        "value": "float64",
        "low": "float64",
        "high": "float64",
    }
    return table.reindex(columns=COLUMNS).astype(kinds).reset_index(drop=True)


def rng_for(comparison: Comparison, metric: str, cell: Cell) -> np.random.Generator:
    """Return a stream that depends on what is drawn alone: one more algorithm moves no other's band."""
    return np.random.default_rng(branch(0, "figures", comparison.suite, comparison.scale, metric, cell.label))
