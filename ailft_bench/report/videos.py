"""Rollouts for the report: the expert, the median run of each algorithm, and the worst episode of all that these play.

Kept beside the results, under what they depend on, so that a second report is quick.
"""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from ailft_bench.demos.collection import provide
from ailft_bench.durable import read_json, storage_errors, write_json
from ailft_bench.errors import UserError
from ailft_bench.evaluation import EvaluatedEpisode
from ailft_bench.figures.comparison import Cell, Comparison
from ailft_bench.policies import animation, load_policy, worst
from ailft_bench.store import RunDirectory, RunSpec

#: Episodes of each policy that are played to choose from.
EPISODES = 3
#: About so many frames a video has; a page should stay below some megabytes.
_FRAMES = 70


@dataclass(frozen=True)
class Video:
    """An animation (WebP) and what it shows; without one, ``note`` says why."""

    title: str
    note: str
    content: bytes | None


def videos(
    comparison: Comparison, results_dir: Path, on_progress: Callable[[str], None] = lambda message: None
) -> Iterator[Video]:
    """Yield the expert's demonstration, a typical episode of each algorithm, and the worst one."""
    yield _demonstration(comparison.spec, results_dir)
    lowest: tuple[float, Video] | None = None
    for cell in comparison.cells:
        run = _median_run(comparison, cell)
        if run is None:
            yield Video(cell.label, "no finished run", None)
            continue
        on_progress(f"rollouts of {cell.label}, seed {run.spec.seed}")
        shown = _rollouts(run, results_dir)
        title = f"{cell.label}, seed {run.spec.seed}"
        if isinstance(shown, str):
            yield Video(title, shown, None)
            continue
        yield Video(f"{title} (median run)", *shown["typical"])
        score = shown["score"]
        if lowest is None or score < lowest[0]:
            lowest = score, Video(f"worst episode: {title}", *shown["worst"])
    if lowest is not None:
        yield lowest[1]


def _demonstration(spec: RunSpec, results_dir: Path) -> Video:
    given = {key: value for key, value in spec.demonstrations.items() if key != "checksum"}
    title = "demonstration"
    try:
        found = provide(spec.environment["id"], spec.environment_kwargs, cache=results_dir / "demos", **given)
    except (UserError, LookupError, TypeError) as error:
        return Video(title, f"not at hand: {error}", None)
    episode = found.episodes[0]
    shown = EvaluatedEpisode({}, episode.image, episode.action)
    return Video(title, f"{len(episode.action) - 1} steps", _animation(shown))


def _median_run(comparison: Comparison, cell: Cell) -> RunDirectory | None:
    """Return the finished run in the middle of the final scores (the lower middle of an even number)."""
    final = comparison.final_rows(cell, "tasks_completed")
    if final.empty:
        return None
    ordered = final.sort_values("value", kind="stable")
    seed = ordered["seed"].iloc[(len(ordered) - 1) // 2]
    runs = comparison.runs_of(cell)
    return RunDirectory(Path(runs.loc[runs["seed"] == seed, "directory"].iloc[0]))


def _rollouts(run: RunDirectory, results_dir: Path) -> dict[str, Any] | str:
    """Return (note, animation) of the first and the worst episode, or why there is none."""
    latest = run.latest_checkpoint()
    if latest is None:
        return "its checkpoint is gone"
    key = hashlib.sha256(f"2 {run.spec.run_id} {latest[1].name} {EPISODES}".encode()).hexdigest()[:16]
    path = results_dir / "videos" / f"{key}.json"
    known = read_json(path)
    if known is None:
        try:
            policy = load_policy(run)
            episodes = policy.play(EPISODES, "report")
        except UserError as error:
            return str(error).partition(": ")[2]
        low = worst(episodes)
        chosen = {"typical": episodes[0], "worst": low}
        known = {name: [_note(episode), _encode(_animation(episode))] for name, episode in chosen.items()}
        known["score"] = low.metrics["tasks_completed"] - low.metrics.get("cost", 0.0) / 1e6
        with storage_errors(path):
            path.parent.mkdir(parents=True, exist_ok=True)
        write_json(path, known)
    decoded = {name: (known[name][0], base64.b64decode(known[name][1])) for name in ("typical", "worst")}
    return {**decoded, "score": known["score"]}


def _animation(episode: EvaluatedEpisode) -> bytes:
    return animation(episode, every=max(1, int(np.ceil(len(episode.images) / _FRAMES))))


def _note(episode: EvaluatedEpisode) -> str:
    metrics = episode.metrics
    cost = f", {metrics['cost']:.0f} violating steps" if "cost" in metrics else ""
    return f"{metrics['tasks_completed']:.0f} sub-tasks{cost}"


def _encode(content: bytes) -> str:
    return base64.b64encode(content).decode()
