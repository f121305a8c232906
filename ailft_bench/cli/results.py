"""Commands that read results: ``report``, ``export``, ``import``, ``video``, ``eval``, ``compare``."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from ailft_bench.cli.options import ResultsOption, ScaleOption, suite_name
from ailft_bench.errors import UserError
from ailft_bench.terminal import console

if TYPE_CHECKING:
    from ailft_bench.results import Results

RunArgument = Annotated[str, typer.Argument(metavar="RUN", help="A run's directory, or (the beginning of) its id.")]
SuiteName = Annotated[
    str | None, typer.Argument(metavar="[SUITE]", help="A YAML file or a name. Default: all, or the newest.")
]
SampleOption = Annotated[bool, typer.Option("--sample", help="Draw actions instead of taking their mean.")]


def register(app: typer.Typer) -> None:
    """Add the commands to ``app``."""
    for name, command in (
        ("report", report),
        ("export", export),
        ("import", import_),
        ("video", video),
        ("eval", evaluate),
        ("compare", compare),
    ):
        app.command(name)(command)


def warn_of_damage(loaded: Results) -> None:
    """Say on stderr which runs cannot be read: no number contains them."""
    for run in loaded.runs[loaded.runs["state"] == "damaged"].itertuples():
        print(f"warning: damaged, in no number below: {run.reason}", file=sys.stderr)


def reference_lines(loaded: Results, results: Path) -> dict[tuple[str, str], dict[str, dict[str, float]]]:
    """Return the reference lines that were measured; say on stderr which suite has none yet."""
    from ailft_bench.references import load_references

    known = load_references(loaded, results)
    for suite, scale in sorted(set(zip(loaded.runs["suite"], loaded.runs["scale"], strict=True)) - set(known)):
        print(f"note: {suite}, scale {scale}: no reference lines yet; ailft-bench run measures them", file=sys.stderr)
    return known


def report(
    suite: SuiteName = None,
    scale: ScaleOption = None,
    out: Annotated[Path | None, typer.Option(metavar="FILE.html", help="Default: RESULTS/figures/SUITE.html.")] = None,
    videos: Annotated[bool, typer.Option(help="Play and show episodes of the trained policies.")] = True,
    results: ResultsOption = Path("results"),
) -> None:
    """Write one HTML page: figures, tables, statistics, videos, provenance."""
    from ailft_bench import figures
    from ailft_bench.report import write_report
    from ailft_bench.results import newest_suite

    name = newest_suite(results) if suite is None else suite_name(suite)
    loaded = figures.load(results, name, scale)
    warn_of_damage(loaded)
    shown = out or results / "figures" / f"{name}.html"
    progress = console(stderr=True)
    known = reference_lines(loaded, results)
    print(write_report(loaded, shown, results, known, videos, lambda message: progress.print(message, markup=False)))


def export(
    out: Annotated[Path, typer.Option(metavar="FILE", help="The file (with --bundle: the directory) to write.")],
    suite: SuiteName = None,
    scale: ScaleOption = None,
    format_: Annotated[
        Literal["parquet", "csv"] | None, typer.Option("--format", help="Default: as the file's suffix says.")
    ] = None,
    bundle: Annotated[bool, typer.Option("--bundle", help="Write figures, tables, runs and versions too.")] = False,
    results: ResultsOption = Path("results"),
) -> None:
    """Write one tidy table, a row for each measurement of each run, and FILE.runs, a row for each run and its state.

    With --bundle: all that a paper needs.
    """
    from ailft_bench.results import load_results, write_table

    if bundle and format_ is not None:
        raise UserError(f"--format {format_}: a bundle has its own formats; leave it out")
    loaded = load_results(results, None if suite is None else suite_name(suite), scale)
    warn_of_damage(loaded)
    if not bundle:
        print(write_table(loaded.metrics, out, format_))
        print(write_table(loaded.runs, out.with_name(f"{out.stem}.runs{out.suffix}"), format_))
        return
    from ailft_bench import suite_file
    from ailft_bench.bundle import write_bundle

    names = set(loaded.runs["suite"])
    file = None
    if len(names) == 1:
        try:
            file = suite_file.find(suite or names.pop())
        except UserError:
            file = None
    reference_lines(loaded, results)  # for its note: the bundle reads the files that it takes along
    print(write_bundle(loaded, results, out, file))


def import_(
    bundle: Annotated[Path, typer.Argument(metavar="BUNDLE", help="A directory that export --bundle wrote.")],
    results: ResultsOption = Path("results"),
) -> None:
    """Take the runs and reference lines of a bundle into the results; a run that is there already is refused."""
    from ailft_bench.bundle import import_bundle

    imported = import_bundle(bundle, results)
    for path in imported.taken:
        print(path)
    for path, reason in imported.refused.items():
        print(f"refused: {path.name}: {reason}")
    taken, refused = len(imported.taken), len(imported.refused)
    print(f"runs: {taken} taken, {refused} refused; reference lines: {imported.lines} taken")
    raise typer.Exit(1 if imported.refused else 0)


def video(
    run: RunArgument,
    out: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help=".webp or .gif. Default: SUITE-ALGORITHM-seed-SEED-STEP.webp here."),
    ] = None,
    sample: SampleOption = False,
    episode: Annotated[int, typer.Option(min=0, help="Which episode of the evaluations in training.")] = 0,
    results: ResultsOption = Path("results"),
) -> None:
    """Watch a trained policy: write one episode as an animation."""
    from ailft_bench.examination import IN_TRAINING
    from ailft_bench.explain import find
    from ailft_bench.policies import load_policy, write_video

    found = find(results, run)
    policy = load_policy(found)
    played = policy.play(episode + 1, IN_TRAINING, sample)[episode]
    spec = found.spec
    print(write_video(played, out or Path(f"{spec.suite}-{spec.label}-seed-{spec.seed}-{policy.env_step}.webp")))
    console().print(f"{played.metrics['tasks_completed']:.0f} sub-tasks completed", markup=False)


def evaluate(
    run: RunArgument,
    episodes: Annotated[int, typer.Option(min=1, help="How many episodes.")] = 20,
    sample: SampleOption = False,
    occasion: Annotated[
        str,
        typer.Option(metavar="NAME", help="Names the start states; training: those of the evaluations in training."),
    ] = "again",
    results: ResultsOption = Path("results"),
) -> None:
    """Evaluate a trained policy again, on start states that it has not been evaluated on; writes nothing."""
    from rich.table import Table

    from ailft_bench.evaluation import averages
    from ailft_bench.explain import find
    from ailft_bench.policies import load_policy
    from ailft_bench.statistics import proportion_interval

    found = find(results, run)
    policy = load_policy(found)
    played = [episode.metrics for episode in policy.play(episodes, occasion, sample)]
    table = Table("metric", "mean", "lowest", "highest", box=None, pad_edge=False)
    for name, mean in averages(played).items():
        values = [metrics[name] for metrics in played]
        table.add_row(name, f"{mean:.3f}", f"{min(values):g}", f"{max(values):g}")
    out = console()
    out.print(f"{found.spec.label} seed {found.spec.seed}, checkpoint of step {policy.env_step:,}", markup=False)
    out.print(table)
    successes = round(sum(metrics["success"] for metrics in played))
    low, high = proportion_interval(successes, episodes)
    out.print(f"success of this one policy: {successes} of {episodes}, 95 % Wilson interval {low:.2f} to {high:.2f}")


def compare(run_a: RunArgument, run_b: RunArgument, results: ResultsOption = Path("results")) -> None:
    """Say what differs between two runs: configuration, code, versions and machine."""
    from rich.table import Table
    from rich.text import Text

    from ailft_bench.differences import compare as differences
    from ailft_bench.explain import find

    first, second = find(results, run_a), find(results, run_b)
    found = differences(first, second)
    if not found:
        print("no difference in configuration, code, versions or machine")
        return
    table = Table("", "", first.spec.run_id, second.spec.run_id, box=None, pad_edge=False)
    for difference in found:
        table.add_row(*(Text(part) for part in difference))
    console().print(table)
