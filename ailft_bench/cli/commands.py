"""The command line: parse, call, print. Everything heavy is imported by the command that needs it."""

from __future__ import annotations

import os
import sys
from contextlib import suppress
from pathlib import Path
from typing import Annotated, Any, Literal

import typer
from typer.core import TyperGroup

from ailft_bench import __version__
from ailft_bench.cli import bench, tune
from ailft_bench.cli import results as results_commands
from ailft_bench.cli.demos import demos
from ailft_bench.cli.options import (
    PrecisionOption,
    ResultsOption,
    ScaleOption,
    SetOption,
    is_suite_file,
    known_suite_name,
    parse_names,
    parse_seeds,
    suite_name,
)
from ailft_bench.errors import UserError
from ailft_bench.terminal import console

EXIT_BAD_INPUT, EXIT_INTERRUPTED = 2, 130


class _Commands(TyperGroup):
    """Mistakes of the user's and Ctrl-C end in a message and an exit code, not in a traceback."""

    def invoke(self, ctx: Any) -> Any:
        try:
            return super().invoke(ctx)
        except UserError as error:
            print(f"error: {error}", file=sys.stderr)
            raise typer.Exit(EXIT_BAD_INPUT) from error
        except KeyboardInterrupt as error:
            print("interrupted; the same command goes on with the rest", file=sys.stderr)
            raise typer.Exit(EXIT_INTERRUPTED) from error


app = typer.Typer(
    cls=_Commands,
    add_completion=False,
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    help="Benchmarks and ablations for model-based adversarial imitation learning from images.",
)
app.add_typer(demos, name="demos")
results_commands.register(app)
tune.register(app)
bench.register(app)

SuiteArgument = Annotated[str, typer.Argument(metavar="SUITE", help="A YAML file or a shipped suite's name.")]
OptionalSuite = Annotated[
    str | None,
    typer.Argument(metavar="[SUITE]", help="A YAML file or a name. Default: all, or the newest."),
]


def _print_version(wanted: bool) -> None:
    if wanted:
        print(f"ailft-bench {__version__}")
        raise typer.Exit


@app.callback()
def _main(
    version: Annotated[
        bool,
        typer.Option("--version", callback=_print_version, is_eager=True, help="Show the version."),
    ] = False,
) -> None:
    pass


@app.command()
def run(
    suite: SuiteArgument,
    seeds: Annotated[
        str | None,
        typer.Option(metavar="N or 0,3,7", help="A number of seeds or a list (4, is seed 4)."),
    ] = None,
    algorithms: Annotated[str | None, typer.Option(metavar="A,B", help="Run these algorithms only.")] = None,
    scale: ScaleOption = None,
    executor: Annotated[
        Literal["auto", "local", "slurm", "inline"],
        typer.Option(help="Where to run; inline: in this process, for debuggers."),
    ] = "auto",
    jobs: Annotated[int | None, typer.Option(min=1, help="Runs at once. Default: as fits.")] = None,
    profile: Annotated[
        str | None, typer.Option(metavar="NAME", help="What a job asks of the cluster: a profile's name or file.")
    ] = None,
    detach: Annotated[bool, typer.Option("--detach", help="Submit to SLURM and leave.")] = False,
    precision: PrecisionOption = "float32",
    compile_: Annotated[
        bool, typer.Option("--compile", help="Compile the networks (torch.compile): minutes at first, for GPUs.")
    ] = False,
    live: Annotated[
        str | None, typer.Option(metavar="NAME", help="Show metrics live too: tensorboard, or module:Class.")
    ] = None,
    set_: SetOption = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Print cells and costs; touch nothing.")] = False,
    results: ResultsOption = Path("results"),
) -> None:
    """Run what is missing of a suite; called again, it goes on."""
    from ailft_bench import cells, executors, launch, suite_file
    from ailft_bench.live import ask_for

    loaded = suite_file.load(suite, set_ or [], try_environments=True)
    ask_for(live)
    where = executors.choose(executor, jobs, detach, profile)
    executors.set_for_workers(precision, compile_)
    chosen = launch.choose_scale(loaded, scale, where.has_gpu())
    specs = cells.expand(loaded, chosen, parse_names(algorithms), parse_seeds(seeds))
    out = console()
    launch.announce(out, loaded, chosen, set_ or [])
    if dry_run:
        launch.dry_run(out, loaded, specs, results, where)
        return
    raise typer.Exit(launch.run(out, loaded, specs, results, where))


@app.command()
def status(suite: OptionalSuite = None, scale: ScaleOption = None, results: ResultsOption = Path("results")) -> None:
    """Show every cell: state, progress, node, why it failed, and the command that goes on. Read-only."""
    from ailft_bench import status as statuses
    from ailft_bench import suite_file

    loaded = suite_file.load(suite) if suite is not None and is_suite_file(suite) else None
    found = statuses.collect(results, loaded.name if loaded else suite, scale)
    if loaded is not None and suite is not None:
        scales = sorted({cell.scale for cell in found} & set(loaded.scales))
        try:
            found += statuses.missing(loaded, scales, found, suite)
        except UserError as error:  # demonstrations that are elsewhere: the runs are here all the same
            print(f"warning: {error}; cells that were never started are left out", file=sys.stderr)
    statuses.show(console(), found)


@app.command()
def explain(
    run: Annotated[str, typer.Argument(metavar="RUN", help="A run's directory, or (the beginning of) its id.")],
    results: ResultsOption = Path("results"),
) -> None:
    """Say what became of one run: verdict, place, attempts, last lines, and the command that reruns it."""
    from ailft_bench import explain as explanations

    explanations.show(console(), explanations.find(results, run))


@app.command()
def cancel(suite: SuiteArgument, scale: ScaleOption = None, results: ResultsOption = Path("results")) -> None:
    """End the SLURM jobs of a suite, and nothing else; what they saved stays."""
    from ailft_bench.slurm import watch

    cancelled = watch.cancel(results, known_suite_name(suite, results), scale)
    print(f"{len(cancelled)} jobs cancelled" if cancelled else "no jobs of this suite are queued or running")


@app.command()
def plot(
    suite: OptionalSuite = None,
    scale: ScaleOption = None,
    out: Annotated[Path | None, typer.Option(metavar="DIR", help="Default: RESULTS/figures/SUITE.")] = None,
    caption: Annotated[bool, typer.Option(help="Captions in the pictures, else in text files beside them.")] = True,
    results: ResultsOption = Path("results"),
) -> None:
    """Draw all figures as PNG and PDF, with the data of each beside it."""
    from ailft_bench import figures
    from ailft_bench.results import newest_suite

    name = newest_suite(results) if suite is None else suite_name(suite)
    loaded = figures.load(results, name, scale)
    results_commands.warn_of_damage(loaded)
    known = results_commands.reference_lines(loaded, results)
    figures.plot(loaded, out or results / "figures" / name, known, captions=caption, on_written=print)


@app.command()
def doctor(results: ResultsOption = Path("results")) -> None:
    """Check rendering, torch, SLURM, demonstrations and disk; say what to do about each."""
    from ailft_bench.doctor import examine

    styles = {"ok": "green", "warn": "yellow", "fail": "red"}
    out = console()
    failed = False
    for finding in examine(results):
        failed |= finding.verdict == "fail"
        out.print(f"[{styles[finding.verdict]}]{finding.verdict:<5}[/]", end="")
        out.print(f"{finding.subject}: {finding.text}", markup=False)
    raise typer.Exit(1 if failed else 0)


def main() -> None:
    """Run the command line. The user's own modules in the current folder are found too, after installed ones."""
    with suppress(OSError):  # the folder is gone
        sys.path.append(os.getcwd())
    app()
