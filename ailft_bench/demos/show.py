"""Pictures of episodes: a contact sheet (PNG) or an animation (GIF)."""

from __future__ import annotations

import io
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw

from ailft_bench.demos.episode import Episode
from ailft_bench.durable import write_bytes
from ailft_bench.errors import UserError

_TILE = 128
"""Pixels that a frame is enlarged to, at least."""
_CAPTION = 14
_FRAME_MS = 80


def show(episodes: Sequence[Episode], out: Path, columns: int = 8) -> Path:
    """Draw ``episodes`` to ``out``: a contact sheet for .png, an animation for .gif; return ``out``.

    The sheet has a row for each episode and ``columns`` evenly spaced frames from first to last; the
    animation shows all episodes side by side. Captions give the step and the number of tasks done.

    Raises:
        UserError: another suffix, no episodes, or fewer than 2 columns.
    """
    if not episodes or columns < 2:
        raise UserError(f"show: {len(episodes)} episodes in {columns} columns; needed: at least 1 in 2")
    buffer = io.BytesIO()
    if out.suffix == ".png":
        Image.fromarray(contact_sheet(episodes, columns)).save(buffer, "PNG")
    elif out.suffix == ".gif":
        frames = [Image.fromarray(frame) for frame in _animation(episodes)]
        frames[0].save(buffer, "GIF", save_all=True, append_images=frames[1:], duration=_FRAME_MS, loop=0)
    else:
        raise UserError(f"{out}: suffix {out.suffix!r}; allowed: .png (contact sheet), .gif (animation)")
    write_bytes(out, buffer.getvalue())
    return out


def contact_sheet(episodes: Sequence[Episode], columns: int) -> np.ndarray:
    """Return the contact sheet as uint8 (height, width, 3)."""
    rows = []
    for episode in episodes:
        steps = np.linspace(0, len(episode), columns).round().astype(int)
        rows.append(np.concatenate([_tile(episode, step) for step in steps], axis=1))
    return np.concatenate(rows, axis=0)


def _animation(episodes: Sequence[Episode]) -> list[np.ndarray]:
    longest = max(len(episode) for episode in episodes)
    return [
        np.concatenate([_tile(episode, min(step, len(episode))) for episode in episodes], axis=1)
        for step in range(longest + 1)
    ]


def _tile(episode: Episode, step: int) -> np.ndarray:
    factor = -(-_TILE // episode.image.shape[1])
    frame = episode.image[step].repeat(factor, axis=0).repeat(factor, axis=1)
    caption = Image.new("RGB", (frame.shape[1], _CAPTION), "white")
    done = episode.reward if episode.tasks_completed is None else episode.tasks_completed
    ImageDraw.Draw(caption).text((3, 1), f"step {step}   {done[step]:.0f} done", fill="black")
    return np.concatenate([np.asarray(caption), frame], axis=0)
