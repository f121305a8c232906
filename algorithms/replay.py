"""Replay: an append-only log of frames on disk, sampled as sequences that never cross an episode's border.

Directory::

    frames.u8     (capacity, S/2, S/2, 12) uint8 folded frames, sparse until written
    actions.f32   (capacity, A) float32; actions[i] led to frames[i]

The log is written and read by position, never mapped: a full disk is an error (a store into a mapped page would
be a SIGBUS), and frames are memory of the system's cache, not of the process. What counts is the
``state_dict``: frames beyond its length are leftovers of a killed process and are written again.
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from algorithms.frames import CHANNELS, fold


@dataclass(frozen=True)
class Batch:
    """Sequences, time first: folded uint8 ``frames`` (T, B, S/2, S/2, 12); ``actions`` (T, B, A) that led to them.

    The first ``expert_rows`` rows are expert sequences; ``begins`` (B,) says which rows begin an episode.
    """

    frames: Tensor
    actions: Tensor
    expert_rows: int
    begins: Tensor

    def to(self, device: torch.device) -> Batch:
        """Return the batch on ``device``; the way to a GPU is through pinned memory and is not waited for."""
        tensors = self.frames, self.actions, self.begins
        if device.type == "cuda" and not self.frames.is_cuda:
            tensors = tuple(tensor.pin_memory() for tensor in tensors)  # type: ignore[assignment]
        frames, actions, begins = (tensor.to(device, non_blocking=True) for tensor in tensors)
        return Batch(frames, actions, self.expert_rows, begins)


class Replay:
    """Demonstrations first, then the agent's own episodes."""

    def __init__(self, directory: Path, capacity: int, image_size: int, action_size: int) -> None:
        directory.mkdir(parents=True, exist_ok=True)
        self.capacity = capacity
        self._frames = _Log(
            directory / "frames.u8", (capacity, image_size // 2, image_size // 2, CHANNELS), np.dtype(np.uint8)
        )
        self._actions = _Log(directory / "actions.f32", (capacity, action_size), np.dtype(np.float32))
        self._starts: list[int] = []
        self._size = 0
        self._demo_episodes = 0

    def __len__(self) -> int:
        """Return the number of frames."""
        return self._size

    def add_demonstration(self, images: np.ndarray, actions: np.ndarray) -> None:
        """Append one expert episode; all of them come before the first frame of the agent's own."""
        if self._demo_episodes != len(self._starts):
            raise ValueError("demonstrations must come before the agent's own episodes")
        for index, (image, action) in enumerate(zip(images, actions, strict=True)):
            self.add(image, action, first=index == 0)
        self._demo_episodes += 1

    def add(self, image: np.ndarray, action: np.ndarray, first: bool) -> None:
        """Append one image (S, S, 3) and the action (A,) that led to it; ``first`` begins an episode.

        Raises:
            OSError: if the disk is full; the log then is as it was.
        """
        if self._size == self.capacity:
            raise ValueError(f"replay is full at {self.capacity} frames")
        self._frames.write(self._size, fold(image))
        self._actions.write(self._size, action)
        if first:
            self._starts.append(self._size)
        self._size += 1

    def sample(
        self,
        rng: np.random.Generator,
        rows: int,
        expert_rows: int,
        length: int,
        own_only: bool,
        prioritize_ends: bool = False,
    ) -> Batch:
        """Draw ``rows`` sequences of ``length`` frames, uniform over start positions within each kind.

        The first ``expert_rows`` rows are demonstrations. The others are drawn from the whole log, or, with
        ``own_only`` and as soon as there are enough, from the agent's own episodes alone. The first and last
        frames of an episode lie in fewer sequences than those between: ``prioritize_ends`` lets start positions
        reach half a sequence beyond both ends, and moves those sequences back into the episode.

        Raises:
            ValueError: if no episode is as long as ``length``.
        """
        own = self._demo_episodes if own_only and self._choices(self._demo_episodes, None, length)[1].any() else 0
        beyond = length // 2 if prioritize_ends else 0
        spans = [self._draw(rng, expert_rows, length, 0, self._demo_episodes, beyond)] if expert_rows else []
        if rows > expert_rows:
            spans.append(self._draw(rng, rows - expert_rows, length, own, None, beyond))
        starts = np.concatenate(spans)
        frames, actions = (
            np.stack([log.read(start, start + length) for start in starts], axis=1)
            for log in (self._frames, self._actions)
        )
        begins = torch.from_numpy(np.isin(starts, self._starts))
        return Batch(torch.from_numpy(frames), torch.from_numpy(actions), expert_rows, begins)

    def flush(self) -> None:
        """Force all frames to the disk: call before a checkpoint that counts on them."""
        self._frames.flush()
        self._actions.flush()

    def state_dict(self) -> dict[str, Any]:
        """Return what makes the files' content valid up to now."""
        return {"size": self._size, "starts": list(self._starts), "demo_episodes": self._demo_episodes}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Return to the length of ``state``; later frames are forgotten."""
        self._size, self._starts = state["size"], list(state["starts"])
        self._demo_episodes = state["demo_episodes"]

    def _choices(self, first: int, last: int | None, length: int) -> tuple[np.ndarray, np.ndarray]:
        """Return where episodes ``first`` to ``last`` begin, and how many start positions each offers."""
        bounds = np.array([*self._starts, self._size])[first : None if last is None else last + 1]
        return bounds[:-1], np.maximum(np.diff(bounds) - length + 1, 0)

    def _draw(
        self, rng: np.random.Generator, rows: int, length: int, first: int, last: int | None, beyond: int
    ) -> np.ndarray:
        begins, choices = self._choices(first, last, length)
        if not choices.any():
            raise ValueError(
                f"no episode has {length} frames: sequence_length, or frame_stack + action_chunk, is too large"
            )
        widened = np.where(choices > 0, choices + 2 * beyond, 0)
        cumulative = np.cumsum(widened)
        draws = rng.integers(cumulative[-1], size=rows)
        episodes = np.searchsorted(cumulative, draws, side="right")
        offsets = draws - (cumulative - widened)[episodes] - beyond
        return begins[episodes] + np.clip(offsets, 0, choices[episodes] - 1)


class _Log:
    """Rows of one array in one file, written and read by position."""

    def __init__(self, path: Path, shape: tuple[int, ...], dtype: np.dtype) -> None:
        self._row = int(np.prod(shape[1:])) * dtype.itemsize
        self._shape, self._dtype = shape[1:], dtype
        self._file = os.open(path, os.O_RDWR | os.O_CREAT, 0o644)
        if os.fstat(self._file).st_size != self._row * shape[0]:
            os.ftruncate(self._file, self._row * shape[0])

    def write(self, index: int, row: np.ndarray) -> None:
        if row.shape != self._shape:
            raise ValueError(f"row has shape {row.shape}, the log {self._shape}")
        data = memoryview(np.ascontiguousarray(row, dtype=self._dtype).tobytes())
        offset = index * self._row
        while data:
            written = os.pwrite(self._file, data, offset)
            data, offset = data[written:], offset + written

    def read(self, start: int, stop: int) -> np.ndarray:
        data = os.pread(self._file, (stop - start) * self._row, start * self._row)
        return np.frombuffer(data, self._dtype).reshape(stop - start, *self._shape)

    def flush(self) -> None:
        os.fsync(self._file)

    def __del__(self) -> None:
        os.close(self._file)
