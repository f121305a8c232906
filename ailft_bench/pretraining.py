"""Shared pretraining: runs that begin alike begin once.

Methods that differ in their adversarial part alone clone the same networks from the same demonstrations, bit for
bit. The first to come through leaves its state in ``results/pretrained/<key>.pt``, and the others go on from there:
what they compute, and the time they report, is what it would have been. The folder may be deleted at any time.
"""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from pickle import UnpicklingError
from typing import Any

from ailft_bench import durable, machine, provenance
from ailft_bench.durable import storage_errors
from ailft_bench.store import RunSpec
from ailft_bench.store.metrics import Row

#: Settings of the agent that nothing reads before the first environment step or the first adversarial update.
AFTERWARDS = frozenset(
    (
        *("alpha", "reward_form", "penalize_data_reward", "adversarial", "bc_scale", "entropy"),
        *("disc_steps", "disc_pairs", "disc_negatives", "disc_regularizer", "disc_penalty", "disc_penalty_target"),
        *("disc_noise", "disc_action_scale", "horizon", "imagination_starts", "discount", "lam", "discount_weights"),
        *("bootstrap", "data_critic_loss", "target_reduce", "target_every", "target_tau"),
        *("prefill_steps", "online", "train_every", "updates_per_train", "actor_frozen_updates", "exploration_noise"),
    )
)


def beginning(spec: RunSpec) -> dict[str, Any] | None:
    """Return all that decides how ``spec`` is pretrained, None where no other run can have the same.

    Full updates before the cloning (``pretrain_updates``) depend on everything, and are never shared.
    """
    if spec.agent["pretrain_updates"] or not spec.agent["bc_pretrain"]:
        return None
    return {
        "environment": spec.environment,
        "demonstrations": spec.demonstrations["checksum"],
        "agent": {name: value for name, value in spec.agent.items() if name not in AFTERWARDS},
        "seed": spec.seed,
    }


def place(results: Path, spec: RunSpec, device: str, precision: str) -> Path | None:
    """Return the file of the state that ``spec`` has after its pretraining here, None where it is never shared."""
    import torch

    science = beginning(spec)
    if science is None:
        return None
    execution = {
        "sources": provenance.source_hash(),
        "torch": torch.__version__,
        # Rounding differs between kinds of processor.
        "processor": [device, precision, torch.cuda.get_device_name() if device == "cuda" else machine.cpu_model()],
    }
    text = json.dumps({**science, **execution}, sort_keys=True)
    return results / "pretrained" / f"{hashlib.sha256(text.encode()).hexdigest()[:16]}.pt"


def save(path: Path, state: dict[str, Any], rows: list[Row]) -> None:
    """Save the state after pretraining and the metrics' rows up to it; one that is already there stays.

    Raises:
        StorageError: the file system refused.
    """
    import torch

    with storage_errors(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        temporary = durable.temporary_beside(path)
        try:
            torch.save({"state": state, "rows": rows}, temporary)
            durable.commit(temporary, path, exclusive=True)
        finally:
            temporary.unlink(missing_ok=True)


def load(path: Path, device: str) -> tuple[dict[str, Any], list[Row]] | None:
    """Return what ``save`` was given, or None where there is nothing; a damaged file is removed."""
    import torch

    try:
        content = torch.load(path, map_location=device, weights_only=False)
        return content["state"], content["rows"]
    except FileNotFoundError:
        return None
    except (LookupError, TypeError, ValueError, AttributeError, EOFError, RuntimeError, UnpicklingError):
        path.unlink(missing_ok=True)
        return None
