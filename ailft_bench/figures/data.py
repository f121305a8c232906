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
MAX_POINTS = 500
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
    """One suite at one scale: what one figure may show together. Superseded runs are only counted."""

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
        spec = next(self.specs[run_id] for run_id in self.runs_of(cell)["run_id"] if run_id)
        return not spec.agent.get("online", True)

    def online(self) -> Comparison:
        """Return the comparison without the algorithms that take no environment steps."""
        offline = {cell for cell in self.cells if self.is_offline(cell)}
        pairs = zip(self.runs["algorithm"], self.runs["variant"], strict=True)
        return replace(self, runs=self.runs[[pair not in offline for pair in pairs]])

    def names(self, prefix: str) -> list[str]:
        """Return the ``<name>`` of all evaluation metrics ``prefix<name>``, in the order of measurement."""
        found = {metric: places[0] for (phase, metric), places in self._places.items() if phase == "eval"}
        ordered = sorted(found, key=lambda metric: found[metric])
        return [metric.removeprefix(prefix) for metric in ordered if metric.startswith(prefix)]

    @cached_property
    def _places(self) -> dict[Any, Any]:
        """Row numbers of ``metrics`` by phase and metric: there may be millions of rows."""
        return self.metrics.groupby(["phase", "metric"], observed=True).indices

    def rows(self, cell: Cell, phase: str, metric: str) -> pd.DataFrame:
        """Return the measurements (seed, env_step, value) of one metric of one line."""
        table = self.metrics.take(self._places.get((phase, metric), []))
        wanted = (table["algorithm"] == cell.algorithm) & (table["variant"] == cell.variant)
        wanted &= table["run_id"].isin(set(self.runs_of(cell)["run_id"]))
        return table.loc[wanted, ["seed", "env_step", "value"]]

    def final_rows(self, cell: Cell, metric: str) -> pd.DataFrame:
        """Return the last evaluation (seed, value) of each finished run of one line."""
        runs = self.runs_of(cell)
        finished = set(runs.loc[runs["state"] == "done", "seed"])
        rows = self.rows(cell, "eval", metric).drop_duplicates("seed", keep="last").sort_values("seed")
        return rows.loc[rows["seed"].isin(finished), ["seed", "value"]]


def comparisons(results: Results) -> Iterator[Comparison]:
    """Split results by suite and scale; those without a single evaluation are left out."""
    for suite, scale in sorted(set(zip(results.runs["suite"], results.runs["scale"], strict=True))):
        runs, metrics = (
            table[(table["suite"] == suite) & (table["scale"] == scale)] for table in (results.runs, results.metrics)
        )
        current = runs[~runs["superseded"]]
        evaluated = metrics.loc[metrics["phase"] == "eval", "run_id"].unique()
        if set(evaluated) & set(current["run_id"]):
            yield Comparison(suite, scale, metrics, current, results.specs, len(runs) - len(current))


def curve_table(comparison: Comparison, metric: str, cell: Cell, rows: pd.DataFrame) -> pd.DataFrame:
    """Return each run's curve and their mean with its band; ``rows`` has seed, env_step and value."""
    by_seed = dict(iter(rows.groupby("seed")))
    grid = np.unique(rows["env_step"])
    if grid.size > MAX_POINTS:
        grid = np.unique(np.linspace(grid[0], grid[-1], MAX_POINTS).astype(np.int64))
    curves = np.array([step_curve(group["env_step"], group["value"], grid) for group in by_seed.values()])
    tables = [
        _series(metric, cell, "seed", grid, curve, seed=seed)[~np.isnan(curve)]
        for seed, curve in zip(by_seed, curves, strict=True)
    ]
    if by_seed:
        runs = (~np.isnan(curves)).sum(axis=0)
        low, high = mean_band(curves, _rng(comparison, metric, cell))
        average = np.nansum(curves, axis=0) / np.maximum(runs, 1)
        average[runs == 0] = np.nan
        tables.append(_series(metric, cell, "mean", grid, average, low=low, high=high, runs=runs)[runs > 0])
    return _concatenate(tables)


def final_table(comparison: Comparison, metric: str, cell: Cell) -> pd.DataFrame:
    """Return the last evaluation of each finished run, and their mean with its interval."""
    final = comparison.final_rows(cell, metric)
    if final.empty:
        return _concatenate([])
    values = final["value"].to_numpy()
    low, high = mean_band(values[:, None], _rng(comparison, metric, cell))
    return _concatenate(
        [
            _series(metric, cell, "seed", np.nan, values, seed=final["seed"].to_numpy()),
            _series(metric, cell, "final", np.nan, [values.mean()], low=low, high=high, runs=len(values)),
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
    return _concatenate(tables)


def reference_table(metric: str, references: Mapping[str, Mapping[str, float]]) -> pd.DataFrame:
    """Return the reference lines of one metric, those that were measured."""
    known = {name: values[metric] for name, values in references.items() if metric in values}
    return _concatenate(
        [_series(metric, Cell(name, ""), "reference", np.nan, [value]) for name, value in known.items()]
    )


def cost_rate_table(comparison: Comparison, references: Mapping[str, Mapping[str, float]]) -> pd.DataFrame:
    """Return violating steps so far / environment steps so far, in training, of each run and on average."""
    rates = {
        name: {"cost_rate": values["cost"] / values["episode_length"]}
        for name, values in references.items()
        if "cost" in values and values.get("episode_length")
    }
    tables = [reference_table("cost_rate", rates)]
    for cell in comparison.cells:
        rows = comparison.rows(cell, "train", "cost").query("env_step > 0").sort_values("env_step", kind="stable")
        rate = rows.groupby("seed")["value"].cumsum() / rows["env_step"]
        tables.append(curve_table(comparison, "cost_rate", cell, rows.assign(value=rate)))
    return _concatenate(tables)


def _series(
    metric: str,
    cell: Cell,
    series: str,
    steps: object,
    values: object,
    **columns: object,
) -> pd.DataFrame:
    labels = {"metric": metric, "algorithm": cell.algorithm, "variant": cell.variant, "series": series}
    return pd.DataFrame({"env_step": steps, "value": values, **columns}).assign(**labels)


def _concatenate(tables: Sequence[pd.DataFrame]) -> pd.DataFrame:
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


def _rng(comparison: Comparison, metric: str, cell: Cell) -> np.random.Generator:
    """Return a stream that depends on what is drawn alone: one more algorithm moves no other's band."""
    return np.random.default_rng(branch(0, "figures", comparison.suite, comparison.scale, metric, cell.label))
