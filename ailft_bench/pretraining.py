"""Shared pretraining: runs that begin alike begin once.

Methods that differ in their adversarial part alone clone the same networks from the same demonstrations, bit for
bit. The first to come through leaves its state, evaluated once, in ``results/pretrained/<key>.pt``, and those that
start later go on from there: what they compute, and the time they report, is what it would have been. Those that
start together each do it for themselves, so the pool starts them one after the other where it can (``in_turn``).
The folder may be deleted at any time.
"""

from __future__ import annotations

import hashlib
import json
import os
import zipfile
from collections import Counter
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

from ailft_bench import durable, machine, provenance
from ailft_bench.store import RunSpec
from ailft_bench.store.metrics import Row

#: Settings of the agent that nothing reads before the first environment step or the first adversarial update.
AFTERWARDS = frozenset(
    (
        *("alpha", "reward_form", "penalize_data_reward", "adversarial", "bc_scale", "entropy"),
        *("disc_steps", "disc_pairs", "disc_negatives", "disc_regularizer", "disc_penalty", "disc_penalty_target"),
        *("disc_noise", "disc_action_scale", "horizon", "imagination_starts", "discount", "lam", "discount_weights"),
        *("bootstrap", "data_critic_loss", "target_reduce", "target_every", "target_tau"),
        *("prefill_steps", "online", "train_every", "updates_per_train", "adapt_updates", "actor_frozen_updates"),
        *("acting", "prefill_noise", "exploration_noise", "rescale_moments"),
    )
)


def science(spec: RunSpec) -> dict[str, Any] | None:
    """Return all that decides the state after pretraining and its evaluation, None where no other run has the same.

    Full updates before the cloning (``pretrain_updates``) depend on everything, and are never shared.
    """
    if spec.agent["pretrain_updates"] or not spec.agent["bc_pretrain"]:
        return None
    cloning = {name: value for name, value in spec.agent.items() if name not in AFTERWARDS}
    # While there is nothing but demonstrations, they fill every row of a batch.
    cloning["demo_batch_fraction"] = cloning["demo_batch_fraction"] > 0
    return {
        "environment": spec.environment,
        "demonstrations": spec.demonstrations["checksum"],
        "agent": cloning,
        "seed": spec.seed,
        "evaluation": spec.evaluation["episodes"],
    }


def in_turn(cells: Mapping[Path, RunSpec], at_once: int) -> list[Path]:
    """Return the paths of ``cells`` in an order in which those with a common pretraining do not start together.

    Seeds are taken ``at_once`` at a time, so that an early stop leaves whole ones, where there are more seeds than
    that. Of each such group comes first one cell of every pretraining, then what shares with nobody, then those that
    go on from where the first came.
    """
    seeds = list(dict.fromkeys(spec.seed for spec in cells.values()))
    order: list[Path] = []
    for first in range(0, len(seeds), at_once):
        group = {path: spec for path, spec in cells.items() if spec.seed in seeds[first : first + at_once]}
        begins = {path: json.dumps(science(spec), sort_keys=True) for path, spec in group.items()}
        alone = {path for path, spec in group.items() if science(spec) is None}
        alone |= {path for path, begin in begins.items() if Counter(begins.values())[begin] == 1}
        leading = {begin: path for path, begin in reversed(begins.items()) if path not in alone}
        order += sorted(group, key=lambda path: 0 if path in leading.values() else 1 if path in alone else 2)
    return order


def shared_file(results: Path, spec: RunSpec, device: str, precision: str) -> Path | None:
    """Return the file of the state that ``spec`` has after its pretraining here, None where it is never shared."""
    import torch

    beginning = science(spec)
    if beginning is None:
        return None
    # What decides the rounding, and the numbers that are drawn.
    execution = {
        "sources": provenance.source_hash(),
        "versions": provenance.versions(),
        "rendering": os.environ.get("MUJOCO_GL"),
        "precision": precision,
        "threads": torch.get_num_threads(),
        "processor": [machine.cpu_model(), torch.backends.cpu.get_cpu_capability()],
        "gpu": torch.cuda.get_device_name() if device == "cuda" else None,
    }
    text = json.dumps({**beginning, **execution}, sort_keys=True)
    return results / "pretrained" / f"{hashlib.sha256(text.encode()).hexdigest()[:16]}.pt"


def save(path: Path, scratch: Path, state: dict[str, Any], rows: list[Row]) -> None:
    """Save the state after pretraining and its evaluation, and the metrics' rows up to it.

    It is written into the folder ``scratch`` on the same file system, whose owner clears away what a kill leaves
    there. Nobody needs this file: where it cannot be written, this says so and goes on.
    """
    import torch

    temporary = durable.temporary_beside(scratch / path.name)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        torch.save({"state": state, "rows": rows}, temporary)
        durable.fsync(temporary)
        durable.commit(temporary, path)
    except (OSError, RuntimeError) as error:  # torch hides a full disk in a RuntimeError
        print(f"{path}: not written, so no other run can share this pretraining: {error}")
    finally:
        with suppress(OSError):
            temporary.unlink()


def load(path: Path) -> tuple[dict[str, Any], list[Row]] | None:
    """Return what ``save`` was given, on the CPU; None where there is nothing, or nothing whole."""
    import torch

    try:
        with zipfile.ZipFile(path) as archive:
            if archive.testzip():  # torch itself does not look at the checksums
                return None
        content = torch.load(path, map_location="cpu", weights_only=False)
    except (OSError, zipfile.BadZipFile):
        return None
    return content["state"], content["rows"]
