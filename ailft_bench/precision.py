"""Precision of the workers' updates: what is asked for, what this machine is fast in, and what a run began in.

It belongs to the machine, not to the science: it goes by environment variable and is no part of a run's identity,
but every attempt records it, and a run goes on in the precision that its checkpoint was made in.
"""

from __future__ import annotations

import os
from typing import Literal, get_args

from ailft_bench import machine
from ailft_bench.errors import UserError, nearest
from ailft_bench.store import RunDirectory
from algorithms.precision import Precision

Choice = Literal["auto", "float32", "bfloat16"]


def choose(device: str) -> Precision:
    """Return the precision that the environment asks for, float32 if nothing; ``auto`` is what is fastest here.

    Raises:
        UserError: the environment variable holds something else.
    """
    wanted = os.environ.get(machine.PRECISION, "float32")
    if wanted not in get_args(Choice):
        raise UserError(f"environment variable {machine.PRECISION}: {wanted!r}; {nearest(wanted, get_args(Choice))}")
    if wanted == "auto":
        return "bfloat16" if why_float32(device) is None else "float32"
    return wanted  # type: ignore[return-value]


def why_float32(device: str) -> str | None:
    """Return why float32 is faster than bfloat16 on this machine's ``device``, None where it is not."""
    if device == "cuda":
        import torch

        if torch.cuda.is_bf16_supported(including_emulation=False):
            return None
        return f"{torch.cuda.get_device_name()} has no bfloat16 units"
    if machine.bfloat16_units():
        return None
    return "the processor has neither avx512_bf16 nor amx_bf16: bfloat16 is done in software"


def of_run(run: RunDirectory, device: str) -> Precision:
    """Return the precision to work on ``run`` in: that of its checkpoint, or, at its beginning, the chosen one."""
    attempts = run.attempts.read()
    if run.latest_checkpoint() is None or not attempts:
        return choose(device)
    # Whatever made the checkpoint went on in its predecessor's precision too: the last attempt says it.
    begun: Precision = attempts[-1].provenance.get("precision", "float32")
    wanted = choose(device)
    if begun != wanted:
        print(f"goes on in {begun}, as it began, not in {wanted}: a run is in one precision", flush=True)
    return begun
