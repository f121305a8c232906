"""The one exception that users see: a message that says what is wrong, where, and what is allowed."""

from __future__ import annotations

import difflib
from collections.abc import Iterable
from pathlib import Path

#: More names than anybody reads.
MANY = 20


class UserError(Exception):
    """A mistake of the caller's: printed without a traceback; the command exits with code 2."""


def nearest(name: str, allowed: Iterable[str]) -> str:
    """Return the sentence ``did you mean 'x'? allowed: a, b, c`` for a misspelt ``name``.

    Of more than ``MANY`` names the nearest alone, if one is near.
    """
    options = sorted(allowed)
    match = difflib.get_close_matches(name, options, n=1, cutoff=0.6)
    if match and len(options) > MANY:
        return f"did you mean {match[0]!r}? (one of {len(options)})"
    hint = f"did you mean {match[0]!r}? " if match else ""
    return f"{hint}allowed: {', '.join(options)}"


def did_you_mean(path: Path, beside: Iterable[Path]) -> str:
    """Return ``; did you mean 'x'?`` for a path that is not there, or nothing where none ``beside`` it is near."""
    match = difflib.get_close_matches(path.name, [other.name for other in beside], n=1, cutoff=0.6)
    return f"; did you mean {str(path.with_name(match[0]))!r}?" if match else ""
