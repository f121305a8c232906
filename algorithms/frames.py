"""Frames as the networks see them: images with every 2x2 block of pixels folded into channels.

The first convolution (kernel 4, stride 2) and the last transposed one (kernel 6, stride 2) of a Dreamer-like
model are the same linear maps as a convolution of kernel 2, and of kernel 3 with padding 2, at stride 1 on
folded frames; those run at several times the speed, and no other layer ever sees an unfolded image. Frames are
folded once, when they enter the replay.
"""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor, nn

CHANNELS = 12


def fold(images: np.ndarray) -> np.ndarray:
    """Return images (..., S, S, 3) as frames (..., S/2, S/2, 12), channels in the order row, column, colour."""
    *batch, height, width, colours = images.shape
    blocks = images.reshape(*batch, height // 2, 2, width // 2, 2, colours)
    return np.ascontiguousarray(np.moveaxis(blocks, -4, -3)).reshape(*batch, height // 2, width // 2, 4 * colours)


def scale(frames: Tensor) -> Tensor:
    """Return uint8 frames (..., S/2, S/2, 12) as floats in [-0.5, 0.5], channels first: (..., 12, S/2, S/2).

    The memory stays channels last, the layout in which the convolutions are fastest.
    """
    return frames.movedim(-1, -3).float().div_(255).sub_(0.5)


def shift(frames: Tensor, offsets: Tensor) -> Tensor:
    """Move each sequence of scaled frames (T, B, C, h, w) by its offset (2, B), in rows and columns; zeros enter.

    Example: an offset of (1, -2) moves what is seen down by one row and to the left by two columns.
    """
    images = frames.movedim(-3, -1)
    _, rows, height, width, _ = images.shape
    y = torch.arange(height, device=frames.device) - offsets[0][:, None]
    x = torch.arange(width, device=frames.device) - offsets[1][:, None]
    inside = ((y >= 0) & (y < height))[:, :, None] & ((x >= 0) & (x < width))[:, None, :]
    y, x = y.clamp(0, height - 1)[:, :, None], x.clamp(0, width - 1)[:, None, :]
    moved = images[:, torch.arange(rows, device=frames.device)[:, None, None], y, x]
    return (moved * inside[..., None]).movedim(-1, -3)


class FrameScaling(nn.Module):
    """What a network sees of folded uint8 frames: scaled, as differences to a background, shifted at random.

    A fixed camera shows the same scene over and over; as differences to a background the networks need not learn it
    first and what moves long after. Frames that are shifted up to ``random_shift`` pixels are harder to learn by heart.
    """

    def __init__(self, image_size: int, center_frames: bool, random_shift: int) -> None:
        super().__init__()
        self.image_size, self._centered, self._most = image_size, center_frames, random_shift // 2
        self.background: Tensor
        self.register_buffer("background", torch.zeros(CHANNELS, image_size // 2, image_size // 2))

    def center(self, frame: Tensor) -> None:
        """Take a mean folded frame (S/2, S/2, 12), 0 to 255 in float64, as the background."""
        self.background.copy_(scale(frame.clone()))

    def scaled(self, frames: Tensor) -> Tensor:
        """Return (..., S/2, S/2, 12) as floats (..., 12, S/2, S/2), less the background."""
        scaled = scale(frames)
        return scaled.sub_(self.background) if self._centered else scaled

    def shifted(self, scaled: Tensor, generator: torch.Generator) -> Tensor:
        """Move each sequence (T, B, ...) by a random offset in steps of two pixels: what moves together stays so."""
        if not self._most:
            return scaled
        size = (2, scaled.shape[1])
        offsets = torch.randint(-self._most, self._most + 1, size, generator=generator, device=scaled.device)
        # Folded frames are half as wide as the image; whole ones, which the benchmark compares with, move twice as far.
        return shift(scaled, offsets * (2 * scaled.shape[-1] // self.image_size))
