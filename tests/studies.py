"""Tuning studies for tests: a plan on a toy suite, and an executor that measures a known function at once.

``python studies.py FOLDER DELAY`` plays the protocol in a process of its own, each run taking so many seconds.
"""

from __future__ import annotations

import io
import math
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rich.console import Console
from specs import write_suite

from ailft_bench import suite_file
from ailft_bench.pool import Ending
from ailft_bench.store import RunDirectory, RunSpec
from ailft_bench.tuning import objective as objectives
from ailft_bench.tuning.plan import JOURNAL, Plan, draw_up
from ailft_bench.tuning.protocol import Outcome, Protocol
from ailft_bench.tuning.study import Study


def score(spec: RunSpec) -> float:
    """Best at alpha = 1, and noise that depends on the seed and the setting."""
    alpha = spec.agent["alpha"] or 0.01
    noise = math.sin(spec.seed % 1000 + 100 * alpha)
    return 2 - math.log10(alpha) ** 2 + 0.2 * noise + 0.1 * spec.agent["lam"]


@dataclass(frozen=True)
class Quick:
    """An executor that computes the runs in this process."""

    jobs: int = 2
    delay_s: float = 0.0
    scored: Callable[[RunSpec], float] = score
    adopts_jobs: bool = False

    def width(self, memory_gib: float) -> int:
        return self.jobs

    def has_gpu(self) -> bool:
        return False

    def run(self, out: Console, results: Path, cells: Mapping[Path, RunSpec], memory_gib: float) -> dict[Path, Ending]:
        return {path: self._work_on(RunDirectory(path), spec) for path, spec in cells.items()}

    def _work_on(self, run: RunDirectory, spec: RunSpec) -> Ending:
        with run.lease():
            run.start_attempt()
            time.sleep(self.delay_s)
            try:
                final = self.scored(spec)
            except ValueError as error:
                run.fail(str(error))
                return Ending("failed", str(error))
            for step in (0, 100, 200):
                metrics = {"tasks_completed": final * step / 200, "return": 10 * final, "cost": spec.agent["alpha"]}
                run.metrics.append("eval", step, step // 50, metrics, float(step))
            run.finish()
        return Ending("done")


def make_plan(
    folder: Path, *texts: str, objective: str = "final", max_cost: float | None = None, **changes: Any
) -> Plan:
    """Return a small study on the toy suite."""
    if not (folder / "toy.yaml").exists():
        write_suite(folder)
    options = {"trials": 6, "seeds": 3, "fresh_seeds": 2, "prune": False, "name": None, "storage": JOURNAL}
    return draw_up(
        suite_file.load(str(folder / "toy.yaml")),
        "smoke",
        changes.pop("algorithm", "conservative"),
        texts or ["alpha"],
        objective=objectives.parse(objective, max_cost),
        **{**options, **changes},
    )


def play(folder: Path, plan: Plan, executor: Quick | None = None, url: str | None = None) -> tuple[Study, Outcome, str]:
    """Play the protocol, or the rest of it, and return what it printed too."""
    study = Study.open(folder / "results", plan, url)
    text = io.StringIO()
    outcome = Protocol(Console(file=text, width=200), study, executor or Quick(), 1.0).play()
    return study, outcome, text.getvalue()


def main(arguments: Sequence[str]) -> None:
    folder = Path(arguments[0])
    play(folder, make_plan(folder), Quick(jobs=1, delay_s=float(arguments[1])))


if __name__ == "__main__":
    main(sys.argv[1:])
