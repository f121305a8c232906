"""A soak: cells on a virtual SLURM while workers, nodes, the controller and the submitter are killed at random.

``python tests/soak.py --minutes 10 --seeds 14`` (``make soak``) needs root and SLURM; see ``slurm_cluster``. The
cells are started anew as soon as all are done, until the time is up. At the end every cell of every round must
have one result, equal to that of an undisturbed run. ``test_soak.py`` is the short form.
"""

from __future__ import annotations

import argparse
import os
import random
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

from slurm_cluster import Cluster, missing
from streams import result

from ailft_bench.store import RunDirectory, runs

SUITE = """\
name: soak
environment: {{id: ailft/Push-v0, image_size: 64}}
demonstrations: {{episodes: 2}}
algorithms: {{conservative: {{}}, vmail: {{}}, bc: {{}}}}
seeds: {seeds}
evaluation: {{episodes: 1, every: 100}}
scales:
  smoke: {{preset: smoke, env_steps: 200, checkpoint_every: 10}}
"""
PROFILE = "{time_limit_min: 60, signal_delay_s: 30, memory_gib: 1}\n"
NODES = {"n1": 1, "n2": 1, "n3": 1, "n4": 1}
PARTITIONS = {"main": "Nodes=ALL Default=YES"}


class Soak:
    """One results folder a round, one submitter, and a hand that breaks things."""

    def __init__(self, cluster: Cluster, folder: Path, seeds: int, rng: random.Random) -> None:
        self.cluster, self.folder, self.rng = cluster, folder, rng
        self.cells = 3 * seeds
        self.broken: Counter[str] = Counter()
        self.exit_codes: Counter[int] = Counter()
        self.rounds: list[Path] = []
        self._repairs: list[tuple[float, Callable[[], None]]] = []
        self._down: set[str] = set()
        self._submitter: subprocess.Popen[bytes] | None = None
        (folder / "soak.yaml").write_text(SUITE.format(seeds=seeds))
        (folder / "here.yaml").write_text(PROFILE)

    def undisturbed(self) -> subprocess.Popen[bytes]:
        """Start the run that the others are compared with, at low priority."""
        return self._start("local", "--executor", "local", "--jobs", "1", nice=5)

    def play(self, minutes: float) -> None:
        """Break things for so long, then let the last round end."""
        end = time.monotonic() + 60 * minutes
        next_blow = time.monotonic() + 15
        while time.monotonic() < end or not self._round_is_over():
            self._keep_going(anew=time.monotonic() < end)
            for due, repair in list(self._repairs):
                if time.monotonic() >= min(due, end):
                    self._repairs.remove((due, repair))
                    repair()
            if next_blow <= time.monotonic() < end:
                self._break_something()
                next_blow = time.monotonic() + self.rng.uniform(4, 10)
            time.sleep(0.2)
        for _, repair in self._repairs:
            repair()

    def judge(self) -> list[str]:
        """Return what is wrong: lost, doubled or different cells."""
        expected = {run.spec.run_id: result(run) for run in runs(self.folder / "local")}
        wrong = [] if len(expected) == self.cells else [f"{len(expected)} undisturbed cells"]
        for folder in self.rounds:
            found = Counter(run.spec.run_id for run in runs(folder))
            wrong += [f"{folder.name}: {name} lost" for name in expected.keys() - found.keys()]
            wrong += [f"{folder.name}: {name} doubled" for name, count in found.items() if count > 1]
            for run in runs(folder):
                if run.state != "done":
                    wrong.append(f"{run.path}: {run.state}")
                elif result(run) != expected.get(run.spec.run_id):
                    wrong.append(f"{run.path}: another result")
        return wrong

    def figures(self) -> str:
        """Return what happened, in a few lines."""
        counts = [len(run.attempts.read()) for folder in self.rounds for run in runs(folder)]
        blows = ", ".join(f"{count} x {name}" for name, count in sorted(self.broken.items()))
        return (
            f"{len(self.rounds)} rounds of {self.cells} cells, {sum(counts)} starts of workers, at most {max(counts)} "
            f"of one cell\nbroken: {blows}\nends of the submitter by itself, by exit code: {dict(self.exit_codes)}"
        )

    def _round_is_over(self) -> bool:
        return bool(self.rounds) and len(list(self.rounds[-1].glob("soak/*/*/*/done"))) == self.cells

    def _keep_going(self, anew: bool) -> None:
        """Let there be a submitter: a user who types the same command again."""
        if self._submitter is not None and self._submitter.poll() is None:
            return
        if self._submitter is not None and self._submitter.returncode >= 0:
            self.exit_codes[self._submitter.returncode] += 1
        if not self.rounds or self._round_is_over():
            if not anew and self.rounds:
                return
            self.rounds.append(self.folder / f"round-{len(self.rounds)}")
        self._submitter = self._start(self.rounds[-1].name, "--executor", "slurm", "--profile", "here.yaml")

    def _start(self, results: str, *options: str, nice: int = 0) -> subprocess.Popen[bytes]:
        command = [sys.executable, "-m", "ailft_bench", "run", "soak.yaml", "--scale", "smoke", "--results", results]
        environment = {**self.cluster.environment, "CUDA_VISIBLE_DEVICES": ""}
        with open(self.folder / f"{results}.log", "ab") as log:
            return subprocess.Popen(
                [*command, *options],
                cwd=self.folder,
                env=environment,
                stdout=log,
                stderr=log,
                preexec_fn=lambda: os.nice(nice),
            )

    def _break_something(self) -> None:
        blows: list[tuple[int, Callable[[], bool]]] = [
            (4, self._worker),
            (2, self._node),
            (1, self._network),
            (2, self._kill_submitter),
            (1, self._requeue),
            (1, self._signal),
            (1, self._controller),
        ]
        (blow,) = self.rng.choices([blow for _, blow in blows], [weight for weight, _ in blows])
        if blow():
            self.broken[blow.__name__.strip("_").replace("_", " ")] += 1

    def _holders(self) -> list[RunDirectory]:
        return [run for run in runs(self.rounds[-1]) if run.holder is not None] if self.rounds else []

    def _worker(self) -> bool:
        if not (running := self._holders()):
            return False
        holder = self.rng.choice(running).holder
        with suppress(ProcessLookupError):
            if holder is not None:
                os.kill(holder.pid, 9)
        return True

    def _node(self) -> bool:
        return self._take_down(self.cluster.kill_node)

    def _network(self) -> bool:
        return self._take_down(self.cluster.cut_off_node)

    def _take_down(self, how: Callable[[str], None]) -> bool:
        up = sorted(set(self.cluster.nodes) - self._down)
        if len(up) < 3:
            return False
        name = self.rng.choice(up)
        self._down.add(name)
        how(name)

        def repair() -> None:
            self.cluster.start_node(name)
            self._down.discard(name)

        self._repairs.append((time.monotonic() + self.rng.uniform(5, 45), repair))
        return True

    def _kill_submitter(self) -> bool:
        if self._submitter is None:
            return False
        self._submitter.kill()
        self._submitter.wait()
        return True

    def _requeue(self) -> bool:
        return self._to_a_job("scontrol", "requeue")

    def _signal(self) -> bool:
        return self._to_a_job("scancel", "--signal=USR2")

    def _to_a_job(self, *command: str) -> bool:
        with suppress(AssertionError, subprocess.TimeoutExpired):
            jobs = self.cluster.run("squeue", "-h", "-r", "-t", "R", "-o", "%i", timeout=10).split()
            if jobs:
                self.cluster.run(*command, self.rng.choice(jobs), timeout=10)
                return True
        return False

    def _controller(self) -> bool:
        self.cluster.kill_controller()
        time.sleep(self.rng.uniform(0, 4))
        self.cluster.start_controller()
        return True


def soak(minutes: float, seeds: int, seed: int) -> tuple[str, list[str]]:
    """Play one soak and return its figures and what is wrong."""
    temporary = tempfile.TemporaryDirectory(prefix="ailft-soak-", ignore_cleanup_errors=True)
    with temporary as folder, Cluster(NODES, PARTITIONS) as cluster:
        play = Soak(cluster, Path(folder), seeds, random.Random(seed))
        undisturbed = play.undisturbed()
        play.play(minutes)
        undisturbed.wait()
        return play.figures(), play.judge()


def main() -> int:
    """Play the soak that the command line asks for."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--minutes", type=float, default=10)
    parser.add_argument("--seeds", type=int, default=14, help="three cells each")
    parser.add_argument("--seed", type=int, default=0, help="of the blows")
    arguments = parser.parse_args()
    if reason := missing():
        print(reason, file=sys.stderr)
        return 2
    started = time.monotonic()
    figures, wrong = soak(arguments.minutes, arguments.seeds, arguments.seed)
    print(f"{(time.monotonic() - started) / 60:.1f} minutes; {figures}")
    print("\n".join(wrong) or "0 cells lost, 0 counted twice, all results equal to the undisturbed ones")
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
