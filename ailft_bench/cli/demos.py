"""The ``demos`` commands: list, make, import, replay and show demonstrations."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.table import Table

from ailft_bench.cli.options import ResultsOption
from ailft_bench.errors import UserError, nearest
from ailft_bench.terminal import console, size

if TYPE_CHECKING:
    from ailft_bench.demos.episode import Episode

demos = typer.Typer(no_args_is_help=True, help="List, make, import, replay and show demonstrations.")

EnvOption = Annotated[str, typer.Option("--env", help="kitchen, push, or the id of an environment.")]
ArgumentsOption = Annotated[
    list[str] | None,
    typer.Option("--set", metavar="KEY=VALUE", help="An argument of the environment; may be repeated."),
]
EpisodesOption = Annotated[int, typer.Option(min=1, help="How many episodes.")]
SeedOption = Annotated[int, typer.Option(min=0, help="The seed of the episodes.")]
SetArgument = Annotated[
    Path | None,
    typer.Argument(metavar="[DIR]", help="A directory of episodes. Default: the scripted expert's."),
]


@demos.command("list")
def list_(results: ResultsOption = Path("results")) -> None:
    """List the sets that were made or imported here."""
    from ailft_bench.demos.collection import list_sets

    found = list_sets(results)
    table = Table("directory", "environment", "source", "episodes", "discarded", "size", "", box=None)
    for item in found:
        recipe = item.recipe
        row = (str(item.directory), str(recipe.get("env_id", "?")), str(recipe.get("source", "?")))
        table.add_row(*row, str(item.kept), str(item.discarded), size(item.size_bytes), item.problem)
    out = console()
    out.print(table if found else f"no demonstrations in {results / 'demos'}; make some: ailft-bench demos make")


@demos.command("make")
def make_(
    env: EnvOption = "kitchen",
    episodes: EpisodesOption = 10,
    seed: SeedOption = 0,
    set_: ArgumentsOption = None,
    out: Annotated[Path | None, typer.Option(metavar="DIR", help="Default: the results' cache.")] = None,
    results: ResultsOption = Path("results"),
) -> None:
    """Let the scripted expert play; keep what solves every task."""
    from ailft_bench.demos.collection import SCRIPTED, make, provide

    env_id, kwargs = _environment(env, set_)
    with console(stderr=True).status("demonstrations") as status:
        if out is None:
            made = provide(env_id, kwargs, SCRIPTED, episodes, seed, results / "demos", status.update)
        else:
            made = make(env_id, kwargs, episodes, seed, out, status.update)
    print(f"{len(made.episodes)} episodes of {env_id} in {made.directory}")


@demos.command("import")
def import_(
    source: Annotated[str, typer.Argument(help="npz or HDF5 file, directory, d4rl:NAME or minari:ID.")],
    out: Annotated[Path, typer.Option(metavar="DIR", help="The new directory.")],
    env: EnvOption = "kitchen",
    episodes: Annotated[int | None, typer.Option(min=1, help="Import so many. Default: all.")] = None,
    seed: SeedOption = 0,
    set_: ArgumentsOption = None,
) -> None:
    """Turn episodes of another project into ours, drawn by our renderer."""
    from ailft_bench.demos.importers import import_source

    env_id, kwargs = _environment(env, set_)
    report = import_source(source, env_id, kwargs, out, episodes=episodes, seed=seed, on_progress=print)
    print(f"{report.kept} of {len(report.episodes)} episodes in {report.directory}")


@demos.command("replay")
def replay_(
    directory: SetArgument = None,
    env: EnvOption = "kitchen",
    episodes: EpisodesOption = 10,
    seed: SeedOption = 0,
    set_: ArgumentsOption = None,
    results: ResultsOption = Path("results"),
) -> None:
    """Play recorded actions from fresh starts: what imitation without looking is worth."""
    from ailft_bench.demos.replay import replay

    env_id, kwargs = _environment(env, set_)
    with console(stderr=True).status("replay") as status:
        demonstrations = _episodes(directory, env_id, kwargs, results)
        score = replay(env_id, kwargs, demonstrations, episodes, seed, status.update)
    print(
        f"{episodes} replays of {score.demonstrations} demonstrations on {env_id}: "
        f"{score.tasks_completed:.2f} tasks completed, success {score.success:.0%}, cost {score.cost:.2f}"
    )


@demos.command("show")
def show_(
    directory: SetArgument = None,
    env: EnvOption = "kitchen",
    set_: ArgumentsOption = None,
    out: Annotated[Path, typer.Option(metavar="FILE", help=".png: a contact sheet; .gif: an animation.")] = Path(
        "demonstrations.png"
    ),
    results: ResultsOption = Path("results"),
) -> None:
    """Draw demonstrations."""
    from ailft_bench.demos.show import show

    env_id, kwargs = _environment(env, set_)
    print(show(_episodes(directory, env_id, kwargs, results), out))


def _environment(name: str, assignments: list[str] | None) -> tuple[str, dict[str, Any]]:
    """Return id and arguments of an environment by its short name or id."""
    from ailft_bench.envs import ENTRY_POINTS
    from ailft_bench.yaml_file import parse_value

    short = {env_id.partition("/")[2].partition("-")[0].lower(): env_id for env_id in ENTRY_POINTS}
    if name not in short and "/" not in name and ":" not in name:
        raise UserError(f"--env {name}: no such environment; {nearest(name, short)}")
    kwargs = {}
    for assignment in assignments or []:
        key, equals, text = assignment.partition("=")
        if not equals:
            raise UserError(f"--set {assignment}: expected key=value, for example start_noise=0.1")
        kwargs[key.strip()] = parse_value(assignment, text)
    if kwargs:
        _check_arguments(short.get(name, name), kwargs)
    return short.get(name, name), kwargs


def _check_arguments(env_id: str, kwargs: dict[str, Any]) -> None:
    from ailft_bench.envs import environment_class
    from ailft_bench.suite_file import check_arguments

    try:
        cls = environment_class(env_id)
    except LookupError as error:
        raise UserError(f"--env {error}") from error
    check_arguments(env_id, kwargs, cls, lambda key: f"--set {key}")


def _episodes(directory: Path | None, env_id: str, kwargs: dict[str, Any], results: Path) -> tuple[Episode, ...]:
    from ailft_bench.demos.collection import SCRIPTED, provide
    from ailft_bench.demos.directory import read_set

    if directory is not None:
        return read_set(directory)[0]
    return provide(env_id, kwargs, SCRIPTED, 10, 0, results / "demos").episodes
