"""Comparison: one suite at one scale, its lines and their measurements: what a figure or a table may show together."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from functools import cached_property
from typing import NamedTuple

import numpy as np
import pandas as pd

from ailft_bench.cells import first_actor_step
from ailft_bench.figures.measurements import Places, places_of
from ailft_bench.results import Results
from ailft_bench.statistics import Floats
from ailft_bench.store import RunSpec

_NUMBER = re.compile(r"(\d+(?:\.\d+)?(?:e[+-]?\d+)?)")
_ORDER = ("conservative", "vmail", "bc", "bc_cnn", "no_ail", "cmil", "vmail_original")


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

    ``places`` says where in ``metrics``, which may hold other suites and scales too, the measurements are.
    """

    suite: str
    scale: str
    metrics: pd.DataFrame
    runs: pd.DataFrame
    specs: Mapping[str, RunSpec]
    superseded: int
    places: Places

    @cached_property
    def cells(self) -> list[Cell]:
        """The lines, the project's own methods first, ``alpha_30`` before ``alpha_100``."""
        found = {Cell(*pair) for pair in self.runs[["algorithm", "variant"]].itertuples(index=False)}
        rank = {name: place for place, name in enumerate(_ORDER)}

        def order(cell: Cell) -> tuple[object, ...]:
            return (
                rank.get(cell.algorithm, len(rank)),
                _numbers_by_size(cell.algorithm),
                cell.variant != "default",
                _numbers_by_size(cell.variant),
                cell,
            )

        return sorted(found, key=order)

    @property
    def budget(self) -> int:
        """Environment steps of the longest run."""
        return int(self.runs["budget"].max())

    @property
    def spec(self) -> RunSpec:
        """The specification of one run."""
        return next(self.specs[run_id] for run_id in self.runs["run_id"] if run_id in self.specs)

    def runs_of(self, cell: Cell) -> pd.DataFrame:
        """Return the runs of one line, missing ones included."""
        return self.runs[(self.runs["algorithm"] == cell.algorithm) & (self.runs["variant"] == cell.variant)]

    def seeds(self, cell: Cell) -> str:
        """Return for example ``4/5 seeds``: finished of wanted."""
        runs = self.runs_of(cell)
        return f"{(runs['state'] == 'done').sum()}/{len(runs)} seeds"

    def is_offline(self, cell: Cell) -> bool:
        """Whether the algorithm learns from the demonstrations alone, without an environment step."""
        spec = self.spec_of(cell)
        return spec is not None and not spec.agent.get("online", True)

    def spec_of(self, cell: Cell) -> RunSpec | None:
        """Return the specification of one of the line's runs, which differ in the seed alone; None: all damaged."""
        return next((self.specs[run_id] for run_id in self.runs_of(cell)["run_id"] if run_id in self.specs), None)

    def first_actor_step(self, cell: Cell) -> int:
        """Return the environment step of the actor's first online update, where it does not learn before.

        0 where it does, in full updates before the first environment step or offline, or where that is not known.
        """
        spec = self.spec_of(cell)
        if spec is None or "prefill_steps" not in spec.agent or spec.agent.get("pretrain_updates"):
            return 0
        return 0 if self.is_offline(cell) else first_actor_step(spec.agent)

    @cached_property
    def unlike(self) -> list[str]:
        """What should be the same for all lines and is not, with its values: ``env_steps (500 or 700)``."""
        conditions = []
        for cell in self.cells:
            if (spec := self.spec_of(cell)) is not None:
                own = {"evaluation.episodes": spec.evaluation.get("episodes")}
                if not self.is_offline(cell):
                    own |= {"env_steps": spec.env_steps, "evaluation.every": spec.evaluation.get("every")}
                own |= {f"environment.{key}": value for key, value in spec.environment.items()}
                conditions.append(own | {"demonstrations": str(spec.demonstrations.get("checksum"))[:8]})
        found = []
        for name in dict.fromkeys(name for own in conditions for name in own):
            of_environment = name.startswith("environment.")
            values = [own.get(name, "its default") for own in conditions if name in own or of_environment]
            if any(value != values[0] for value in values):
                found.append(f"{name} ({' or '.join(sorted(set(map(str, values))))})")
        return found

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
        for cell in self.cells:
            for (phase, metric), rows in self._places_of(cell).items():
                if phase == "eval" and metric.startswith(prefix):
                    first[metric] = min(first.get(metric, rows[0]), rows[0])
        return [metric.removeprefix(prefix) for metric in sorted(first, key=lambda metric: first[metric])]

    def rows(self, cell: Cell, phase: str, metric: str) -> pd.DataFrame:
        """Return the measurements (seed, env_step, value) of one metric of one line."""
        rows = self._places_of(cell).get((phase, metric), np.empty(0, np.int64))
        return pd.DataFrame({name: self.metrics[name].to_numpy()[rows] for name in ("seed", "env_step", "value")})

    def _places_of(self, cell: Cell) -> Mapping[tuple[str, str], np.ndarray]:
        return self.places.get((self.suite, self.scale, *cell), {})

    def common_finals(self, cell: Cell, other: Cell) -> tuple[Floats, Floats]:
        """Return the last sub-tasks completed (n, 1) of two lines, of the seeds that are finished in both."""
        own, others = (self.final_rows(line, "tasks_completed").set_index("seed")["value"] for line in (cell, other))
        seeds = sorted(set(own.index) & set(others.index))
        return own.loc[seeds].to_numpy(np.float64)[:, None], others.loc[seeds].to_numpy(np.float64)[:, None]

    def final_rows(self, cell: Cell, metric: str) -> pd.DataFrame:
        """Return the last evaluation (seed, value) of each finished run of one line."""
        rows = self.rows(cell, "eval", metric).drop_duplicates("seed", keep="last").sort_values("seed")
        return rows.loc[rows["seed"].isin(self.finished(cell)), ["seed", "value"]]


def comparisons(results: Results) -> Iterator[Comparison]:
    """Split results by suite and scale; those without a single evaluation are left out."""
    places = places_of(results)
    for (suite, scale), runs in results.runs.groupby(["suite", "scale"]):
        current = runs[~runs["superseded"]]
        left_out = len(runs) - len(current)
        found = Comparison(str(suite), str(scale), results.metrics, current, results.specs, left_out, places)
        if found.names(""):
            yield found


def _numbers_by_size(name: str) -> list[object]:
    """Return a key that sorts names by letters, and by size where they have numbers."""
    # A split at a group alternates: text, number, text, so that equals meet equals.
    parts = _NUMBER.split(name)
    return [float(part) if place % 2 else part for place, part in enumerate(parts)]
