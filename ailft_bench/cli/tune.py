"""The command ``tune``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

import typer

from ailft_bench.cli.options import PrecisionOption, ResultsOption, ScaleOption, SetOption
from ailft_bench.terminal import console


def register(app: typer.Typer) -> None:
    """Add the command to ``app``."""
    app.command()(tune)


def tune(
    parameters: Annotated[
        list[str],
        typer.Argument(
            metavar="PARAM...",
            help="alpha, lambda, or any setting with its range: horizon:int[5,30], actor_lr:log[1e-5,1e-3], "
            "lambda:float[0.8,1], critic:choice[Q,V].",
        ),
    ],
    suite: Annotated[str, typer.Option(metavar="SUITE", help="A YAML file or a shipped suite's name.")] = "kitchen",
    scale: ScaleOption = None,
    algorithm: Annotated[str, typer.Option(metavar="NAME", help="Whose settings are tuned.")] = "conservative",
    trials: Annotated[
        int | None, typer.Option(min=2, help="Settings to try, the suite's own first. Default: 20; at scale smoke 4.")
    ] = None,
    seeds: Annotated[
        int | None, typer.Option(min=1, help="Runs of each, on the same seeds for all. Default: 3; at smoke 2.")
    ] = None,
    fresh_seeds: Annotated[
        int | None,
        typer.Option(
            min=1, help="New seeds to choose among the best three, and as many to report on. Default: 5; at smoke 2."
        ),
    ] = None,
    objective: Annotated[
        str, typer.Option(metavar="NAME", help="area, final, success, return; or two: return,cost.")
    ] = "area",
    max_cost: Annotated[
        float | None, typer.Option(min=0, metavar="C", help="Most violating steps an episode that are acceptable.")
    ] = None,
    prune: Annotated[
        bool, typer.Option("--prune", help="Give up settings that lose on half of their seeds or more.")
    ] = False,
    study: Annotated[str | None, typer.Option(metavar="NAME", help="Default: the suite, scale and parameters.")] = None,
    storage: Annotated[
        str | None, typer.Option(metavar="URL", help="A data base for Optuna. Default: a file in the results.")
    ] = None,
    executor: Annotated[
        Literal["auto", "local", "slurm", "inline"], typer.Option(help="Where to run; as for run.")
    ] = "auto",
    jobs: Annotated[int | None, typer.Option(min=1, help="Runs at once. Default: as fits.")] = None,
    profile: Annotated[
        str | None, typer.Option(metavar="NAME", help="What a job asks of the cluster: a profile's name or file.")
    ] = None,
    precision: PrecisionOption = "float32",
    set_: SetOption = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Print the plan and its cost; touch nothing.")] = False,
    results: ResultsOption = Path("results"),
) -> None:
    """Tune settings with Optuna; choose and report on seeds that tuning has not seen. Called again, it goes on."""
    from ailft_bench import executors, launch, provenance, suite_file
    from ailft_bench.tuning import objective as objectives
    from ailft_bench.tuning import plan as plans
    from ailft_bench.tuning import summary
    from ailft_bench.tuning.protocol import Protocol, Stopped
    from ailft_bench.tuning.study import Study, journal_errors

    wanted = objectives.parse(objective, max_cost)
    loaded = suite_file.load(suite, set_ or [], try_environments=True)
    where = executors.choose(executor, jobs, False, profile)
    executors.set_for_workers(precision, compiled=False)
    chosen = launch.choose_scale(loaded, scale, where.has_gpu())
    plan = plans.draw_up(
        loaded,
        chosen,
        algorithm,
        parameters,
        trials=trials,
        seeds=seeds,
        fresh_seeds=fresh_seeds,
        objective=wanted,
        prune=prune,
        name=study,
        storage=plans.JOURNAL if storage is None else provenance.masked(storage),
    )
    out = console()
    launch.announce(out, loaded, chosen, set_ or [])
    summary.show_plan(out, plan)
    memory = loaded.resources.memory_gib
    if dry_run:
        summary.show_cost(out, plan, results, where.width(memory))
        return
    opened = Study.open(results, plan, storage)
    with journal_errors(opened.folder / plans.JOURNAL):
        try:
            outcome = Protocol(out, opened, where, memory).play()
        except Stopped as stopped:
            summary.show_stopped(out)
            raise typer.Exit(stopped.code) from stopped
        summary.show(out, opened, outcome)
    raise typer.Exit(launch.EXIT_DONE if outcome.complete else launch.EXIT_FAILED)
