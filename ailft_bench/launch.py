"""Launching: what is missing of a suite is found, prepared and run; called again, it does only the rest."""

from __future__ import annotations

import sys
import time
import traceback
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import Literal

from rich.console import Console

from ailft_bench import display, durable, machine, provenance
from ailft_bench.demos.collection import provide
from ailft_bench.envs.gl import configure_gl
from ailft_bench.errors import UserError, nearest
from ailft_bench.estimate import estimate
from ailft_bench.pool import Command, Ending, Pool, default_jobs, worker_command
from ailft_bench.references import provide_references
from ailft_bench.store import RunDirectory, RunSpec
from ailft_bench.suite import Suite

EXIT_DONE, EXIT_FAILED, EXIT_INTERRUPTED = 0, 1, 130

Executor = Literal["local", "inline"]


def choose_scale(suite: Suite, wanted: str | None) -> str:
    """Return the scale to run: the one asked for, else ``paper`` where there is a GPU and ``cpu`` elsewhere.

    Raises:
        UserError: the suite has no such scale.
    """
    scale = wanted or ("paper" if machine.gpus() else "cpu")
    if scale not in suite.scales:
        asked = f"--scale {scale}" if wanted else f"no --scale was given, and {scale}, the default here"
        raise UserError(f"{asked}: not in suite {suite.name}; {nearest(scale, suite.scales)}")
    return scale


def plan(specs: Sequence[RunSpec], results: Path) -> dict[str, str]:
    """Return the state of each cell by run id: missing, waiting, running, failed or done."""
    directories = {spec.run_id: spec.directory(results) for spec in specs}
    return {
        run_id: RunDirectory(path).state if (path / "run.json").exists() else "missing"
        for run_id, path in directories.items()
    }


def announce(out: Console, suite: Suite, scale: str) -> None:
    """Print the scale first: no number of a smaller one may be taken for the published setting."""
    size = suite.scales[scale]
    notes = {"paper": "the published setting", "smoke": "proves the plumbing, never a result"}
    note = notes.get(scale, "smaller than the published setting") if "paper" in suite.scales else ""
    out.print(
        f"suite {suite.name}, scale [bold]{scale}[/]: {size.env_steps:,} environment steps a run, "
        f"preset {size.preset}" + (f" ({note})" if note else "")
    )


def dry_run(out: Console, suite: Suite, specs: Sequence[RunSpec], results: Path, jobs: int | None) -> None:
    """Print the cells and an estimate of time and disk. Writes nothing."""
    states = plan(specs, results)
    display.show_plan(out, states, specs)
    missing = [spec for spec in specs if states[spec.run_id] not in ("done", "running")]
    if not missing:
        out.print("nothing to do")
        return
    presets = [suite.scales[spec.scale].preset for spec in missing]
    found = estimate(missing, results, presets)
    display.show_estimate(out, found, len(missing), jobs or default_jobs(suite.resources.memory_gib))


def run(
    out: Console,
    suite: Suite,
    specs: Sequence[RunSpec],
    results: Path,
    jobs: int | None = None,
    executor: Executor = "local",
    command: Command = worker_command,
) -> int:
    """Run the cells that are not done, and return the exit code.

    Failed cells are tried again; a cell that another process works on is left to it.

    Raises:
        UserError: the results folder cannot be written, or the demonstrations cannot be made.
    """
    states = plan(specs, results)
    to_do = [spec for spec in specs if states[spec.run_id] not in ("done", "running")]
    if all(state == "done" for state in states.values()):
        out.print(f"nothing to do: {len(specs)} of {len(specs)} cells done")
        return EXIT_DONE
    _check_writable(results)
    paths = {_prepare(results, spec): spec for spec in to_do}
    elsewhere = Ending("elsewhere", "another process works on it")
    endings = {spec.directory(results): elsewhere for spec in specs if states[spec.run_id] == "running"}
    if to_do:
        configure_gl()
        _provide_demonstrations(out, to_do, results)
        if executor == "inline":
            endings |= _run_inline(out, paths)
        else:
            endings |= _run_in_pool(out, paths, jobs or default_jobs(suite.resources.memory_gib), command)
        states_now = {ending.state for ending in endings.values()}
        if "done" in states_now and "interrupted" not in states_now:
            _measure_references(out, to_do[0], results)
    display.show_endings(out, specs, results, endings)
    return _conclude(out, len(specs), endings)


def _check_writable(results: Path) -> None:
    """Find out now, not after hours, that the folder cannot be written."""
    with durable.storage_errors(results):
        results.mkdir(parents=True, exist_ok=True)
    probe = durable.temporary_beside(results / "probe")
    try:
        durable.write_bytes(probe, bytes(1 << 16))
    finally:
        with suppress(OSError):
            probe.unlink()


def _prepare(results: Path, spec: RunSpec) -> Path:
    created = time.strftime("%Y-%m-%dT%H:%M:%S%z")
    stamped = spec.model_copy(update={"provenance": provenance.collect(), "created": created})
    return RunDirectory.create(results, stamped).path


def _provide_demonstrations(out: Console, specs: Sequence[RunSpec], results: Path) -> None:
    """Make each set of demonstrations once, before the workers ask for it."""
    sets = {spec.demonstrations["checksum"]: spec for spec in specs}
    for spec in sets.values():
        recipe = {key: value for key, value in spec.demonstrations.items() if key != "checksum"}
        with out.status("demonstrations") as status:
            provide(
                spec.environment["id"],
                spec.environment_kwargs,
                **recipe,
                cache=results / "demos",
                on_progress=status.update,
            )


def _measure_references(out: Console, spec: RunSpec, results: Path) -> None:
    """Measure what a random policy, replay and the expert score, once, for the figures."""
    try:
        with out.status("reference lines") as status:
            provide_references(spec, results, on_progress=status.update)
    except UserError as error:
        out.print(f"no reference lines: {error}", markup=False)


def _run_in_pool(out: Console, paths: dict[Path, RunSpec], jobs: int, command: Command) -> dict[Path, Ending]:
    pool = Pool(jobs, command, machine.gpus())
    out.print(f"{len(paths)} cells to run, {min(jobs, len(paths))} at once; logs: log.txt in each run's folder")
    warned = False

    def poll() -> None:
        nonlocal warned
        if pool.stopping and not warned:
            warned = True
            out.print("stopping: the workers save a checkpoint; once more kills them")
        progress.poll(pool.active)

    with display.LiveProgress(out, paths) as progress:
        return pool.run(list(paths), progress.ended, poll)


def _run_inline(out: Console, paths: dict[Path, RunSpec]) -> dict[Path, Ending]:
    """Run the cells in this process, one after another, for debuggers."""
    from ailft_bench.lease import LeaseHeldError
    from ailft_bench.worker import run_cell

    endings = {path: Ending("interrupted", "not started") for path in paths}
    for path, spec in paths.items():
        out.print(f"{display.cell_name(spec)}: started in this process")
        try:
            done = run_cell(path)
        except LeaseHeldError as error:
            endings[path] = Ending("elsewhere", str(error))
        except Exception as error:
            traceback.print_exc(file=sys.stderr)
            endings[path] = Ending("failed", f"{type(error).__name__}: {error}")
        else:
            endings[path] = Ending("done") if done else Ending("interrupted", "stopped")
            if not done:
                break
    return endings


def _conclude(out: Console, count: int, endings: dict[Path, Ending]) -> int:
    states = [ending.state for ending in endings.values()]
    not_done = {name: states.count(name) for name in ("failed", "interrupted", "elsewhere") if states.count(name)}
    done = count - sum(not_done.values())
    rest = "".join(f", {number} {name}" for name, number in not_done.items())
    out.print(f"{done} of {count} cells done{rest}")
    if not not_done:
        return EXIT_DONE
    out.print("the same command goes on with the rest: " + provenance.command(), markup=False)
    return EXIT_INTERRUPTED if "interrupted" in not_done else EXIT_FAILED
