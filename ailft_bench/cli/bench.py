"""The ``bench`` command: what this machine makes of a frame, an action and an update, and which levers are on."""

from __future__ import annotations

import json as json_module
from collections.abc import Iterator
from typing import TYPE_CHECKING, Annotated, Any

import typer

from ailft_bench.cli.options import PrecisionOption
from ailft_bench.terminal import console, size

if TYPE_CHECKING:
    from rich.table import Table


def register(app: typer.Typer) -> None:
    """Add the command to ``app``."""
    app.command("bench")(bench)


def bench(
    json: Annotated[bool, typer.Option("--json", help="Print one JSON object instead of tables.")] = False,
    profile: Annotated[bool, typer.Option("--profile", help="Say where an update's time goes, by phase.")] = False,
    quick: Annotated[bool, typer.Option("--quick", help="About two minutes: no full-size update, few turns.")] = False,
    paper: Annotated[bool, typer.Option("--paper", help="Measure the paper preset's update too: slow.")] = False,
    precision: PrecisionOption = "auto",
) -> None:
    """Measure the speed of everything on this machine: frames, steps, actions, updates, workers side by side."""
    from ailft_bench.benchmark.course import BUSY, Course
    from ailft_bench.executors import set_for_workers

    set_for_workers(precision, compiled=False)
    progress = console(stderr=True)
    found = Course(lambda what: progress.print(f"measuring {what}", style="dim"), quick, profile, paper).run()
    if found["waiting"] > BUSY:
        progress.print(
            f"other programs used this machine: work waited {found['waiting']:.0%} of the time for its processor. "
            "Processor times hold to about a quarter; times of the clock (side by side) do not",
            style="yellow",
        )
    if json:
        print(json_module.dumps(found, indent=2))
        return
    out = console()
    machine = found["machine"]
    out.print(
        f"{machine['cpu']}, {machine['cores']} cores, torch {machine['torch']}, device {found['device']}, "
        f"updates in {found['precision']}, {found['threads']} thread a worker",
        markup=False,
    )
    for table in (_figures(found), _updates(found["update"]), _levers(found["levers"])):
        out.print()
        out.print(table)
    for preset, update in found["update"].items():
        if "phases" in update:
            out.print()
            out.print(_phases(preset, update["phases"]))


def _table(*columns: str) -> Table:
    from rich.table import Table

    return Table(*columns, box=None, pad_edge=False)


def _figures(found: dict[str, Any]) -> Table:
    table = _table("what", "figure", "in proportion")
    for row in _rows(found):
        table.add_row(*row)
    return table


def _rows(found: dict[str, Any]) -> Iterator[tuple[str, str, str]]:
    render, limit, worker, step = found["render"], found["limit"], found["worker"], found["env_step_ms"]
    update_ms = 1e3 * found["update"]["cpu"]["seconds"]
    yield "frame, fast", f"{render['fast_ms']:.2f} ms", f"{render['share_of_physics']:.2f} of a step's physics"
    yield "frame, stock", f"{render['stock_ms']:.0f} ms", f"{render['speedup']:.0f} times the fast one"
    yield "environment step, with its frame", f"{step:.2f} ms", f"physics and costs {found['physics_ms'] / step:.0%}"
    for name, key in (("action", "act_ms"), ("replay batch", "replay_ms")):
        yield name, f"{found[key]:.2f} ms", f"{found[key] / update_ms:.1%} of a cpu update"
    yield "matrix product, float32", f"{limit['gflops_f32']:.0f} GFLOP/s", "the limit"
    ratio = limit["gflops_bf16"] / limit["gflops_f32"]
    yield "matrix product, bfloat16", f"{limit['gflops_bf16']:.0f} GFLOP/s", f"{ratio:.2f} of float32"
    for count, rate in found["side_by_side"]["updates_per_s"].items():
        gain = found["side_by_side"]["gain"][count]
        yield f"{count} workers at once", f"{rate:.2f} updates/s", f"{gain:.2f} times one"
    saved = found["checkpoint"]
    share = f"{1e3 * saved['seconds'] / update_ms:.2f} cpu updates"
    yield "checkpoint", f"{1e3 * saved['seconds']:.0f} ms, {size(saved['bytes'])}", share
    yield "worker", f"{worker['env_steps_per_hour']:,.0f} steps/h", f"environment and acting {worker['env_share']:.0%}"
    if "peak_gib" in worker:
        yield "its memory", f"{worker['peak_gib']:.2f} GiB", f"{worker['frames']:,} frames in its replay"


def _updates(updates: dict[str, Any]) -> Table:
    table = _table("update", "seconds", "GFLOP", "GFLOP/s", "of float32 limit", "of bfloat16 limit", "plain", "gain")
    for preset, update in updates.items():
        table.add_row(
            preset,
            f"{update['seconds']:.3f}",
            f"{update['gflop']:.1f}",
            f"{update['gflops']:.0f}",
            f"{update['fraction_f32']:.0%}",
            f"{update['fraction_bf16']:.0%}",
            f"{update['plain_seconds']:.3f}",
            f"{update['speedup']:.2f}",
        )
    return table


def _levers(levers: list[dict[str, Any]]) -> Table:
    table = _table("lever", "", "")
    for lever in levers:
        table.add_row(lever["name"], "[green]on[/]" if lever["on"] else "[yellow]off[/]", lever["why"])
    return table


def _phases(preset: str, phases: dict[str, float]) -> Table:
    table = _table(f"phase of a {preset} update", "ms", "")
    total = sum(phases.values())
    for phase, seconds in phases.items():
        table.add_row(phase, f"{1e3 * seconds:.1f}", f"{seconds / total:.0%}")
    return table
