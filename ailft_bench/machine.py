"""What this machine offers: cores, memory, GPUs; read from the kernel, without importing torch here.

What users ask of it goes to workers by environment variable, not by the suite: it is no part of the science.
"""

from __future__ import annotations

import os
import platform
import socket
import subprocess
import sys
from functools import cache
from pathlib import Path

#: ``auto``, ``float32`` or ``bfloat16``: see ``ailft_bench.precision``.
PRECISION = "AILFT_PRECISION"
#: Set: networks are compiled by ``torch.compile``.
COMPILE = "AILFT_COMPILE"
#: The first import of torch from a slow disk takes minutes.
_TORCH_TIMEOUT_S = 300


def node() -> str:
    """Return the name of this machine; in a SLURM job, SLURM's name of the node."""
    return os.environ.get("SLURMD_NODENAME") or socket.gethostname()


def cores() -> int:
    """Return how many processors this process may use: its affinity, and a container's quota."""
    available = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    quota, _, period = _read("/sys/fs/cgroup/cpu.max").partition(" ")
    if quota.isdigit() and period.strip().isdigit():
        available = min(available, round(int(quota) / int(period)))
    return max(1, available)


def free_memory_gib() -> float:
    """Return the memory that new processes can have, within a container's limit; infinite if unknown."""
    free = float("inf")
    for line in _read("/proc/meminfo").splitlines():
        if line.startswith("MemAvailable:"):
            free = int(line.split()[1]) / 2**20
    limit, used = _read("/sys/fs/cgroup/memory.max").strip(), _read("/sys/fs/cgroup/memory.current").strip()
    if limit.isdigit() and used.isdigit():
        free = min(free, (int(limit) - int(used) + _idle_cache_bytes()) / 2**30)
    return free


def _idle_cache_bytes() -> int:
    """Return what of a container's used memory is page cache, which grows up to the limit, and is given up first."""
    for line in _read("/sys/fs/cgroup/memory.stat").splitlines():
        if line.startswith("inactive_file "):
            return int(line.split()[1])
    return 0


def gpus() -> list[str]:
    """Return the CUDA devices that a worker may use, as ``CUDA_VISIBLE_DEVICES`` names them."""
    visible = os.environ.get("CUDA_VISIBLE_DEVICES")
    if visible is not None:
        return [device for device in visible.split(",") if device not in ("", "-1")]
    devices = (path.name.removeprefix("nvidia") for path in Path("/dev").glob("nvidia[0-9]*"))
    return sorted(devices, key=int)


def usable_gpus() -> list[str]:
    """Return ``gpus`` where torch can use them, else none: a build without CUDA finds no device that is listed."""
    listed = gpus()
    return listed if listed and _torch_finds_cuda(os.environ.get("CUDA_VISIBLE_DEVICES")) else []


@cache
def _torch_finds_cuda(visible: str | None) -> bool:
    """Ask torch in another process, once for each value of ``CUDA_VISIBLE_DEVICES``: importing it here takes seconds.

    A torch that is not there, or broken, finds none.
    """
    code = "import sys, torch; sys.exit(not torch.cuda.is_available())"
    try:
        asked = subprocess.run([sys.executable, "-c", code], capture_output=True, timeout=_TORCH_TIMEOUT_S)
    except (OSError, subprocess.TimeoutExpired):
        return False
    return asked.returncode == 0


def bfloat16_units() -> list[str]:
    """Return the processor's instruction sets for matrix products in bfloat16, as the kernel names them."""
    for line in _read("/proc/cpuinfo").splitlines():
        if line.startswith("flags"):
            return sorted({"avx512_bf16", "amx_bf16"} & set(line.split()))
    return []


def cpu_model() -> str:
    """Return the processor's name."""
    for line in _read("/proc/cpuinfo").splitlines():
        if line.startswith("model name"):
            return line.partition(":")[2].strip()
    return platform.processor() or platform.machine()


def _read(path: str) -> str:
    try:
        return Path(path).read_text()
    except OSError:
        return ""
