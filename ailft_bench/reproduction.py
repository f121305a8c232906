"""Reproduction: the commands that make existing runs again, from what those recorded of their making."""

from __future__ import annotations

import shlex
from collections.abc import Collection, Iterable
from itertools import pairwise
from pathlib import Path
from typing import NamedTuple

from ailft_bench import suite_file
from ailft_bench.cells import expand
from ailft_bench.errors import UserError
from ailft_bench.store import RunSpec

#: A run as a suite knows it: its id, and the label that it stands under.
Cell = tuple[str, str]


def script(specs: Collection[RunSpec], suite: Path | None) -> str:
    """Return the shell script of a bundle: all runs again, each on its own commit, and the figures.

    ``suite`` is the bundle's ``suite.yaml``. Runs that it does not hold (any more, or not in this version of the
    code) are asked for as they were, by the suite that their commit has.
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
    # A study's runs lie in a folder of their own, and it draws them itself.
    places = sorted({(spec.suite, spec.scale) for spec in specs if not _Typed.of(spec).study})
    return "\n".join([*lines, *(f"ailft-bench plot {name} --scale {scale}" for name, scale in places), ""])


def commands(
    specs: Iterable[RunSpec], suite: str = "", in_suite: Collection[Cell] = (), requirements: str = ""
) -> list[str]:
    """Return the shell commands that make ``specs``, commit by commit in the order of use.

    No others are made with them, but for missing variants of an algorithm that has some of its variants here.

    Args:
        specs: the runs.
        suite: a suite file, as a shell would read it.
        in_suite: the runs that it holds (``held``); others are asked for as their own commands did.
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


def held(specs: Iterable[RunSpec], suite: Path) -> set[Cell]:
    """Return those of ``specs`` that a suite file holds under the same names, with what their commands changed."""
    asked_for: dict[tuple[str, tuple[str, ...]], list[RunSpec]] = {}
    for spec in specs:
        asked_for.setdefault((spec.scale, _Typed.of(spec).changes), []).append(spec)
    found: set[Cell] = set()
    for (scale, changes), made in asked_for.items():
        try:
            loaded = suite_file.load(str(suite), changes)
            if scale not in loaded.scales:
                continue
            cells = expand(loaded, scale, seeds=sorted({spec.seed for spec in made}))
        except UserError:  # it has changed, what was set is no key of it any more, or its demonstrations are elsewhere
            continue
        found |= {_cell(cell) for cell in cells} & {_cell(spec) for spec in made}
    return found


def _cell(spec: RunSpec) -> Cell:
    return spec.run_id, spec.label


class _Typed(NamedTuple):
    """What a run's own command asked for, as it was typed: the suite, and the options that runs depend on."""

    suite: str
    options: tuple[str, ...]
    changes: tuple[str, ...]
    #: The whole command, of runs that a study made: it alone knows which.
    study: str = ""

    @classmethod
    def of(cls, spec: RunSpec) -> _Typed:
        words = [word for word in shlex.split(str(spec.provenance.get("command", ""))) if word]
        suite, options, changes = spec.suite, [], []
        if words[1:2] == ["tune"]:
            return cls(suite, (), (), study=shlex.join(words))
        for before, word in pairwise(["", *words]):
            flag, equals, value = word.partition("=")
            if before == "--set" or (flag == "--set" and equals):
                changes.append(word if before == "--set" else value)
                options += ["--set", changes[-1]]
            elif before == "--precision" or word == "--compile" or (flag == "--precision" and equals):
                options += ["--precision", word] if before == "--precision" else [word]
            elif word.endswith((".yaml", ".yml")) and before != "--profile" and not word.startswith("-"):
                suite = word
        return cls(suite, tuple(options), tuple(changes))


def _runs(specs: Iterable[RunSpec], suite: str, in_suite: Collection[Cell]) -> list[str]:
    seeds: dict[tuple[str, str, tuple[str, ...]], dict[str, set[int]]] = {}
    studies: dict[str, None] = {}
    for spec in specs:
        typed = _Typed.of(spec)
        if typed.study:
            studies[typed.study] = None
            continue
        name = suite if _cell(spec) in in_suite else shlex.quote(typed.suite)
        seeds.setdefault((name, spec.scale, typed.options), {}).setdefault(spec.algorithm, set()).add(spec.seed)
    lines = list(studies)
    for (name, scale, options), seeds_of in seeds.items():
        together: dict[str, list[str]] = {}
        for algorithm, numbers in seeds_of.items():
            together.setdefault(",".join(map(str, sorted(numbers))), []).append(algorithm)
        rest = f" {shlex.join(options)}" if options else ""
        lines += [
            f"ailft-bench run {name} --scale {scale} --seeds {numbers}, --algorithms {','.join(algorithms)}{rest}"
            for numbers, algorithms in together.items()
        ]
    return lines
