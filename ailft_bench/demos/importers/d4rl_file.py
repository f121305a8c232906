"""D4RL's kitchen files (HDF5): states and actions of people, in one long table cut into episodes.

Columns of ``observations``: 9 robot and 21 object positions, then the goal. Velocities are not in the file;
they are set to zero in the imported states.
"""

from __future__ import annotations

import importlib
import itertools
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import h5py
import numpy as np

from ailft_bench.demos.importers.source import ImportedEpisode, from_kitchen_states, require_kitchen
from ailft_bench.envs.base import ImitationEnv
from ailft_bench.errors import UserError, nearest

_POSITIONS = 30
_VELOCITIES = 29

_KITCHEN_FILES = {
    "kitchen-complete-v0": "mini_kitchen_microwave_kettle_light_slider-v0.hdf5",
    "kitchen-partial-v0": "kitchen_microwave_kettle_light_slider-v0.hdf5",
    "kitchen-mixed-v0": "kitchen_microwave_kettle_bottomburner_light-v0.hdf5",
}


def locate(name: str) -> Path:
    """Return the file of a D4RL data set by its name, where the package `d4rl` keeps its downloads.

    Raises:
        UserError: no such data set, or its file is not there.
    """
    registry = _registry()
    files = {key: url.rsplit("/", 1)[-1] for key, url in registry.DATASET_URLS.items()} if registry else {}
    files = {**_KITCHEN_FILES, **files}
    if name not in files:
        kitchens = [key for key in files if key.startswith("kitchen")]
        raise UserError(f"d4rl:{name}: unknown data set; {nearest(name, kitchens)}")
    folder = Path(os.environ.get("D4RL_DATASET_DIR", Path.home() / ".d4rl" / "datasets"))
    path = folder / files[name]
    if not path.is_file():
        raise UserError(f"d4rl:{name}: {path} is missing; put the file there, or name its path instead")
    return path


def read(path: Path, env: ImitationEnv) -> Iterator[ImportedEpisode]:
    """Yield the episodes of a D4RL kitchen file, drawn by ``env``.

    Raises:
        UserError: the file is missing, is not HDF5, lacks a key, or has arrays of another shape.
    """
    kitchen = require_kitchen(env, str(path))
    data = _load(path)
    ends = np.flatnonzero(data["terminals"].astype(bool) | data["timeouts"].astype(bool)) + 1
    bounds = np.unique(np.concatenate([[0], ends, [len(data["actions"])]]))
    provenance = {"source": "d4rl", "file": path.name, "velocities": "zero", **_reference_scores(path.name)}
    for number, (begin, end) in enumerate(itertools.pairwise(bounds)):
        name = f"{path.name}[{number}]"
        if end - begin < 2:
            yield ImportedEpisode(name, None, "left out: a single row has no transition", kept=False)
            continue
        positions = data["observations"][begin:end, :_POSITIONS]
        states = np.concatenate([positions, np.zeros((end - begin, _VELOCITIES))], axis=1)
        # What the last action of an episode led to is not recorded.
        yield from_kitchen_states(name, states, data["actions"][begin : end - 1], kitchen, provenance)


def _load(path: Path) -> dict[str, np.ndarray]:
    if not path.is_file():
        raise UserError(f"{path}: no such file")
    try:
        with h5py.File(path, "r") as file:
            keys = ("observations", "actions", "terminals")
            missing = [key for key in keys if not isinstance(file.get(key), h5py.Dataset)]
            if missing:
                raise UserError(f"{path}: missing {', '.join(missing)}; it has {', '.join(file) or 'nothing'}")
            data = {key: file[key][()] for key in keys}
            data["timeouts"] = file["timeouts"][()] if "timeouts" in file else np.zeros(len(data["actions"]))
    except OSError as error:
        raise UserError(f"{path}: not an HDF5 file, or a damaged one ({error})") from error
    rows = len(data["actions"])
    for key, columns in (("observations", _POSITIONS), ("actions", 9)):
        array = data[key]
        enough = array.ndim == 2 and (array.shape[1] >= columns if key == "observations" else array.shape[1] == 9)
        if not enough or len(array) != rows or not np.isfinite(array).all():
            raise UserError(
                f"{path}: {key}: shape {array.shape}; needed: ({rows}, {columns}"
                f"{' or more' if key == 'observations' else ''}), all finite"
            )
    for key in ("terminals", "timeouts"):
        data[key] = data[key].reshape(-1)
        if len(data[key]) != rows:
            raise UserError(f"{path}: {key}: {len(data[key])} rows, but actions has {rows}")
    return data


def _registry() -> Any | None:
    """Return d4rl's table of data sets and reference scores where that package is installed."""
    try:
        return importlib.import_module("d4rl.infos")
    except ImportError:
        return None


def _reference_scores(file_name: str) -> dict[str, Any]:
    registry = _registry()
    if registry is None:
        return {}
    for name, url in registry.DATASET_URLS.items():
        if url.endswith("/" + file_name):
            return {"d4rl_scores": {"min": registry.REF_MIN_SCORE[name], "max": registry.REF_MAX_SCORE[name]}}
    return {}
