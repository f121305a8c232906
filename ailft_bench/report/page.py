"""The page: what was run, tables, figures, rollouts, every run with its provenance, and how to do it again."""

from __future__ import annotations

import base64
import html
import tempfile
from collections.abc import Callable, Iterable, Mapping
from importlib.resources import files
from pathlib import Path

import pandas as pd

from ailft_bench import __version__, figures, statistics, tables
from ailft_bench.durable import storage_errors, write_bytes
from ailft_bench.figures.data import Comparison, comparisons, final_table, finals
from ailft_bench.figures.style import SMOKE_STAMP, cell_colours
from ailft_bench.report.videos import Video, videos
from ailft_bench.results import Results
from ailft_bench.store import RunSpec

#: Figures by the last part of their names, in the order of the page.
_FIGURES = {
    "learning": "Learning curves",
    "success": "Success rate",
    "tasks": "Sub-tasks",
    "efficiency": "Sample efficiency",
    "improvement": "Probability of improvement",
    "profiles": "Performance profiles",
    "stability": "Stability",
    "score-against-cost": "Score against cost",
    "training-cost": "Cost rate in training",
    "cumulative-cost": "Cumulative cost in training",
    "evaluation-cost": "Cost by constraint",
    "theory": "The two terms of the bound",
    "calibration": "Calibration of disagreement",
    "sensitivity": "Sensitivity to settings",
}
Progress = Callable[[str], None]


def write_report(
    results: Results,
    out: Path,
    results_dir: Path,
    references: figures.References | None = None,
    with_videos: bool = True,
    on_progress: Progress = lambda message: None,
) -> Path:
    """Write one HTML file with everything in it: each suite and scale of ``results`` a part of its own.

    Raises:
        UserError: nothing was evaluated yet, or ``out`` cannot be written.
    """
    with tempfile.TemporaryDirectory() as folder:
        on_progress("figures")
        drawn = figures.plot(results, Path(folder), references, for_print=False)
        parts = []
        for comparison in comparisons(results):
            rollouts = videos(comparison, results_dir, on_progress) if with_videos else ()
            parts.append(_part(comparison, _images(comparison, drawn), list(rollouts)))
    suites = ", ".join(sorted(results.runs["suite"].unique()))
    style = files("ailft_bench.report").joinpath("style.css").read_text()
    page = (
        '<!doctype html>\n<html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        f'<link rel="icon" href="data:,"><title>{_text(suites)}: results</title><style>{style}</style></head><body>'
        f"{''.join(parts)}<footer>Made by ailft-bench {_text(__version__)}. This page is one file and needs no "
        "network.</footer></body></html>\n"
    )
    with storage_errors(out):
        out.parent.mkdir(parents=True, exist_ok=True)
    write_bytes(out, page.encode())
    return out


def _part(comparison: Comparison, images: Mapping[str, bytes], rollouts: Iterable[Video]) -> str:
    prefix = f"{comparison.suite}-{comparison.scale}"
    sections = {
        "Results": _scores(comparison),
        "Figures": _figures(images),
        "Sub-tasks": _table(tables.tasks(comparison)) if comparison.names("completed/") else "",
        "Safety": _safety(comparison),
        "Rollouts": _rollouts(rollouts),
        "Runs": _runs(comparison),
        "Reproduce": _reproduce(comparison),
    }
    kept = {name: content for name, content in sections.items() if content}
    links = "".join(f'<a href="#{prefix}-{name.lower()}">{name}</a>' for name in kept)
    body = "".join(f'<h2 id="{prefix}-{name.lower()}">{name}</h2>{content}' for name, content in kept.items())
    return f"<header>{_head(comparison)}<nav>{links}</nav></header><main>{body}</main>"


def _head(comparison: Comparison) -> str:
    spec = comparison.spec_of(comparison.cells[0])
    done = (comparison.runs["state"] == "done").sum()
    chips = {
        "scale": comparison.scale,
        "environment": str(spec.environment["id"]).removeprefix("ailft/"),
        "environment steps": f"{comparison.budget:,}",
        "runs finished": f"{done} of {len(comparison.runs)}",
        "episodes an evaluation": str(spec.evaluation.get("episodes", tables.MISSING)),
        "demonstrations": str(spec.demonstrations.get("episodes", tables.MISSING)),
    }
    items = "".join(f"<li><b>{_text(value)}</b><span>{_text(name)}</span></li>" for name, value in chips.items())
    return f'<h1>{_text(comparison.suite)}</h1><ul class="chips">{items}</ul>{_warnings(comparison)}'


def _warnings(comparison: Comparison) -> str:
    """Return what a reader has to know before any number."""
    runs = comparison.runs
    parts = []
    if comparison.scale == "smoke":
        parts.append(("bad", SMOKE_STAMP + "."))
    unfinished = runs[runs["state"] != "done"]
    if len(unfinished):
        counts = unfinished["state"].value_counts()
        what = ", ".join(f"{count} {state}" for state, count in counts.items())
        parts.append(("bad", f"{len(unfinished)} of {len(runs)} runs are not finished ({what}): see Runs."))
    fewest = min(len(comparison.finished(cell)) for cell in comparison.cells)
    if advice := statistics.advice(fewest):
        parts.append(("note", advice))
    if comparison.superseded:
        parts.append(("note", f"{comparison.superseded} runs of older configurations are left out."))
    versions = {run.provenance.get("source_sha256") for run in _specs(comparison)} - {None}
    if len(versions) > 1:
        parts.append(("bad", f"The runs were made with {len(versions)} versions of the code: see Reproduce."))
    return "".join(f'<div class="{kind}">{_text(text)}</div>' for kind, text in parts)


def _scores(comparison: Comparison) -> str:
    table = tables.headline(comparison)
    strips = [_strip(comparison, place) for place in range(len(comparison.cells))]
    table.insert(2, "sub-tasks completed", "@strip")
    rendered = tables.to_html(table)
    for strip in strips:
        rendered = rendered.replace("@strip", strip, 1)
    against = tables.against_baseline(comparison)
    text = (
        "Sub-tasks completed at the last evaluation of finished runs: interquartile mean with its 95 % interval "
        "(stratified bootstrap over seeds); in the picture seeds are circles. Other numbers are means over seeds."
    )
    second = (
        "<p class='dim'>Against the baseline: probability that a run ends better, and the difference between runs of "
        "the same seed with its paired interval and sign-flip test.</p>" + _table(against)
    )
    return f"<p class='dim'>{text}</p>{_scroll(rendered)}{second if len(against) else ''}"


def _strip(comparison: Comparison, place: int) -> str:
    """Return a small picture of one algorithm's score: seeds, mean of them, and interval."""
    cell = comparison.cells[place]
    final = final_table(comparison, tables.SCORE, cell)
    most = max(len(comparison.names("completed/")), 1)
    colour = cell_colours(comparison.cells)[cell]

    def x(value: float) -> float:
        return 4 + 232 * min(max(value / most, 0), 1)

    marks = ['<line class="axis" x1="4" x2="236" y1="12" y2="12"/>']
    for value, low, high in finals(final):
        if low == low:
            marks.append(
                f'<line x1="{x(low):.1f}" x2="{x(high):.1f}" y1="12" y2="12" stroke="{colour}" stroke-width="5" '
                'stroke-opacity=".45"/>'
            )
        marks.append(f'<circle cx="{x(value):.1f}" cy="12" r="5" fill="{colour}"/>')
    marks += [
        f'<circle class="seed" cx="{x(value):.1f}" cy="12" r="2.6" stroke="{colour}"/>'
        for value in final.loc[final["series"] == "seed", "value"]
    ]
    label = f"{cell.label}: seeds from 0 to {most}"
    return f'<svg class="strip" viewBox="0 0 240 24" role="img" aria-label="{_text(label)}">{"".join(marks)}</svg>'


def _safety(comparison: Comparison) -> str:
    table = tables.safety(comparison)
    text = (
        "Violating steps an episode at the last evaluation, in all and by constraint; then in training, exploration "
        "included: violating of all steps, the share of episodes with a violation, and the mean of the worst 10 %."
    )
    return f"<p class='dim'>{text}</p>{_table(table)}" if len(table) else ""


def _figures(images: Mapping[str, bytes]) -> str:
    cards = [
        f'<figure class="card figure"><h3>{title}</h3>'
        f'<img alt="{title}" loading="lazy" src="{_data(images[name], "image/png")}"></figure>'
        for name, title in _FIGURES.items()
        if name in images
    ]
    return f'<div class="figures">{"".join(cards)}</div>'


def _rollouts(rollouts: Iterable[Video]) -> str:
    cards = []
    for video in rollouts:
        image = f'<img alt="{_text(video.title)}" src="{_data(video.content, "image/webp")}">' if video.content else ""
        caption = f"<b>{_text(video.title)}</b><br><span class='dim'>{_text(video.note)}</span>"
        cards.append(f'<figure class="card">{image}<figcaption>{caption}</figcaption></figure>')
    return f'<div class="grid videos">{"".join(cards)}</div>' if cards else ""


def _runs(comparison: Comparison) -> str:
    table = tables.runs(comparison)
    unfinished = table[table["state"] != "done"]
    first = _table(unfinished) if len(unfinished) else "<p>All runs are finished.</p>"
    return f"{first}<details><summary>All {len(table)} runs</summary>{_table(table)}</details>"


def _reproduce(comparison: Comparison) -> str:
    specs = _specs(comparison)
    commands = sorted({spec.provenance["command"] for spec in specs if "command" in spec.provenance})
    commits = sorted({str(spec.provenance["commit"]) for spec in specs if spec.provenance.get("commit")})
    dirty = any(spec.provenance.get("dirty") for spec in specs)
    lines = [f"git checkout {commit}" for commit in commits] or ["# no commit was recorded"]
    if dirty:
        lines.append("# the checkout had uncommitted changes")
    versions: dict[str, set[str]] = {}
    for spec in specs:
        for name, version in (spec.provenance.get("packages") or {}).items():
            versions.setdefault(name, set()).add(str(version))
    rows = [{"package": name, "version": ", ".join(sorted(found))} for name, found in sorted(versions.items())]
    packages = f"<details><summary>Versions</summary>{_table(pd.DataFrame(rows))}</details>" if rows else ""
    return f"<pre>{_text(chr(10).join([*lines, *commands]))}</pre>{packages}"


def _specs(comparison: Comparison) -> list[RunSpec]:
    return [comparison.specs[run_id] for run_id in comparison.runs["run_id"] if run_id]


def _images(comparison: Comparison, drawn: Iterable[Path]) -> dict[str, bytes]:
    prefix = f"{comparison.suite}-{comparison.scale}-"
    return {
        path.stem.removeprefix(prefix): path.read_bytes()
        for path in drawn
        if path.suffix == ".png" and path.stem.startswith(prefix)
    }


def _table(table: pd.DataFrame) -> str:
    return _scroll(tables.to_html(table))


def _scroll(content: str) -> str:
    return f'<div class="scroll">{content}</div>'


def _data(content: bytes, kind: str) -> str:
    return f"data:{kind};base64,{base64.b64encode(content).decode()}"


def _text(text: object) -> str:
    return html.escape(str(text))
