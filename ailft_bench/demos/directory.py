"""A set of episodes on disk: a directory that appears whole or not at all.

    <set>/000.npz, 001.npz, ...    episodes, in the order they were made
    <set>/manifest.json            recipe, checksum, kept, discarded, versions, and the SHA-256 of every file

A directory of episode files without a manifest is a set as well (files in the order of their names).
"""

from __future__ import annotations

import hashlib
import os
import platform
import shutil
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from importlib.metadata import version
from pathlib import Path
from typing import Any

from ailft_bench.demos.episode import FORMAT_VERSION, Episode, load_episode, save_episode
from ailft_bench.durable import fsync, fsync_tree, read_json, storage_errors, temporary_beside, write_json
from ailft_bench.errors import UserError

MANIFEST = "manifest.json"
_ABANDONED_S = 24 * 3600
"""A temporary directory this old belongs to a process that was killed."""


class SetWriter:
    """Collects episodes in a temporary directory; ``commit`` makes it the set."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self._hashes: dict[str, str] = {}
        with storage_errors(directory):
            directory.parent.mkdir(parents=True, exist_ok=True)
            self.temporary = temporary_beside(directory)
            self.temporary.mkdir()

    def add(self, episode: Episode) -> None:
        """Write the next episode."""
        path = self.temporary / f"{len(self._hashes):03d}.npz"
        save_episode(path, episode)
        self._hashes[path.name] = hash_file(path)

    def commit(self, checksum: str | None, recipe: dict[str, Any], discarded: int) -> bool:
        """Write the manifest and rename; return False where another process was first.

        ``checksum`` None stands for the checksum of the contents.
        """
        content = {
            "format": FORMAT_VERSION,
            "checksum": checksum or hash_contents(self._hashes.values()),
            "recipe": recipe,
            "kept": len(self._hashes),
            "discarded": discarded,
            "versions": versions(),
            "files": self._hashes,
        }
        write_json(self.temporary / MANIFEST, content)
        with storage_errors(self._directory):
            fsync_tree(self.temporary)
            try:
                os.rename(self.temporary, self._directory)
            except OSError:
                if (self._directory / MANIFEST).is_file():
                    return False
                raise
            fsync(self._directory.parent)
        return True


@contextmanager
def new_set(directory: Path) -> Iterator[SetWriter]:
    """Yield a ``SetWriter``; what was not committed is removed."""
    _remove_abandoned(directory)
    writer = SetWriter(directory)
    try:
        yield writer
    finally:
        shutil.rmtree(writer.temporary, ignore_errors=True)


def require_free(directory: Path) -> None:
    """Refuse to write a set over something that is already there.

    Raises:
        UserError: ``directory`` exists and is not an empty directory.
    """
    if directory.exists() and (not directory.is_dir() or any(directory.iterdir())):
        raise UserError(f"{directory}: already there and not empty; choose another --out or remove it")


def read_set(directory: Path, episodes: int | None = None) -> tuple[tuple[Episode, ...], str]:
    """Return the first ``episodes`` episodes (all for None) and the checksum of their contents.

    Raises:
        UserError: no such directory, too few episodes, a file that is malformed or differs from the
            manifest, or episodes whose images or actions differ in shape.
    """
    paths = episode_paths(directory, episodes)
    expected = _files_of_manifest(directory)
    loaded: list[Episode] = []
    hashes = []
    for path in paths:
        loaded.append(load_episode(path))
        hashes.append(hash_file(path))
        if expected.get(path.name, hashes[-1]) != hashes[-1]:
            raise UserError(f"{path}: differs from its entry in {MANIFEST}; it was changed or damaged")
        for key in ("image", "action"):
            first, shape = getattr(loaded[0], key).shape[1:], getattr(loaded[-1], key).shape[1:]
            if first != shape:
                raise UserError(f"{path}: {key} {shape} a row, but {paths[0].name} has {first}")
    return tuple(loaded), hash_contents(hashes)


def episode_paths(directory: Path, episodes: int | None = None) -> list[Path]:
    """Return the files of the first ``episodes`` episodes (all for None).

    Raises:
        UserError: no such directory, or too few episodes in it.
    """
    if not directory.is_dir():
        raise UserError(f"{directory}: no such directory of demonstrations")
    names = sorted(_files_of_manifest(directory)) or sorted(path.name for path in directory.glob("*.npz"))
    if not names:
        raise UserError(f"{directory}: holds no episodes (*.npz)")
    if episodes is not None and len(names) < episodes:
        raise UserError(f"{directory}: holds {len(names)} episodes, but {episodes} were asked for")
    return [directory / name for name in names[:episodes]]


def hash_file(path: Path) -> str:
    """Return the SHA-256 of a file.

    Raises:
        UserError: it cannot be read.
    """
    try:
        return hashlib.sha256(path.read_bytes()).hexdigest()
    except OSError as error:
        raise UserError(f"{path}: {error.strerror}") from error


def _files_of_manifest(directory: Path) -> dict[str, str]:
    """Return name -> hash of the set's files, empty where it has no manifest."""
    manifest = read_json(directory / MANIFEST)
    if manifest is None:
        return {}
    files = manifest.get("files") if isinstance(manifest, dict) else None
    if not isinstance(files, dict):
        raise UserError(f"{directory / MANIFEST}: has no list of files; it was changed or damaged")
    return files


def hash_contents(hashes: Any) -> str:
    """Return the checksum (16 hexadecimal digits) of files, given theirs."""
    return hashlib.sha256("\n".join(hashes).encode()).hexdigest()[:16]


def versions() -> dict[str, str]:
    """Return the versions of what makes demonstrations."""
    packages = {name: version(name) for name in ("mujoco", "gymnasium", "numpy")}
    return {"python": platform.python_version(), **packages}


def _remove_abandoned(directory: Path) -> None:
    for left in directory.parent.glob(f".{directory.name}.*.tmp"):
        # Another process may be removing it, or renaming it, at this moment.
        with suppress(OSError):
            if time.time() - left.stat().st_mtime > _ABANDONED_S:
                shutil.rmtree(left)
