"""The numbers behind figures: what is drawn is a table first, and that table is saved beside the figure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np
import pandas as pd

from ailft_bench.figures.comparison import Cell, Comparison
from ailft_bench.seeding import branch
from ailft_bench.statistics import Floats, mean_band, step_curve

#: Columns of a figure's table. ``series``: mean (a point of a thick line, with its interval and the number of
#: runs in it), seed (one run), final (mean of the last evaluations of finished runs) or reference.
COLUMNS = ["metric", "algorithm", "variant", "series", "seed", "env_step", "value", "low", "high", "runs"]
#: Curves with more points than this are sampled at so many steps; values are carried forward.
MAX_POINTS = 200
#: Up to so many seeds each run is drawn as a thin line.
MOST_THIN_LINES = 10


class Curve(NamedTuple):
    """What one run measured: increasing ``steps`` (T,) and ``values`` (T,)."""

    seed: int
    steps: np.ndarray
    values: np.ndarray


def curves_of(rows: pd.DataFrame) -> list[Curve]:
    """Split rows (seed, env_step, value) by run; of several values at one step the last counts."""
    if rows.empty:
        return []
    order = np.lexsort((rows["env_step"], rows["seed"]))
    seeds, steps, values = (rows[name].to_numpy()[order] for name in ("seed", "env_step", "value"))
    last = np.append((np.diff(seeds) != 0) | (np.diff(steps) != 0), True)
    seeds, steps, values = seeds[last], steps[last], values[last]
    begins = np.flatnonzero(np.diff(seeds)) + 1
    parts = (np.split(column, begins) for column in (seeds, steps, values))
    return [Curve(int(seed[0]), at, value) for seed, at, value in zip(*parts, strict=True)]


def curve_table(comparison: Comparison, metric: str, cell: Cell, rows: pd.DataFrame) -> pd.DataFrame:
    """Return each run's curve and their mean with its band; ``rows`` has seed, env_step and value.

    More than ``MOST_THIN_LINES`` runs are not drawn one by one: their mean and band alone are returned.
    """
    grid = np.unique(rows["env_step"])
    if grid.size > MAX_POINTS:
        grid = np.unique(np.linspace(grid[0], grid[-1], MAX_POINTS).astype(np.int64))
    runs_of_cell = curves_of(rows)
    curves = np.array([step_curve(run.steps, run.values, grid) for run in runs_of_cell])
    seeds = [run.seed for run in runs_of_cell]
    shown = zip(seeds, curves, strict=True) if len(seeds) <= MOST_THIN_LINES else ()
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
