"""The terminal: the console that commands print to, and how states, durations and sizes look."""

from __future__ import annotations

from rich.console import Console

STYLES = {
    "done": "green",
    "failed": "red",
    "running": "cyan",
    "queued": "cyan",
    "elsewhere": "cyan",
    "cancelled": "red",
    "interrupted": "yellow",
    "damaged": "red",
    "waiting": "yellow",
    "missing": "dim",
}


def console(*, stderr: bool = False) -> Console:
    """Return a console; where the output is no terminal, lines are as long as they need to be."""
    found = Console(stderr=stderr, highlight=False, soft_wrap=True)
    return found if found.is_terminal else Console(stderr=stderr, highlight=False, soft_wrap=True, width=240)


def duration(seconds: float) -> str:
    """Return a duration in words of the size that matters."""
    minutes = round(seconds / 60)
    if seconds < 59.5:
        return f"{seconds:.0f} s"
    if minutes < 60:
        return f"{minutes} min"
    if minutes < 48 * 60:
        return f"{minutes // 60} h {minutes % 60:02} min"
    return f"{seconds / 86400:.1f} days"


def size(count: float) -> str:
    """Return a number of bytes in words."""
    for unit in ("B", "kB", "MB", "GB"):
        if count < 1000:
            return f"{count:.3g} {unit}"
        count /= 1000
    return f"{count:.3g} TB"
