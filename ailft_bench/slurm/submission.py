"""Submission to SLURM through submitit: arrays of jobs, each with the path of a run directory and nothing more."""

from __future__ import annotations

import os
import shutil
import time
import uuid
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, NamedTuple

from ailft_bench import durable
from ailft_bench.errors import UserError
from ailft_bench.slurm import queue
from ailft_bench.slurm.job import work_on
from ailft_bench.slurm.profile import Profile
from ailft_bench.store.lease import Lease, LeaseHeldError


class Submitted(NamedTuple):
    """The cells that SLURM took, and those that were left without a job."""

    taken: list[Path]
    left: list[Path]


def submit(results: Path, suite: str, paths: Sequence[Path], profile: Profile) -> Submitted:
    """Submit the cells at ``paths`` that have no live job, as few arrays as SLURM allows.

    Only one process at a time submits from one results folder. Some are left where SLURM takes the first arrays and
    refuses the next: users may have a limited number of jobs.

    Raises:
        LeaseHeldError: another process is submitting; look again.
        UserError: sbatch refused the first array, in its own words.
        QueueUnknownError: SLURM does not answer.
    """
    folder = results / queue.FOLDER
    with durable.storage_errors(folder):
        folder.mkdir(parents=True, exist_ok=True)
    with Lease(folder / "submit.json").hold():
        live = queue.live(results)
        wanted = [path for path in paths if path not in live]
        arrays = chunks(wanted, queue.max_array_size())
        taken: list[Path] = []
        for array in arrays:
            try:
                _submit_array(results, f"{suite}-{uuid.uuid4().hex[:8]}", array, profile, len(arrays))
            except UserError:
                if not taken:
                    raise
                break
            taken += array
    return Submitted(taken, wanted[len(taken) :])


def submit_now(results: Path, suite: str, paths: Sequence[Path], profile: Profile) -> Submitted:
    """As ``submit``, after whoever submits at this moment."""
    while True:
        with suppress(LeaseHeldError):
            return submit(results, suite, paths, profile)
        time.sleep(1)


def chunks(paths: Sequence[Path], size: int) -> list[list[Path]]:
    """Split ``paths`` into arrays of at most ``size``, in order."""
    return [list(paths[start : start + size]) for start in range(0, len(paths), size)]


def parameters(profile: Profile, name: str, arrays: int = 1) -> dict[str, Any]:
    """Return submitit's parameters for one of ``arrays`` arrays, which share the profile's parallelism."""
    chosen = {
        "slurm_partition": profile.partition,
        "slurm_account": profile.account,
        "slurm_qos": profile.qos,
        "slurm_constraint": profile.constraint,
        "slurm_gpus_per_node": profile.gpus or None,
        "slurm_setup": profile.setup or None,
    }
    return {
        "name": name,
        "timeout_min": profile.time_limit_min,
        "cpus_per_task": profile.cpus,
        "mem_gb": profile.memory_gib,
        "slurm_signal_delay_s": profile.signal_delay_s,
        "slurm_array_parallelism": max(1, profile.parallel // arrays),
        # submitit's own default is a key that many clusters refuse.
        "slurm_wckey": None,
        "slurm_additional_parameters": {"requeue": True, **profile.sbatch},
        **{key: value for key, value in chosen.items() if value is not None},
    }


def _submit_array(results: Path, name: str, paths: Sequence[Path], profile: Profile, arrays: int) -> None:
    import submitit

    folder = results / queue.FOLDER / name
    with durable.storage_errors(folder):
        folder.mkdir()
    # Before sbatch: whatever happens from here on, the jobs can be found.
    cells = [str(path.relative_to(results)) for path in paths]
    durable.write_json(folder / "cells.json", {"cells": cells})
    try:
        executor = submitit.AutoExecutor(folder=folder, cluster="slurm")
        executor.update_parameters(**parameters(profile, name, arrays))
        with _outside_of_any_job():
            jobs = executor.map_array(work_on, [str(path.absolute()) for path in paths])
    except (RuntimeError, ValueError) as error:
        # After a time-out the jobs may be there all the same; whoever waits for room asks again and again.
        if "timed out" not in str(error):
            shutil.rmtree(folder, ignore_errors=True)
        raise UserError(f"sbatch refused: {str(error).strip().splitlines()[-1]}") from error
    durable.write_json(folder / "job.json", {"job": jobs[0].job_id.partition("_")[0]})


@contextmanager
def _outside_of_any_job() -> Iterator[None]:
    """Hide the job that this process may run in: sbatch and srun would inherit its limits."""
    kept = {"SLURM_CONF"}
    hidden = {key: os.environ.pop(key) for key in list(os.environ) if key.startswith("SLURM") and key not in kept}
    try:
        yield
    finally:
        os.environ.update(hidden)
