"""Levers: what makes an update fast here, and why what does not is off."""

from __future__ import annotations

import os
import platform
from dataclasses import dataclass

import torch

from ailft_bench import machine, precision
from ailft_bench.pool import WORKER_ENVIRONMENT
from algorithms.precision import Precision


@dataclass(frozen=True)
class Lever:
    """One of them; ``why`` says where it comes from or what it lacks."""

    name: str
    on: bool
    why: str


def levers(chosen: Precision) -> list[Lever]:
    """Look at this machine and at the precision that updates are done in."""
    device = "cuda" if torch.cuda.is_available() else "cpu"
    glibc = platform.libc_ver()[0] == "glibc"
    software = precision.why_float32(device)
    if chosen == "bfloat16":
        bfloat16 = "asked for, but " + software if software else "in hardware"
    else:
        bfloat16 = software or "the hardware has it; --precision float32 was chosen"
    if device == "cuda":
        cuda = torch.cuda.get_device_name()
    elif machine.gpus():
        cuda = f"torch {torch.__version__} sees none of this machine's {len(machine.gpus())} GPUs"
    else:
        cuda = "no CUDA device here"
    compiled = bool(os.environ.get(machine.COMPILE))
    return [
        Lever("folded frames", True, "folded once, when they enter the replay"),
        Lever("merged first layers of the decoder", True, "one product"),
        Lever("channels last", True, "the replay's own layout"),
        Lever("ensemble in one product", True, "batched"),
        Lever("fused optimisers", True, "AdamW"),
        Lever("allocator keeps its memory", glibc, "set by the pool" if glibc else "for glibc alone"),
        Lever("one thread a worker", device == "cpu", f"OMP_NUM_THREADS={WORKER_ENVIRONMENT['OMP_NUM_THREADS']}"),
        Lever("bfloat16", chosen == "bfloat16", bfloat16),
        Lever("CUDA", device == "cuda", cuda),
        Lever("torch.compile", compiled, "--compile" if compiled else "a switch of run: pays on GPUs at most"),
    ]
