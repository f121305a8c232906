"""Provenance: which code, on which machine, started how."""

from __future__ import annotations

import hashlib
import os
import platform
import re
import shlex
import socket
import subprocess
import sys
from functools import cache
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from ailft_bench import machine

PACKAGES = ("ailft-bench", "torch", "mujoco", "gymnasium", "gymnasium-robotics", "numpy", "pandas", "pyarrow")
_PACKAGE = Path(__file__).parent
_PACKAGES_OF_SOURCES = ("ailft_bench", "algorithms")
_SOURCES = (*_PACKAGES_OF_SOURCES, "pyproject.toml")


def collect() -> dict[str, Any]:
    """Return what is needed to find the code and the machine of this process again, as plain JSON values."""
    return {
        **_code(),
        "packages": versions(),
        "python": platform.python_version(),
        "platform": platform.platform(),
        "host": socket.gethostname(),
        "cpu": machine.cpu_model(),
        "gpu": _gpu_name(),
        "command": command(),
        "directory": os.getcwd(),
    }


def versions() -> dict[str, str | None]:
    """Return the versions of the packages that results depend on."""
    return {name: _version(name) for name in PACKAGES}


def command() -> str:
    """Return this process's command line as one can type it again, but for passwords."""
    name = Path(sys.argv[0]).name
    return shlex.join(["ailft-bench" if name == "__main__.py" else name, *map(masked, sys.argv[1:])])


def masked(text: str) -> str:
    """Return ``text`` without the password of a data base's URL (``://user:password@host``)."""
    return re.sub(r"(://[^:/@\s]*):\S*@", r"\1@", text)


@cache
def _code() -> dict[str, Any]:
    """Git's view where the code is a checkout of its own, and a hash of the sources everywhere."""
    root = _PACKAGE.parent
    top = _git("rev-parse", "--show-toplevel")
    # An installed package may lie inside somebody else's repository: that commit says nothing about it.
    is_checkout = top is not None and Path(top) == root.resolve()
    sources = ["--", *(str(root / name) for name in _SOURCES)]
    diff = _git("diff", "HEAD", "--binary", *sources) if is_checkout else None
    return {
        "commit": _git("rev-parse", "HEAD") if is_checkout else None,
        # Notes and results that lie beside the sources change no result.
        "dirty": bool(_git("status", "--porcelain", "--untracked-files=all", *sources)) if is_checkout else None,
        "diff_sha256": hashlib.sha256(diff.encode()).hexdigest() if diff else None,
        "source_sha256": source_hash(),
    }


@cache
def source_hash() -> str:
    """Return a hash of all the sources of this program."""
    root, digest = _PACKAGE.parent, hashlib.sha256()
    for package in _PACKAGES_OF_SOURCES:
        for path in sorted((root / package).rglob("*.py")):
            digest.update(str(path.relative_to(root)).encode() + b"\0" + path.read_bytes())
    return digest.hexdigest()


def _git(*arguments: str) -> str | None:
    try:
        result = subprocess.run(
            ["git", "-C", str(_PACKAGE), *arguments],
            capture_output=True,
            text=True,
            errors="replace",
            timeout=20,
        )
    except (OSError, subprocess.TimeoutExpired):
        return None
    return result.stdout.strip() if result.returncode == 0 else None


def _version(package: str) -> str | None:
    try:
        return version(package)
    except PackageNotFoundError:
        return None


def _gpu_name() -> str | None:
    """Ask torch where it is loaded (in a worker); the command line itself never loads it."""
    torch = sys.modules.get("torch")
    if torch is None or not torch.cuda.is_available():
        return None
    return str(torch.cuda.get_device_name())
