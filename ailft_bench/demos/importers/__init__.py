"""Import: episodes of other projects become a set of ours, drawn by our renderer.

`resimulate` takes episodes with actions and pictures (npz), `d4rl_file` and `minari_dataset` take states.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any

from ailft_bench.demos.collection import Progress, silent
from ailft_bench.demos.directory import new_set, require_free
from ailft_bench.demos.importers import d4rl_file, minari_dataset, resimulate
from ailft_bench.demos.importers.source import ImportedEpisode
from ailft_bench.demos.recording import make_env
from ailft_bench.envs.base import ImitationEnv
from ailft_bench.errors import UserError

_HDF5 = (".hdf5", ".h5")


@dataclass(frozen=True)
class ImportReport:
    """What an import did; ``episodes`` in the order of the source, with those that were left out."""

    directory: Path
    episodes: tuple[ImportedEpisode, ...]

    @property
    def kept(self) -> int:
        """Number of episodes in the set."""
        return sum(episode.kept for episode in self.episodes)


def import_source(
    source: str,
    env_id: str,
    env_kwargs: dict[str, Any],
    out_dir: Path,
    *,
    episodes: int | None = None,
    seeds_tried: int = 20,
    seed: int = 0,
    keep_best: bool = False,
    on_progress: Progress = silent,
) -> ImportReport:
    """Make a set in ``out_dir`` from ``source``: the first ``episodes`` of it, or all.

    ``source`` is an npz file or a directory of them (re-simulated with up to ``seeds_tried`` noise seeds,
    see `resimulate`), a D4RL file (.hdf5) or its name (``d4rl:kitchen-complete-v0``), or a Minari data set
    (``minari:D4RL/kitchen/complete-v2``).
    ``keep_best`` keeps the best attempt at an npz episode that no seed completes.

    Raises:
        UserError: a source that is missing or malformed, does not fit the environment, or gives no episode;
            ``out_dir`` is in use. Nothing is left in ``out_dir``.
    """
    require_free(out_dir)
    env = make_env(env_id, env_kwargs)
    done = []
    try:
        with new_set(out_dir) as writer:
            for item in islice(_read(source, env, seeds_tried, seed, keep_best), episodes):
                if item.episode is not None:
                    item.episode.provenance.update(env_id=env_id, env_kwargs=env_kwargs, env_version=env.version)
                    writer.add(item.episode)
                done.append(item.without_arrays())
                on_progress(f"{item.name}: {item.note}")
            report = ImportReport(out_dir, tuple(done))
            if not report.kept:
                notes = "; ".join(f"{item.name}: {item.note}" for item in done) or "it is empty"
                raise UserError(f"{source}: no episode could be imported ({notes})")
            recipe = {
                "source": source,
                "env_id": env_id,
                "env_kwargs": env_kwargs,
                "env_version": env.version,
                "seed": seed,
                "seeds_tried": seeds_tried,
                "notes": {item.name: item.note for item in done},
            }
            if not writer.commit(None, recipe, len(done) - report.kept):
                raise UserError(f"{out_dir}: another process wrote a set there in the meantime")
    finally:
        env.close()
    return report


def _read(source: str, env: ImitationEnv, seeds_tried: int, seed: int, keep_best: bool) -> Iterator[ImportedEpisode]:
    if source.startswith("minari:"):
        return minari_dataset.read(source.removeprefix("minari:"), env)
    if source.startswith("d4rl:"):
        return d4rl_file.read(d4rl_file.locate(source.removeprefix("d4rl:")), env)
    path = Path(source)
    if path.suffix in _HDF5:
        return d4rl_file.read(path, env)
    if path.is_dir() or path.suffix == ".npz":
        return resimulate.read(path, env, seeds_tried, seed, keep_best)
    missing = "" if path.exists() else " and there is no such file"
    raise UserError(
        f"{source}: not a directory, *.npz, *.hdf5, d4rl:NAME or minari:ID{missing}; "
        "for example minari:D4RL/kitchen/complete-v2"
    )
