"""Reproduction: the commands that make existing runs again, from what those recorded of their making."""

from __future__ import annotations

import shlex
from collections.abc import Collection, Iterable
from itertools import pairwise
from pathlib import Path

from ailft_bench import suite_file
from ailft_bench.cells import expand
from ailft_bench.errors import UserError
from ailft_bench.store import RunSpec


def script(specs: Collection[RunSpec], suite: Path | None) -> str:
    """Return the shell script of a bundle: all runs again, each on its own commit, and the figures.

    ``suite`` is the bundle's ``suite.yaml``. Runs that it does not hold (any more, or not in this version of the
    code) are asked for by the suite's name, as their commit has it.
    """
    kept = ["versions.txt"] + ["suite.yaml"] * (suite is not None)
    copies = " ".join(f'"$here/{name}"' for name in kept)
    lines = [
        "#!/bin/sh",
        "# From a checkout of ailft-bench to the figures of this bundle.",
        "set -eu",
        'here=$(cd "$(dirname "$0")" && pwd)',
        "# What is checked out may lack this bundle, or have another one in its place.",
        "kept=$(mktemp -d)",
        f'cp {copies} "$kept"',
        *commands(specs, '"$kept/suite.yaml"', held(specs, suite) if suite else (), '"$kept/versions.txt"'),
    ]
    places = sorted({(spec.suite, spec.scale) for spec in specs})
    return "\n".join([*lines, *(f"ailft-bench plot {name} --scale {scale}" for name, scale in places), ""])


def commands(
    specs: Iterable[RunSpec], suite: str = "", in_suite: Collection[str] = (), requirements: str = ""
) -> list[str]:
    """Return the shell commands that make ``specs`` and no other runs, commit by commit in the order of use.

    Args:
        specs: the runs.
        suite: a suite file, as a shell would read it.
        in_suite: the ids of the runs that it holds; others are asked for by the name of their suite.
        requirements: a file of versions for pip, as a shell would read it; empty: nothing is installed.
    """
    made_at: dict[str, list[RunSpec]] = {}
    for spec in sorted(specs, key=lambda spec: spec.created):
        made_at.setdefault(str(spec.provenance.get("commit") or ""), []).append(spec)
    lines = []
    for commit, made in made_at.items():
        lines.append(f"git checkout {commit}" if commit else "# no commit was recorded")
        if any(spec.provenance.get("dirty") for spec in made):
            lines.append("# the checkout had uncommitted changes when the runs were made")
        if requirements:
            lines.append(f"pip install -e . -r {requirements}")
        lines += _runs(made, suite, in_suite)
    return lines


def held(specs: Iterable[RunSpec], suite: Path) -> set[str]:
    """Return the ids of those of ``specs`` that a suite file holds, with the changes of their own commands."""
    asked_for: dict[tuple[str, tuple[str, ...]], list[RunSpec]] = {}
    for spec in specs:
        asked_for.setdefault((spec.scale, _changes(spec)), []).append(spec)
    found: set[str] = set()
    for (scale, changes), made in asked_for.items():
        try:
            loaded = suite_file.load(str(suite), changes)
        except UserError:  # it has changed, and what was set once is no key of it any more
            continue
        if scale in loaded.scales:
            cells = expand(loaded, scale, seeds=sorted({spec.seed for spec in made}))
            found |= {cell.run_id for cell in cells} & {spec.run_id for spec in made}
    return found


def _runs(specs: Iterable[RunSpec], suite: str, in_suite: Collection[str]) -> list[str]:
    seeds: dict[tuple[str, str, tuple[str, ...]], dict[str, set[int]]] = {}
    for spec in specs:
        place = (suite if spec.run_id in in_suite else spec.suite, spec.scale, _changes(spec))
        seeds.setdefault(place, {}).setdefault(spec.algorithm, set()).add(spec.seed)
    lines = []
    for (name, scale, changes), seeds_of in seeds.items():
        together: dict[str, list[str]] = {}
        for algorithm, numbers in seeds_of.items():
            together.setdefault(",".join(map(str, sorted(numbers))), []).append(algorithm)
        options = "".join(f" --set {shlex.quote(change)}" for change in changes)
        lines += [
            f"ailft-bench run {name} --scale {scale} --seeds {numbers}, --algorithms {','.join(algorithms)}{options}"
            for numbers, algorithms in together.items()
        ]
    return lines


def _changes(spec: RunSpec) -> tuple[str, ...]:
    """Return the ``--set`` assignments of the command that made a run."""
    words = shlex.split(str(spec.provenance.get("command", "")))
    joined = (word.removeprefix("--set=") for word in words if word.startswith("--set="))
    return (*(value for flag, value in pairwise(words) if flag == "--set"), *joined)
