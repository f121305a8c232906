"""Options that several commands share, and how their values are read."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

import typer

from ailft_bench import machine
from ailft_bench.errors import UserError, nearest

ResultsOption = Annotated[
    Path,
    typer.Option("--results", metavar="DIR", envvar="AILFT_RESULTS", help="Where runs live."),
]
ScaleOption = Annotated[
    str | None,
    typer.Option(metavar="NAME", help="The size: paper, cpu, smoke, or one of the suite's own."),
]
SetOption = Annotated[
    list[str] | None,
    typer.Option("--set", metavar="KEY=VALUE", help="Change a key by its dotted path; may be repeated."),
]
PrecisionOption = Annotated[
    Literal["auto", "float32", "bfloat16"],
    typer.Option(envvar=machine.PRECISION, help="Of updates; auto: bfloat16 where the hardware is faster in it."),
]


def parse_names(text: str | None) -> list[str]:
    """Read ``a,b``; nothing given is an empty list.

    Raises:
        UserError: no names, or one twice.
    """
    if text is None:
        return []
    names = [name.strip() for name in text.split(",") if name.strip()]
    if not names or len(set(names)) != len(names):
        raise UserError(f"--algorithms {text}: expected names, each once (conservative,vmail)")
    return names


def parse_seeds(text: str | None) -> list[int]:
    """Read ``5`` (seeds 0 to 4) or ``0,3,7``; ``4,`` is seed 4 alone; nothing given is an empty list.

    Raises:
        UserError: not numbers, none, a negative one, or one twice.
    """
    from ailft_bench.suite import MAX_SEEDS

    if text is None:
        return []
    parts = [part.strip() for part in text.split(",")]
    if parts[-1] == "":
        parts.pop()
    if not parts or not all(part.isascii() and part.isdigit() for part in parts):
        raise UserError(f"--seeds {text}: expected a number of seeds (5) or a list of seeds (0,3,7)")
    numbers = [int(part) for part in parts]
    if "," not in text:
        if not 0 < numbers[0] <= MAX_SEEDS:
            raise UserError(f"--seeds {text}: expected 1 to {MAX_SEEDS} seeds ({text}, is the seed {text} alone)")
        return list(range(numbers[0]))
    if len(set(numbers)) != len(numbers):
        raise UserError(f"--seeds {text}: a seed is given twice")
    if max(numbers) >= 2**32:
        raise UserError(f"--seeds {text}: a seed is at most {2**32 - 1}")
    return numbers


def is_suite_file(suite: str) -> bool:
    """Whether ``suite`` can be read: results may hold suites whose file is gone."""
    from ailft_bench import suite_file

    try:
        suite_file.find(suite)
    except UserError:
        if Path(suite).suffix in (".yaml", ".yml"):
            raise
        return False
    return True


def suite_name(suite: str) -> str:
    """Return the name under which results of ``suite`` are kept."""
    from ailft_bench import suite_file

    if not is_suite_file(suite):
        return suite
    return suite_file.load(suite).name


def known_suite_name(suite: str, results: Path) -> str:
    """Return the name under which ``results`` keep ``suite``, which has to be a suite or to have results.

    Raises:
        UserError: it is neither.
    """
    from ailft_bench import suite_file
    from ailft_bench.suite import RESERVED_NAMES

    folders = {path.name for path in results.glob("*") if path.is_dir()} - set(RESERVED_NAMES)
    if suite not in folders and not is_suite_file(suite):
        hint = nearest(suite, folders | suite_file.shipped().keys())
        raise UserError(f"{suite}: neither a suite nor a folder in {results}; {hint}")
    return suite_name(suite)
