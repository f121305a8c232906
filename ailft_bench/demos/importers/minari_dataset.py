"""Minari's kitchen data sets (``D4RL/kitchen/complete-v2`` and friends): recorded states and actions.

Columns of ``observations["observation"]``: 9 robot positions, 9 robot velocities, 21 object positions, 20
object velocities; T+1 rows for T actions.
"""

from __future__ import annotations

import importlib
from collections.abc import Iterator
from typing import Any

import numpy as np

from ailft_bench.demos.importers.source import ImportedEpisode, from_kitchen_states, require_kitchen
from ailft_bench.envs.base import ImitationEnv
from ailft_bench.errors import UserError

_COLUMNS = 59
_POSITIONS = np.r_[0:9, 18:39]
_VELOCITIES = np.r_[9:18, 39:59]


def read(dataset_id: str, env: ImitationEnv) -> Iterator[ImportedEpisode]:
    """Yield the episodes of a downloaded Minari data set, drawn by ``env``.

    Raises:
        UserError: minari is not installed, the data set is not downloaded, or is not a kitchen's.
    """
    source = f"minari:{dataset_id}"
    kitchen = require_kitchen(env, source)
    for record in _load(dataset_id).iterate_episodes():
        name = f"{dataset_id}[{record.id}]"
        observations = record.observations
        if not isinstance(observations, dict) or "observation" not in observations:
            raise UserError(f"{source}: observations have no key 'observation'; not a kitchen data set")
        columns = np.asarray(observations["observation"], np.float64)
        actions = np.asarray(record.actions)
        if columns.shape != (len(actions) + 1, _COLUMNS) or actions.shape[1:] != (9,):
            raise UserError(
                f"{source}: episode {record.id}: observation {columns.shape} and actions {actions.shape}; "
                f"needed: (T + 1, {_COLUMNS}) and (T, 9)"
            )
        if not (np.isfinite(columns).all() and np.isfinite(actions).all()):
            raise UserError(f"{source}: episode {record.id}: values that are not finite")
        states = np.concatenate([columns[:, _POSITIONS], columns[:, _VELOCITIES]], axis=1)
        yield from_kitchen_states(name, states, actions, kitchen, {"source": source})


def _load(dataset_id: str) -> Any:
    try:
        minari: Any = importlib.import_module("minari")
    except ImportError as error:
        raise UserError(f"minari:{dataset_id}: needs the package minari; pip install 'ailft-bench[minari]'") from error
    try:
        return minari.load_dataset(dataset_id)
    except FileNotFoundError as error:
        raise UserError(
            f"minari:{dataset_id}: not downloaded; run: minari download {dataset_id} "
            "(MINARI_DATASETS_PATH says where to)"
        ) from error
    except (ValueError, ImportError) as error:
        raise UserError(f"minari:{dataset_id}: {error}") from error
