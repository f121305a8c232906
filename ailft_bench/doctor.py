"""The doctor: does this machine have what a run needs, and what to do where it has not."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from ailft_bench import durable, machine
from ailft_bench.errors import UserError
from ailft_bench.slurm import queue

_LITTLE_SPACE = 5e9

# Rendering is tried in another process: a broken driver may crash it.
_RENDER = """
import json, sys, time
import gymnasium
import ailft_bench
env = gymnasium.make(sys.argv[1], disable_env_checker=True)
env.reset(seed=0)
start = time.perf_counter()
for _ in range(10):
    env.step(env.action_space.sample())
print(json.dumps((time.perf_counter() - start) * 100))
env.close()
"""

_TORCH = """
import json, torch
gpu = torch.cuda.get_device_name() if torch.cuda.is_available() else None
print(json.dumps([torch.__version__, torch.get_num_threads(), gpu]))
"""


@dataclass(frozen=True)
class Finding:
    """One line: what was looked at, how it is, and what to do about it."""

    subject: str
    verdict: Literal["ok", "warn", "fail"]
    text: str


def examine(results: Path) -> Iterator[Finding]:
    """Look at everything in turn; a check that breaks is a finding, never an exception."""
    checks: list[tuple[str, Callable[[], Finding]]] = [
        ("machine", _machine),
        ("OpenGL", _opengl),
        ("ailft/Kitchen-v0", lambda: _environment("ailft/Kitchen-v0")),
        ("ailft/Push-v0", lambda: _environment("ailft/Push-v0")),
        ("torch", _torch),
        ("demonstrations", _demonstrations),
        ("SLURM", _slurm),
        ("results", lambda: _disk(results)),
    ]
    for subject, check in checks:
        try:
            yield check()
        except (UserError, OSError, subprocess.SubprocessError, ImportError) as error:
            yield Finding(subject, "fail", str(error))


def _machine() -> Finding:
    cores, memory = machine.cores(), machine.free_memory_gib()
    text = f"{machine.cpu_model()}, {cores} cores, {memory:.1f} GiB of memory free"
    if memory < 2:
        return Finding("machine", "warn", f"{text}; a worker needs about 2 GiB: close other programs")
    return Finding("machine", "ok", text)


def _opengl() -> Finding:
    from ailft_bench.envs.gl import gl_backend

    return Finding("OpenGL", "ok", gl_backend())


def _environment(env_id: str) -> Finding:
    step_ms = float(json.loads(_last_line(_python(_RENDER, env_id))))
    return Finding(env_id, "ok", f"simulates and renders, {step_ms:.1f} ms a step")


def _torch() -> Finding:
    version, threads, gpu = json.loads(_last_line(_python(_TORCH)))
    if gpu is None and machine.gpus():
        return Finding(
            "torch",
            "warn",
            f"{version} sees none of the {len(machine.gpus())} GPUs of this machine: install a CUDA build "
            "(pip install --force-reinstall torch)",
        )
    device = gpu or "no GPU: the default scale is cpu"
    return Finding("torch", "ok", f"{version}, {threads} threads, {device}")


def _demonstrations() -> Finding:
    """Make and read back one episode of the small environment."""
    from ailft_bench.demos.collection import SCRIPTED, provide

    with tempfile.TemporaryDirectory() as cache:
        provide("ailft/Push-v0", {}, SCRIPTED, 1, 0, Path(cache))
    return Finding("demonstrations", "ok", "can be made and read back")


def _slurm() -> Finding:
    sbatch = shutil.which("sbatch")
    if sbatch is None:
        return Finding("SLURM", "ok", "not found: runs stay on this machine")
    controller = queue.controller(patience_s=5)
    if controller == "absent":
        return Finding("SLURM", "ok", f"{sbatch} is here, but set up for no cluster: runs stay on this machine")
    if controller == "silent":
        return Finding("SLURM", "warn", f"set up ({sbatch}), but its controller does not answer: run refuses")
    return Finding("SLURM", "ok", f"answers ({sbatch}): run uses it; --executor local does not")


def _disk(results: Path) -> Finding:
    existing = next(path for path in (results, *results.absolute().parents) if path.exists())
    probe = durable.temporary_beside(existing / "probe")
    try:
        durable.write_bytes(probe, b"")
    finally:
        with suppress(OSError):
            probe.unlink()
    free = shutil.disk_usage(existing).free
    text = f"{results} can be written, {free / 1e9:.1f} GB free"
    if free < _LITTLE_SPACE:
        return Finding("results", "warn", f"{text}; a run of the kitchen suite takes up to 3 GB: free some space")
    return Finding("results", "ok", text)


def _python(code: str, *arguments: str) -> str:
    result = subprocess.run(
        [sys.executable, "-c", code, *arguments],
        capture_output=True,
        text=True,
        timeout=300,
    )
    if result.returncode != 0:
        raise UserError(_last_line(result.stderr) or f"exit code {result.returncode}")
    return result.stdout


def _last_line(text: str) -> str:
    lines = text.strip().splitlines()
    return lines[-1] if lines else ""
