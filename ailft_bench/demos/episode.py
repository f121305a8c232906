"""One demonstrated episode: its arrays, their validation, and its file (a compressed npz)."""

from __future__ import annotations

import io
import json
import zipfile
import zlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from ailft_bench.durable import write_bytes
from ailft_bench.errors import UserError

FORMAT_VERSION = 1

_REQUIRED = {  # key: (dtype, number of axes)
    "image": (np.uint8, 4),
    "action": (np.float32, 2),
    "reward": (np.float32, 1),
    "is_first": (np.bool_, 1),
    "is_last": (np.bool_, 1),
    "is_terminal": (np.bool_, 1),
}
_OPTIONAL = {"tasks_completed": (np.int64, 1), "state": (np.float64, 2)}


@dataclass(frozen=True, eq=False)
class Episode:
    """T transitions as T + 1 rows: row t is what was seen at time t and the action that led to it.

    ``image`` uint8 (T+1, S, S, 3); ``action`` float32 (T+1, A) in [-1, 1], the first all zero; ``reward``
    float32 (T+1,); ``is_first``, ``is_last``, ``is_terminal`` bool (T+1,). ``tasks_completed`` int64 (T+1,)
    and ``state`` float64 (T+1, N) are None where unknown. ``provenance`` says where the episode is from.

    Raises ``ValueError`` with the key and the reason for arrays that break these rules.
    """

    image: np.ndarray
    action: np.ndarray
    reward: np.ndarray
    is_first: np.ndarray
    is_last: np.ndarray
    is_terminal: np.ndarray
    tasks_completed: np.ndarray | None = None
    state: np.ndarray | None = None
    provenance: dict[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        for key, (dtype, axes) in (_REQUIRED | _OPTIONAL).items():
            array = getattr(self, key)
            if array is None and key in _OPTIONAL:
                continue
            if array.dtype != dtype or array.ndim != axes:
                raise ValueError(
                    f"{key}: dtype {array.dtype}, shape {array.shape}; "
                    f"needed: {np.dtype(dtype)} with {axes} axes, time first"
                )
            if len(array) != len(self.image):
                raise ValueError(f"{key}: {len(array)} rows, but image has {len(self.image)}")
        self._check_values()

    def _check_values(self) -> None:
        rows, height, width, channels = self.image.shape
        if rows < 2:
            raise ValueError(f"image: {rows} rows; an episode has at least 2 (the start and one transition)")
        if height != width or channels != 3:
            raise ValueError(f"image: shape {self.image.shape}; needed: (rows, S, S, 3)")
        for key in ("action", "reward", "state"):
            array = getattr(self, key)
            if array is not None and not np.isfinite(array).all():
                raise ValueError(f"{key}: row {_first_row(~np.isfinite(array))} is not finite")
        outside = np.abs(self.action) > 1
        if outside.any():
            row = _first_row(outside)
            raise ValueError(f"action: row {row} is {self.action[row].tolist()}; needed: within [-1, 1]")
        if self.action[0].any():
            raise ValueError("action: row 0 is not zero; nothing leads to the first image")
        ends = {"is_first": 0, "is_last": rows - 1}
        for key, place in ends.items():
            if not np.array_equal(np.flatnonzero(getattr(self, key)), [place]):
                raise ValueError(f"{key}: must be true in row {place} and nowhere else (one episode a file)")
        if self.is_terminal[:-1].any():
            raise ValueError("is_terminal: true before the last row")
        if self.tasks_completed is not None and (
            self.tasks_completed[0] < 0 or (np.diff(self.tasks_completed) < 0).any()
        ):
            raise ValueError("tasks_completed: is negative or falls")

    def __len__(self) -> int:
        return len(self.image) - 1

    def __repr__(self) -> str:
        return f"Episode(T={len(self)}, image={self.image.shape}, action={self.action.shape})"


def build_episode(
    images: list[np.ndarray] | np.ndarray,
    actions: list[np.ndarray] | np.ndarray,
    rewards: list[float] | np.ndarray,
    tasks_completed: list[int] | None,
    states: list[np.ndarray] | np.ndarray | None,
    provenance: Mapping[str, Any],
) -> Episode:
    """Make an Episode from T+1 images, rewards, states and the T actions between them."""
    rows = len(images)
    index = np.arange(rows)
    taken = np.asarray(actions, np.float32)
    return Episode(
        image=np.asarray(images, np.uint8),
        action=np.concatenate([np.zeros_like(taken[:1]), taken]),
        reward=np.asarray(rewards, np.float32),
        is_first=index == 0,
        is_last=index == rows - 1,
        is_terminal=np.zeros(rows, bool),
        tasks_completed=None if tasks_completed is None else np.asarray(tasks_completed, np.int64),
        state=None if states is None else np.asarray(states, np.float64),
        provenance=dict(provenance),
    )


def save_episode(path: Path, episode: Episode) -> None:
    """Write ``episode`` to ``path`` in one step; the same episode gives the same bytes.

    Raises:
        StorageError: the file system refused.
    """
    arrays = {key: getattr(episode, key) for key in _REQUIRED | _OPTIONAL}
    arrays = {key: array for key, array in arrays.items() if array is not None}
    buffer = io.BytesIO()
    np.savez_compressed(buffer, provenance=json.dumps(episode.provenance, sort_keys=True), **arrays)
    write_bytes(path, buffer.getvalue())


def load_episode(path: Path) -> Episode:
    """Read and validate one episode; the six required keys are enough, keys of other projects are ignored.

    Raises:
        UserError: the file is missing, is not an npz, is cut off, holds pickled objects, or breaks a rule
            of ``Episode``; the message names the file, the key and the reason.
    """
    arrays = _read_arrays(path)
    missing = sorted(_REQUIRED.keys() - arrays.keys())
    if missing:
        raise UserError(f"{path}: missing {', '.join(missing)}; an episode has {', '.join(_REQUIRED)}")
    try:
        provenance = json.loads(str(arrays.pop("provenance"))) if "provenance" in arrays else {}
        if not isinstance(provenance, dict):
            raise ValueError("provenance: not a JSON object")
        return Episode(**arrays, provenance=provenance)
    except ValueError as error:
        raise UserError(f"{path}: {error}") from error


def _read_arrays(path: Path) -> dict[str, np.ndarray]:
    wanted = _REQUIRED.keys() | _OPTIONAL.keys() | {"provenance"}
    if not path.is_file():
        raise UserError(f"{path}: no such file")
    if not zipfile.is_zipfile(path):
        raise UserError(f"{path}: not an npz file, or one that is cut off")
    try:
        with zipfile.ZipFile(path) as archive:
            damaged = archive.testzip()
        if damaged is not None:
            raise UserError(f"{path}: damaged npz file (checksum of {damaged})")
        with np.load(path, allow_pickle=False) as file:
            arrays = {key: file[key] for key in wanted & set(file.files)}
    except (zipfile.BadZipFile, zlib.error, EOFError, OSError, RuntimeError) as error:
        raise UserError(f"{path}: damaged npz file ({error})") from error
    except ValueError as error:
        raise UserError(f"{path}: unreadable array ({error}); pickled objects are never loaded") from error
    for key, array in arrays.items():
        if not isinstance(array, np.ndarray):
            raise UserError(f"{path}: {key}: not an array")
    return arrays


def _first_row(mask: np.ndarray) -> int:
    return int(np.argmax(mask.reshape(len(mask), -1).any(axis=1)))
