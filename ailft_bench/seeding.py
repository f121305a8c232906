"""Seeds: every random stream of the project is a named branch of one user-visible integer.

Branches are statistically independent (``numpy.random.SeedSequence``), so tuning, selection and
evaluation never share a stream, and adding a new stream never changes an old one.
"""

from __future__ import annotations

import zlib

import numpy as np


def branch(seed: int, *names: str) -> np.random.SeedSequence:
    """Return the seed sequence of the branch ``names`` of ``seed``.

    ``branch(0, "train", "env")`` and ``branch(0, "eval", "env")`` are independent; the same arguments
    always give the same sequence.
    """
    if seed < 0:
        raise ValueError(f"seed must be at least 0, got {seed}")
    return np.random.SeedSequence(seed, spawn_key=tuple(zlib.crc32(name.encode()) for name in names))


def branch_seed(seed: int, *names: str) -> int:
    """Return the branch as one 32-bit integer, for libraries that take an ``int`` seed."""
    return int(branch(seed, *names).generate_state(1)[0])
