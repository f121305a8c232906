"""The checkpoints of one run: directories that appear when they are complete, the newest one wins."""

from __future__ import annotations

import os
import shutil
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from ailft_bench import durable
from ailft_bench.durable import StorageError, storage_errors


class Checkpoints:
    """``<serial>-<step>/`` with a ``done`` file in it; pretraining saves several at step 0."""

    def __init__(self, folder: Path, before_write: Callable[[], None]) -> None:
        self.folder = folder
        self._before_write = before_write

    def save(self, step: int, write: Callable[[Path], None]) -> Path:
        """Save one: ``write`` fills the (empty) directory that it is given.

        The older ones are removed once this one is complete.

        Raises:
            StorageError: the file system refused; the older checkpoint is still there.
            LeaseLostError: another worker took over.
        """
        self._before_write()
        temporary = self.folder / f".{uuid.uuid4().hex}.tmp"
        with storage_errors(self.folder):
            temporary.mkdir(parents=True)
            try:
                with _refusals_as_os_errors(temporary):
                    write(temporary)
                (temporary / "done").touch()
                durable.fsync_tree(temporary)
                self._before_write()
                complete = self._name(temporary, step)
            except BaseException:
                shutil.rmtree(temporary, ignore_errors=True)
                raise
            durable.fsync(self.folder)
        self.keep_newest()
        return complete

    def keep_newest(self) -> None:
        """Remove all but the newest complete one, and what a killed process left half-written."""
        latest = self.latest()
        for other in self.folder.iterdir() if self.folder.exists() else ():
            if latest is None or other.name < latest[1].name:
                shutil.rmtree(other, ignore_errors=True)

    def latest(self) -> tuple[int, Path] | None:
        """Return the step and directory of the newest complete one."""
        complete = sorted(done.parent for done in self.folder.glob("[0-9]*-*/done"))
        return (int(complete[-1].name.partition("-")[2]), complete[-1]) if complete else None

    def _name(self, temporary: Path, step: int) -> Path:
        names = [path.name for path in self.folder.iterdir() if path.name[0].isdigit()]
        serial = 1 + max((int(name.partition("-")[0]) for name in names), default=0)
        target = self.folder / f"{serial:06d}-{step}"
        os.rename(temporary, target)
        return target


@contextmanager
def _refusals_as_os_errors(folder: Path) -> Iterator[None]:
    """Let a full disk be an ``OSError`` again where a library hides it in one of its own exceptions.

    ``torch.save`` raises a bare ``RuntimeError``; whether the disk is to blame is found out by writing.
    """
    try:
        yield
    except (OSError, StorageError):
        raise
    except Exception:
        (folder / "probe").write_bytes(bytes(1 << 16))
        raise
