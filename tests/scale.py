"""Scale: a results folder of thousands of runs, and what reading commands need for it.

``python tests/scale.py --runs 2000 --points 500`` writes finished runs of four algorithms, each with so many
evaluations and as many episodes of training, and prints seconds (on a busy machine those of the processor count)
and peak memory of ``status``, ``plot``, ``report`` and ``export``. The folder (``--folder``) is kept: a second call
measures again.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pyarrow
import pyarrow.parquet
from synthetic_results import SyntheticRun, evaluation

from ailft_bench import durable
from ailft_bench.store import RunDirectory

ALGORITHMS = ("conservative", "vmail", "no_ail", "bc")
#: What an evaluation measures besides scores and costs, and what an episode of training does.
DIAGNOSTICS = (
    "disagreement/calibration",
    "disagreement/fresh",
    *(
        f"gradient/{term}_{of}{what}"
        for term in ("reward", "penalty")
        for of in ("", "mean_")
        for what in ("cosine", "norm")
    ),
    "model/action_effect",
    "model/action_effect_size",
    "model/one_step_error",
    "model/one_step_error_high_disagreement",
    "model/one_step_error_low_disagreement",
)
LEARNING = (
    *("cost", "episode_length", "return", "tasks_completed", "discriminator/total_variation", "discriminator/loss"),
    *("disagreement/imagined", "model/loss", "critic/loss", "actor/loss", "time/updates", "time/updates_per_s"),
)


def write(folder: Path, runs: int, points: int, every: int = 1000) -> None:
    """Write ``runs`` finished runs with ``points`` evaluations each."""
    for number in range(runs):
        algorithm, seed = ALGORITHMS[number % len(ALGORITHMS)], number // len(ALGORITHMS)
        run = SyntheticRun(algorithm, seed, {}, {}, env_steps=every * (points - 1))
        directory = RunDirectory.create(folder, run.spec)
        table = measurements(run, 1 if algorithm == "bc" else points, every, np.random.default_rng(number))
        pyarrow.parquet.write_table(table, directory.path / "result.parquet")
        durable.write_json(directory.path / "done", {"wall_time_s": 3600.0, "time": 0.0}, durable=False)


def measurements(run: SyntheticRun, points: int, every: int, rng: np.random.Generator) -> pyarrow.Table:
    """Return a run's tidy table: a training episode, then an evaluation, and so on."""
    own = [*evaluation(0), "return", "episode_length"]
    scores = [name for name in own if not name.startswith("sampled/")]
    evaluated = [*scores, *(f"sampled/{name}" for name in scores), *DIAGNOSTICS]
    names, train = [*LEARNING, *evaluated], len(LEARNING)
    values = rng.uniform(0, 0.1, (points, len(names)))
    skill = np.minimum(np.cumsum(rng.uniform(0, 8 / points, points)), 4) + rng.normal(0, 0.1, points)
    values[:, names.index("tasks_completed", train)] = np.round(np.clip(skill, 0, 4) * 20) / 20
    values[:, names.index("cost")] = rng.integers(0, 30, points)
    values[:, names.index("episode_length")] = 280
    count, moments = points * len(names), np.arange(points)
    first = [run.suite, run.scale, run.algorithm, run.variant, run.run_id]
    columns = {
        name: pyarrow.array([value]).take(pyarrow.array(np.zeros(count, np.int64)))
        for name, value in zip(("suite", "scale", "algorithm", "variant", "run_id"), first, strict=True)
    }
    phases = np.where(np.arange(len(names)) < train, "train", "eval")
    return pyarrow.table(
        {
            **columns,
            "seed": np.full(count, run.seed),
            "phase": pyarrow.array(np.tile(phases, points)).cast(pyarrow.string()),
            "env_step": np.repeat(every * moments, len(names)),
            "episode": np.repeat(moments, len(names)),
            "metric": pyarrow.array(np.tile(names, points)).cast(pyarrow.string()),
            "value": values.ravel(),
            "wall_time_s": np.repeat(10.0 * moments, len(names)),
        }
    )


def measure(folder: Path, *arguments: str) -> tuple[float, float, float, int]:
    """Run a command on ``folder``; return seconds, those of the processor, peak memory in GiB and the exit code."""
    started = time.monotonic()
    command = [sys.executable, "-m", "ailft_bench", *arguments, "--results", str(folder)]
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL)
    _, status, usage = os.wait4(process.pid, 0)
    processor = usage.ru_utime + usage.ru_stime
    return time.monotonic() - started, processor, usage.ru_maxrss / 2**20, os.waitstatus_to_exitcode(status)


def main() -> int:
    """Build what is not there, measure, print a table; 1 if a command failed."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--runs", type=int, default=2000)
    parser.add_argument("--points", type=int, default=500)
    parser.add_argument("--folder", type=Path, default=Path("results-scale"))
    given = parser.parse_args()
    if not given.folder.exists():
        started = time.monotonic()
        write(given.folder, given.runs, given.points)
        print(f"wrote {given.runs} runs in {time.monotonic() - started:.0f} s")
    failed = False
    for arguments in (
        ("status",),
        ("plot", "kitchen"),
        ("report", "kitchen", "--no-videos"),
        ("export", "kitchen", "--out", str(given.folder / "all.parquet")),
    ):
        seconds, processor, memory, code = measure(given.folder, *arguments)
        failed |= code != 0
        ending = f", exit code {code}" if code else ""
        print(
            f"{arguments[0]:<7}{seconds:6.1f} s ({processor:5.1f} s of processor), {memory:.2f} GiB{ending}", flush=True
        )
    return int(failed)


if __name__ == "__main__":
    sys.exit(main())
