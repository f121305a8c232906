"""Precision: which parts of an update compute in bfloat16, where that is asked for, and which never do.

Matrix products and convolutions at the sizes of a batch of frames or rollouts may (by autocast, parameters and
optimiser states staying float32). Network outputs come back as float32, so that losses, divergences, standard
deviations, the recurrent state, rewards and returns are computed in it. The filter's loop, the gradient
penalty, the decoder's last convolution, every optimiser step, and acting are float32 throughout (convolutions of a
GPU that has TF32 are in that, as torch has it by default).
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import Literal

import torch

Precision = Literal["float32", "bfloat16"]


def products_in(precision: Precision, device: torch.device) -> AbstractContextManager[object]:
    """Compute products and convolutions of the block in ``precision``; float32 is exactly no block."""
    if precision == "float32":
        return nullcontext()
    # No cache of casts: one made before an optimiser step, or without gradient, would be used after it.
    return torch.autocast(device.type, torch.bfloat16, cache_enabled=False)


@contextmanager
def float32() -> Iterator[None]:
    """Compute everything of the block in float32, whatever surrounds it."""
    with torch.autocast("cpu", enabled=False), torch.autocast("cuda", enabled=False):
        yield
