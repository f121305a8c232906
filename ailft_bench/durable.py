"""Durable files: written through a temporary name, fsync and rename, so that a kill never leaves half of one.

A reader sees the old content or the new, never a mixture. Errors of the file system become one
message that names the path and what to do.
"""

from __future__ import annotations

import errno
import json
import os
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from functools import cache
from pathlib import Path
from typing import Any, TypeVar, cast

from pydantic import TypeAdapter, ValidationError

from ailft_bench.errors import UserError

T = TypeVar("T")
_adapter: Callable[[Any], TypeAdapter[Any]] = cache(TypeAdapter)

_ADVICE = {
    errno.ENOSPC: "the disk is full; free space there",
    errno.EDQUOT: "the disk quota is used up; free space there",
    errno.EFBIG: "a file grew beyond the limit of this process or file system; raise it",
    errno.EROFS: "the file system is read-only; choose a folder you can write to with --results",
    errno.EACCES: "permission is missing; choose a folder you can write to with --results",
    errno.EPERM: "permission is missing; choose a folder you can write to with --results",
    errno.EEXIST: "choose another place",
    errno.ENOTDIR: "a part of this path is a file; choose another folder with --results",
}


class StorageError(UserError):
    """The file system refused a read or a write: full, read-only, or not permitted."""


@contextmanager
def storage_errors(path: Path) -> Iterator[None]:
    """Turn an ``OSError`` of the block into a ``StorageError`` that names the path and what to do."""
    try:
        yield
    except OSError as error:
        advice = _ADVICE.get(error.errno or 0, "check the folder and its file system")
        raise StorageError(
            f"{error.filename or path}: {error.strerror or error}: {advice}, "
            "then run the same command again (nothing that was finished is lost)"
        ) from error


def temporary_beside(path: Path) -> Path:
    """Return a name in the same folder that no other process uses and that no listing mistakes for data.

    Raises:
        UserError: ``path`` is the current folder or the root, which have no name.
    """
    if not path.name:
        raise UserError(f"{path}: a folder that is there already; choose a name in it, for example {path / 'NAME'}")
    return path.with_name(f".{path.name}.{uuid.uuid4().hex[:12]}.tmp")


def fsync(path: Path) -> None:
    """Flush one file, or the entries of one directory, to the disk."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def fsync_tree(directory: Path) -> None:
    """Flush every file and directory below ``directory``, and itself."""
    for root, _, names in os.walk(directory, topdown=False):
        for name in names:
            fsync(Path(root, name))
        fsync(Path(root))


def write_bytes(path: Path, content: bytes, *, exclusive: bool = False, durable: bool = True) -> bool:
    """Replace ``path`` by ``content`` in one step, and return whether it was written.

    With ``exclusive`` a file that is already there wins, and False is returned: of several writers exactly
    one succeeds. ``durable=False`` spares the fsync, for files whose loss in a power cut costs nothing.

    Raises:
        StorageError: the file system refused, or what stands there is no file.
        UserError: ``path`` has no name.
    """
    temporary = temporary_beside(path)
    with storage_errors(path):
        try:
            with open(temporary, "wb") as file:
                file.write(content)
                file.flush()
                if durable:
                    os.fsync(file.fileno())
            return commit(temporary, path, exclusive=exclusive, durable=durable)
        finally:
            with suppress(OSError):
                temporary.unlink()


def copy_sparse(source: Path, target: Path) -> None:
    """Copy a file without giving disk space to its holes. May raise ``OSError``."""
    with open(source, "rb") as file, open(target, "wb") as copy:
        while block := file.read(1 << 20):
            if block.count(0) == len(block):
                copy.seek(len(block), os.SEEK_CUR)
            else:
                copy.write(block)
        copy.truncate()
        copy.flush()
        os.fsync(copy.fileno())


def commit(temporary: Path, path: Path, *, exclusive: bool = False, durable: bool = True) -> bool:
    """Give a finished temporary file its name; see ``write_bytes``. May raise ``OSError``."""
    if exclusive:
        try:
            os.link(temporary, path)
        except FileExistsError:
            # A request that NFS repeats is refused although the first one succeeded.
            if os.stat(temporary).st_nlink < 2:
                return False
    elif path.exists() and not path.is_file():
        raise OSError(errno.EEXIST, "what stands there is no file, and would be replaced")
    else:
        os.replace(temporary, path)
    if durable:
        fsync(path.parent)
    return True


def write_json(path: Path, value: Any, *, exclusive: bool = False, durable: bool = True) -> bool:
    """Write ``value`` as indented JSON; see ``write_bytes``."""
    content = (json.dumps(value, indent=2) + "\n").encode()
    return write_bytes(path, content, exclusive=exclusive, durable=durable)


def read_json(path: Path, *, strict: bool = True) -> Any | None:
    """Return the content of a JSON file, or None where there is no such file.

    With ``strict=False`` a damaged file counts as missing: for files written with ``durable=False``.

    Raises:
        UserError: the file is not JSON (it was edited or damaged), or cannot be read.
    """
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return None
    except OSError as error:
        raise StorageError(f"{path}: {error.strerror}") from error
    except ValueError as error:  # no JSON, or not even UTF-8
        if not strict:
            return None
        raise UserError(f"{path}: not valid JSON ({error}); it was changed or damaged") from error


def read_record(kind: type[T], path: Path) -> T | None:
    """Return a small record: the fields of a dataclass, as ``write_json`` wrote them.

    A damaged one, or one that lacks a field or has a value that is none for it, counts as none.
    """
    content = read_json(path, strict=False)
    try:
        return None if content is None else cast(T, _adapter(kind).validate_python(content))
    except ValidationError:
        return None
