"""Options that several commands share, and how their values are read."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from ailft_bench.errors import UserError

ResultsOption = Annotated[
    Path,
    typer.Option("--results", metavar="DIR", envvar="AILFT_RESULTS", help="Where runs and studies live."),
]
ScaleOption = Annotated[
    str | None,
    typer.Option(metavar="NAME", help="The size: paper, cpu, smoke, or one of the suite's own."),
]
SetOption = Annotated[
    list[str] | None,
    typer.Option("--set", metavar="KEY=VALUE", help="Change a key by its dotted path; may be repeated."),
]


def parse_names(text: str | None) -> list[str]:
    """Read ``a,b``; nothing given is an empty list."""
    return [] if text is None else [name.strip() for name in text.split(",") if name.strip()]


def parse_seeds(text: str | None) -> list[int]:
    """Read ``5`` (seeds 0 to 4) or ``0,3,7``; ``4,`` is seed 4 alone; nothing given is an empty list.

    Raises:
        UserError: not numbers, none, a negative one, or one twice.
    """
    if text is None:
        return []
    parts = [part.strip() for part in text.split(",")]
    if parts[-1] == "":
        parts.pop()
    if not parts or not all(part.isascii() and part.isdigit() for part in parts):
        raise UserError(f"--seeds {text}: expected a number of seeds (5) or a list of seeds (0,3,7)")
    numbers = [int(part) for part in parts]
    if "," not in text:
        if numbers[0] == 0:
            raise UserError("--seeds 0: expected at least 1 seed (0, is the seed 0 alone)")
        return list(range(numbers[0]))
    if len(set(numbers)) != len(numbers):
        raise UserError(f"--seeds {text}: a seed is given twice")
    if max(numbers) >= 2**32:
        raise UserError(f"--seeds {text}: a seed is at most {2**32 - 1}")
    return numbers
