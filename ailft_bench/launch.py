"""Launching: what is missing of a suite is found, prepared and run; called again, it does only the rest."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path

from rich.console import Console

from ailft_bench import display, durable, provenance, suite_file
from ailft_bench.demos.collection import provide
from ailft_bench.envs.gl import configure_gl
from ailft_bench.errors import UserError, nearest
from ailft_bench.estimate import estimate
from ailft_bench.executors import Executor
from ailft_bench.found_runs import found_run
from ailft_bench.pool import Ending
from ailft_bench.references import provide_references
from ailft_bench.slurm import queue
from ailft_bench.slurm.queue import Job, QueueUnknownError
from ailft_bench.store import RunDirectory, RunSpec
from ailft_bench.suite import Suite

EXIT_DONE, EXIT_FAILED, EXIT_INTERRUPTED = 0, 1, 130

#: States of cells that are not to be started.
_TAKEN = ("done", "running", "queued")
#: Endings of cells that have no result.
_NOT_DONE = ("failed", "cancelled", "interrupted", "waiting", "queued", "elsewhere")


def choose_scale(suite: Suite, wanted: str | None, has_gpu: bool) -> str:
    """Return the scale to run: the one asked for, else ``paper`` where there is a GPU and ``cpu`` elsewhere.

    Raises:
        UserError: the suite has no such scale.
    """
    scale = wanted or ("paper" if has_gpu else "cpu")
    if scale not in suite.scales:
        asked = f"--scale {scale}" if wanted else f"no --scale was given, and {scale}, the default here"
        raise UserError(f"{asked}: not in suite {suite.name}; {nearest(scale, suite.scales)}")
    return scale


def plan(specs: Sequence[RunSpec], results: Path, queued: Mapping[Path, Job]) -> dict[Path, str]:
    """Return the state of each cell by its directory: missing, waiting, queued, running, failed or done.

    Not by run id, which two labels of the same science share. ``queued`` are the cells that have a live SLURM job.
    """
    states: dict[Path, str] = {}
    for spec in specs:
        path = spec.directory(results)
        state = RunDirectory(path).state if (path / "run.json").exists() else "missing"
        states[path] = "queued" if path in queued and state not in ("done", "running") else state
    return states


def announce(out: Console, suite: Suite, scale: str, assignments: Sequence[str] = ()) -> None:
    """Print the scale first: no number of a smaller one may be taken for the published setting.

    ``assignments`` of ``--set`` that do not reach an algorithm are named too.
    """
    size = suite.scales[scale]
    notes = {"paper": "the published setting", "smoke": "proves the plumbing, never a result"}
    note = notes.get(scale, "smaller than the published setting") if "paper" in suite.scales else ""
    out.print(
        f"suite {suite.name}, scale [bold]{scale}[/]: {size.env_steps:,} environment steps a run, "
        f"preset {size.preset}" + (f" ({note})" if note else "")
    )
    if suite.description:
        out.print(suite.description, markup=False)
    for note in suite_file.kept_settings(suite, scale, assignments):
        out.print(note, markup=False)


def dry_run(out: Console, suite: Suite, specs: Sequence[RunSpec], results: Path, executor: Executor) -> None:
    """Print the cells and an estimate of time and disk. Writes nothing."""
    states = plan(specs, results, _queued(out, results, executor))
    display.show_methods(out, specs)
    display.show_plan(out, specs, results, states)
    missing = [spec for spec in specs if states[spec.directory(results)] not in _TAKEN]
    if not missing:
        out.print("nothing to do")
        return
    found = estimate(missing, results)
    display.show_estimate(out, found, len(missing), executor.width(suite.resources.memory_gib))


def run(out: Console, suite: Suite, specs: Sequence[RunSpec], results: Path, executor: Executor) -> int:
    """Run the cells that are not done, and return the exit code.

    Failed cells are tried again; a cell that another process or a SLURM job works on is left to it.

    Raises:
        UserError: see ``work``.
    """
    endings = work(out, specs, results, executor, suite.resources.memory_gib)
    if not endings:
        out.print(f"nothing to do: {len(specs)} of {len(specs)} cells done")
        # Runs of an older bundle come without the lines, and an older version's are not today's.
        _measure_references(out, specs[0], results)
        return EXIT_DONE
    states = {ending.state for ending in endings.values()}
    if "done" in states and "interrupted" not in states:
        _measure_references(out, specs[0], results)
    display.show_endings(out, specs, results, endings)
    return _conclude(out, len(specs), endings)


def work(
    out: Console, specs: Sequence[RunSpec], results: Path, executor: Executor, memory_gib: float
) -> dict[Path, Ending]:
    """Work on the cells that are not done, of ``memory_gib`` each, and return how each of them ended.

    Raises:
        UserError: the results folder cannot be written, the demonstrations cannot be made, or the executor
            refuses.
    """
    queued = _queued(out, results, executor)
    states = plan(specs, results, queued)
    for path, state in states.items():
        if state == "done":
            RunDirectory(path).tidy_up()
    _ask_again(states)
    if all(state == "done" for state in states.values()):
        return {}
    _check_writable(results)
    stamp = {"provenance": provenance.collect(), "created": time.strftime("%Y-%m-%dT%H:%M:%S%z")}
    configure_gl()
    # Before any run directory is made: a cell that cannot start leaves nothing behind.
    _provide_demonstrations(out, [spec for spec in specs if states[spec.directory(results)] not in _TAKEN], results)
    endings: dict[Path, Ending] = {}
    cells: dict[Path, RunSpec] = {}
    for spec in specs:
        path = spec.directory(results)
        state = states[path]
        if state not in _TAKEN:
            try:
                RunDirectory.create(results, spec.model_copy(update=stamp))
            except durable.StorageError:
                raise
            except UserError as error:  # what stands in its place stops no other cell
                endings[path] = Ending("failed", f"{error}; move its folder away to run it again")
            else:
                cells[path] = spec
        elif path in queued and executor.adopts_jobs:
            cells[path] = spec
        elif state != "done":
            endings[path] = Ending("elsewhere", str(queued.get(path, "another process works on it")))
    return endings | (executor.run(out, results, cells, memory_gib) if cells else {})


def _ask_again(states: Mapping[Path, str]) -> None:
    """Note of the cells that are here already, and whose label has another configuration too, that these are wanted."""
    others: dict[Path, set[str | None]] = {}
    for path, state in states.items():
        if state == "missing":
            continue
        if path.parent not in others:
            known = (file.parent for file in path.parent.glob("seed-*/run.json"))
            others[path.parent] = {_configuration(folder) for folder in known if folder not in states}
        if others[path.parent] - {_configuration(path), None}:
            with suppress(durable.StorageError):  # figures of results that cannot be written stay as they are
                RunDirectory(path).ask_again()


def _configuration(folder: Path) -> str | None:
    return found_run(RunDirectory(folder)).configuration


def _queued(out: Console, results: Path, executor: Executor) -> dict[Path, Job]:
    """Return the cells that have a live SLURM job; without an answer only those who need SLURM stop."""
    try:
        return queue.live(results)
    except QueueUnknownError as error:
        if executor.adopts_jobs:
            raise
        out.print(f"{error}; going on without SLURM: a cell that one of its jobs works on is left to it", markup=False)
        return {}


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
        with out.status("reference lines") as status, durable.storage_errors(results):
            provide_references(spec, results, on_progress=status.update)
    except UserError as error:
        out.print(f"no reference lines: {error}", markup=False)


def _conclude(out: Console, count: int, endings: dict[Path, Ending]) -> int:
    states: list[str] = [ending.state for ending in endings.values()]
    not_done = {name: states.count(name) for name in _NOT_DONE if states.count(name)}
    done = count - sum(not_done.values())
    rest = "".join(f", {number} {name}" for name, number in not_done.items())
    out.print(f"{done} of {count} cells done{rest}")
    if not not_done:
        return EXIT_DONE
    if set(not_done) == {"queued"}:
        out.print("the jobs go on alone; ailft-bench status shows how far they are")
        return EXIT_DONE
    out.print("the same command goes on with the rest: " + provenance.command(), markup=False)
    return EXIT_INTERRUPTED if "interrupted" in not_done else EXIT_FAILED
