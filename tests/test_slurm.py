"""SLURM, a real one: whatever happens to jobs, nodes, the controller and the submitter, each cell has one result.

The scenarios play at the same time on one virtual cluster, each in a partition and a results folder of its own,
as a node that is lost takes half a minute to be missed. Each test waits for its scenario.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor, wait
from pathlib import Path

import pytest
from slurm_cluster import Cluster, missing
from streams import result

from ailft_bench.slurm import queue
from ailft_bench.store import RunDirectory, runs

pytestmark = [pytest.mark.slow, pytest.mark.skipif(missing() is not None, reason=missing() or "")]

SUITE = """\
name: {name}
environment: {{id: ailft/Push-v0, image_size: 64}}
demonstrations: {{episodes: 2}}
algorithms: {{conservative: {{}}, vmail: {{}}, bc: {{}}}}
seeds: 2
evaluation: {{episodes: 1, every: 100}}
scales:
  smoke: {{preset: smoke, env_steps: 300, checkpoint_every: 20}}
  long: {{preset: smoke, env_steps: 2500, checkpoint_every: 50, evaluation: {{every: 1250}}}}
  least: {{preset: smoke, env_steps: 60, settings: {{bc_pretrain: 1, pretrain_updates: 1, prefill_steps: 60}}}}
"""
PROFILE = "{{partition: {partition}, time_limit_min: {minutes}, signal_delay_s: {delay}, memory_gib: 1}}\n"
NODES = {"n1": 1, "n2": 1, "n3": 1, "n4": 1, "n5": 1, "n6": 1, "n7": 1, "n8": 2, "n9": 1, "n10": 1}
PARTITIONS = {
    "main": "Nodes=n1,n2 Default=YES",
    "frail": "Nodes=n3,n4",
    "low": "Nodes=n5 PriorityTier=1 GraceTime=10",
    "high": "Nodes=n5 PriorityTier=10 PreemptMode=OFF",
    "short": "Nodes=n6",
    "spare": "Nodes=n7",
    "study": "Nodes=n8",
    "crowded": "Nodes=n9",
    "brief": "Nodes=n10",
    "closed": "Nodes=n1 State=DOWN",
}
PATIENCE_S = 1200


class Stage:
    """One scenario's folder, and the commands that are typed there."""

    def __init__(self, cluster: Cluster, folder: Path, name: str, minutes: int = 30, delay: int = 10) -> None:
        self.cluster = cluster
        self.folder = folder / name
        self.folder.mkdir()
        self.results = self.folder / "results"
        self.environment = {**cluster.environment, "CUDA_VISIBLE_DEVICES": "", "COLUMNS": "200"}
        for suite in ("tiny", "other"):
            (self.folder / f"{suite}.yaml").write_text(SUITE.format(name=suite))
        self.profile(name, minutes, delay)

    def profile(self, partition: str, minutes: int = 30, delay: int = 10) -> None:
        (self.folder / "here.yaml").write_text(PROFILE.format(partition=partition, minutes=minutes, delay=delay))

    def start(self, *arguments: str, log: str = "run.log") -> subprocess.Popen[bytes]:
        command = [sys.executable, "-m", "ailft_bench", *arguments]
        with open(self.folder / log, "ab") as file:
            return subprocess.Popen(command, cwd=self.folder, env=self.environment, stdout=file, stderr=file)

    def wrap(self, tool: str, script: str) -> None:
        """Put a shell script in front of one of SLURM's commands, which it finds as $tool."""
        tools, search = self.folder / "tools", self.cluster.environment["PATH"]
        tools.mkdir(exist_ok=True)
        (tools / tool).write_text(f"#!/bin/sh\nPATH={search}\ntool=$(command -v {tool})\n{script}\n")
        (tools / tool).chmod(0o755)
        self.environment["PATH"] = f"{tools}:{search}"

    def crowd(self, partition: str) -> None:
        """Let the cluster take one array at a time, and one cell an array."""
        refusal = "sbatch: error: QOSMaxSubmitJobPerUserLimit"
        free = f'[ -z "$(squeue -h -p {partition})" ]'
        self.wrap("sbatch", f'{free} || {{ echo {refusal} >&2; exit 1; }}\nexec "$tool" "$@"')
        self.wrap("scontrol", '"$tool" "$@" | sed "s/^MaxArraySize.*/MaxArraySize = 2/"')

    def thin_out(self) -> None:
        """Take those scripts away again."""
        self.environment["PATH"] = self.cluster.environment["PATH"]

    def call(self, *arguments: str, code: int = 0) -> str:
        """Type a command, wait for it, and return what it printed."""
        log = f"{time.monotonic_ns()}.log"
        assert self.finish(self.start(*arguments, log=log)) == code, self.said(log)
        return self.said(log)

    def run(self, *cells: str, executor: str = "slurm") -> tuple[str, ...]:
        where = ("--jobs", "2") if executor == "local" else ("--profile", "here.yaml")
        return ("run", "tiny.yaml", "--executor", executor, *where, *(cells or ("--scale", "smoke")))

    def said(self, log: str = "run.log") -> str:
        return (self.folder / log).read_text()

    def finish(self, process: subprocess.Popen[bytes]) -> int:
        return process.wait(PATIENCE_S)

    def cells(self) -> list[RunDirectory]:
        return list(runs(self.results))

    def the_cell(self) -> RunDirectory:
        self.until(lambda: self.cells())
        (cell,) = self.cells()
        return cell

    def until(self, condition: Callable[[], object]) -> None:
        deadline = time.monotonic() + PATIENCE_S
        while not condition():
            assert time.monotonic() < deadline, f"waited in vain: {self.said()}"
            time.sleep(0.1)

    def until_saved(self, cell: RunDirectory) -> None:
        """Wait until the cell has a checkpoint of its online phase."""
        self.until(lambda: (found := cell.latest_checkpoint()) and found[0] > 0)


ONE = ("--scale", "smoke", "--algorithms", "conservative", "--seeds", "1")
LONG = ("--scale", "long", "--algorithms", "conservative", "--seeds", "1")


def undisturbed(stage: Stage) -> dict[str, list[object]]:
    """Every cell once, on this machine, with nothing in its way: the results that the others must equal."""
    stage.call(*stage.run(executor="local"))
    stage.call(*stage.run(*LONG, executor="local"))
    return {cell.spec.run_id: result(cell) for cell in stage.cells()}


def array_with_several_submitters(stage: Stage) -> None:
    first = stage.start(*stage.run(), log="first.log")
    stage.until(lambda: "6 cells submitted" in stage.said("first.log"))
    first.send_signal(signal.SIGKILL)
    first.wait()
    second = stage.start(*stage.run(), log="second.log")
    stage.until(lambda: any(cell.holder for cell in stage.cells()))
    stage.cluster.stop_controller()
    third = stage.start(*stage.run(executor="auto"), log="third.log")
    time.sleep(3)
    stage.cluster.start_controller()
    for process, log in ((second, "second.log"), (third, "third.log")):
        assert stage.finish(process) == 0, stage.said(log)
        assert "0 cells submitted, 6 have a job" in stage.said(log)
        assert "6 of 6 cells done" in stage.said(log)
    assert len(list(stage.results.glob("slurm/tiny-*"))) == 1
    assert {cell.attempts.read()[0].host for cell in stage.cells()} == {"n1", "n2"}


def preempted(stage: Stage) -> None:
    run = stage.start(*stage.run(*ONE))
    cell = stage.the_cell()
    stage.until_saved(cell)
    stage.cluster.run("sbatch", "--partition=high", "--output=/dev/null", "--wrap", "sleep 5")
    assert stage.finish(run) == 0, stage.said()
    attempts = cell.attempts.read()
    assert len(attempts) == 2
    assert attempts[1].restarts == 1
    assert attempts[1].checkpoint is not None


def time_limit(stage: Stage) -> None:
    """And a controller that is away when the job asks to be queued again."""
    away = stage.folder / "away"
    refusal = f"touch {away}; echo 'Unable to contact slurm controller' >&2; exit 1"
    stage.wrap("scontrol", f'[ "$1" != requeue ] || [ -e {away} ] || {{ {refusal}; }}\nexec "$tool" "$@"')
    run = stage.start(*stage.run(*LONG))
    assert stage.finish(run) == 0, stage.said()
    assert away.exists()
    attempts = stage.the_cell().attempts.read()
    assert len(attempts) >= 2
    assert len({attempt.job for attempt in attempts}) == 1
    assert attempts[-1].checkpoint is not None


def lost_node(stage: Stage) -> None:
    run = stage.start(*stage.run(*ONE))
    cell = stage.the_cell()
    stage.until_saved(cell)
    lost = cell.attempts.read()[-1].host
    stage.cluster.kill_node(lost)
    assert stage.finish(run) == 0, stage.said()
    attempts = cell.attempts.read()
    assert [attempt.host for attempt in attempts] == [lost, "n4" if lost == "n3" else "n3"]
    assert attempts[1].checkpoint is not None


def killed_and_cancelled(stage: Stage) -> None:
    run = stage.start(*stage.run(*ONE))
    cell = stage.the_cell()
    stage.until_saved(cell)
    assert cell.holder is not None
    os.kill(cell.holder.pid, signal.SIGKILL)
    stage.until(lambda: len(cell.attempts.read()) == 2)
    stage.cluster.run("scancel", cell.attempts.read()[-1].job)
    assert stage.finish(run) == 1, stage.said()
    assert "0 of 1 cells done, 1 cancelled" in stage.said()
    assert "CANCELLED" in stage.call("status", "tiny.yaml")
    explanation = stage.call("explain", str(cell.path))
    assert "verdict: cancelled" in explanation
    assert "killed by SIGKILL" in explanation
    assert "ailft-bench run tiny.yaml" in explanation or "__main__" in explanation
    begun = len(cell.attempts.read())
    here = stage.start(*stage.run(*ONE, executor="local"))
    stage.until(lambda: cell.holder is not None and len(cell.attempts.read()) > begun)
    here.send_signal(signal.SIGINT)
    assert stage.finish(here) == 130, stage.said()
    assert "verdict: stopped" in stage.call("explain", str(cell.path))
    assert "CANCELLED" not in stage.call("status", "tiny.yaml")
    stage.call(*stage.run(*ONE))


def cancelled_and_forgotten(stage: Stage) -> None:
    """A queue that forgets jobs at once, as where whoever watches was suspended for minutes: the accounting knows."""
    stage.wrap("squeue", 'exec "$tool" --me --array --noheader "--format=%i|%K|%T|%r|%N|%j"')
    run = stage.start(*stage.run(*LONG))
    cell = stage.the_cell()
    stage.until(lambda: cell.holder is not None and cell.attempts.read())
    stage.cluster.run("scancel", cell.attempts.read()[-1].job)
    assert stage.finish(run) == 1, stage.said()
    assert "0 of 1 cells done, 1 cancelled" in stage.said()
    assert len(cell.attempts.read()) == 1


def detached_and_cancelled_by_suite(stage: Stage) -> None:
    """On a cluster that starts nothing, and at first takes one cell only: each cell's line says what it waits for."""
    stage.crowd("closed")
    said = stage.call(*stage.run(), "--detach", code=1)
    assert "1 cells submitted, 1 have a job" in said
    assert said.count("not submitted, SLURM takes no more jobs now; run the command again") == 5
    assert "0 of 6 cells done, 5 waiting, 1 queued" in said
    stage.thin_out()
    said = stage.call(*stage.run(), "--detach")
    assert "5 cells submitted, 6 have a job" in said
    assert said.count("PENDING") == 6
    stage.call("run", "other.yaml", "--scale", "smoke", "--profile", "here.yaml", "--detach")
    states = stage.call("status")
    assert "12 queued" in states
    assert "PENDING" in states
    assert "verdict: queued" in stage.call("explain", str(stage.cells()[0].path))
    elsewhere = stage.call(*stage.run(executor="local"), code=1)
    assert "6 elsewhere" in elsewhere
    assert "6 jobs cancelled" in stage.call("cancel", "other.yaml")
    assert "6 queued, 6 waiting" in stage.call("status")
    assert "6 jobs cancelled" in stage.call("cancel", "tiny")
    assert "no jobs" in stage.call("cancel", "tiny")


def refused(stage: Stage) -> None:
    stage.profile("nowhere")
    assert "sbatch refused" in stage.call(*stage.run(*ONE), code=2)


def crowded_out(stage: Stage) -> None:
    """Five of six cells wait for their first job."""
    stage.crowd("crowded")
    said = stage.call(*stage.run("--scale", "least"))
    assert "1 cells submitted, 1 have a job" in said
    assert said.count("submitted, as SLURM takes more jobs now") == 5
    assert "submitted again" not in said
    assert "6 of 6 cells done" in said
    assert {len(cell.attempts.read()) for cell in stage.cells()} == {1}
    assert len(list(stage.results.glob("slurm/tiny-*"))) == 6


def tuned(stage: Stage) -> None:
    """Eight trials of one run each; the first process is killed while its jobs run, the second one takes over."""
    command = ("tune", "alpha", "--suite", "tiny.yaml", "--scale", "least", "--trials", "8", "--seeds", "1")
    command += ("--fresh-seeds", "1", "--executor", "slurm", "--profile", "here.yaml")
    first = stage.start(*command, log="first.log")
    stage.until(lambda: "2 of 8 trials finished" in stage.said("first.log"))
    stage.until(lambda: stage.said("first.log").count("cells submitted") > 1)
    first.send_signal(signal.SIGKILL)
    first.wait()
    said = stage.call(*command)
    assert "8 of 8 trials finished" in said
    assert "selection bias of trial" in said
    tune = stage.results / "tuning" / "tiny-least-alpha" / "tune"
    found = list(runs(tune))
    assert len(found) == len({cell.spec.run_id for cell in found}) == 8
    assert {cell.state for cell in found} == {"done"}
    assert {len(cell.attempts.read()) for cell in found} == {1}
    assert stage.cells() == []


@pytest.fixture(scope="module")
def scenarios(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, tuple[Stage, Future[object]]]]:
    folder = tmp_path_factory.mktemp("slurm")
    with Cluster(NODES, PARTITIONS) as cluster, ThreadPoolExecutor(16) as threads:
        plays: dict[str, tuple[Stage, Callable[[Stage], object]]] = {
            "undisturbed": (Stage(cluster, folder, "local"), undisturbed),
            "lost node": (Stage(cluster, folder, "frail"), lost_node),
            "time limit": (Stage(cluster, folder, "short", minutes=1, delay=5), time_limit),
            "preempted": (Stage(cluster, folder, "low"), preempted),
            "array": (Stage(cluster, folder, "main"), array_with_several_submitters),
            "cancelled": (Stage(cluster, folder, "spare"), killed_and_cancelled),
            "forgotten": (Stage(cluster, folder, "brief"), cancelled_and_forgotten),
            "detached": (Stage(cluster, folder, "closed"), detached_and_cancelled_by_suite),
            "refused": (Stage(cluster, folder, "refused"), refused),
            "tuned": (Stage(cluster, folder, "study"), tuned),
        }
        playing = {name: (stage, threads.submit(play, stage)) for name, (stage, play) in plays.items()}
        # Its jobs are many, and a busy machine may need more than the seconds that a time limit leaves to save.
        crowded, limited = Stage(cluster, folder, "crowded"), playing["time limit"][1]
        playing["crowded"] = crowded, threads.submit(lambda: (wait([limited], PATIENCE_S), crowded_out(crowded)))
        yield playing


@pytest.mark.parametrize(
    ("name", "cells"), [("array", 6), ("preempted", 1), ("time limit", 1), ("lost node", 1), ("cancelled", 1)]
)
def test_each_cell_has_one_result_equal_to_the_undisturbed(
    scenarios: dict[str, tuple[Stage, Future[object]]], name: str, cells: int
) -> None:
    stage, play = scenarios[name]
    play.result(PATIENCE_S)
    expected = scenarios["undisturbed"][1].result(PATIENCE_S)
    assert isinstance(expected, dict)
    found = stage.cells()
    assert len(found) == len({cell.spec.run_id for cell in found}) == cells
    for cell in found:
        assert cell.state == "done"
        assert result(cell) == expected[cell.spec.run_id]
        assert not (cell.path / "replay").exists()


@pytest.mark.parametrize("name", ["forgotten", "detached", "refused", "tuned", "crowded"])
def test_without_results(scenarios: dict[str, tuple[Stage, Future[object]]], name: str) -> None:
    scenarios[name][1].result(PATIENCE_S)


def test_no_job_is_left(scenarios: dict[str, tuple[Stage, Future[object]]]) -> None:
    for _, play in scenarios.values():
        play.exception(PATIENCE_S)
    stage = scenarios["array"][0]
    assert stage.cluster.run("squeue", "-h") == ""
    assert queue.FOLDER in {path.name for path in stage.results.iterdir()}
