"""The page: what was run, tables, figures, rollouts, every run with its provenance, and how to do it again."""

from __future__ import annotations

import base64
import html
import tempfile
from collections.abc import Callable, Iterable, Mapping
from importlib.resources import files
from pathlib import Path

import pandas as pd

from ailft_bench import __version__, figures, reproduction, statistics, tables
from ailft_bench.durable import storage_errors, write_bytes
from ailft_bench.figures.comparison import Cell, Comparison, comparisons
from ailft_bench.figures.data import final_table, finals
from ailft_bench.figures.style import SMOKE_STAMP, cell_colours
from ailft_bench.report.videos import EPISODES, Video, videos
from ailft_bench.results import Results, specs_of
from ailft_bench.store import RunDirectory

#: Figures by the last part of their names, in the order of the page.
_FIGURES = {
    "learning": "Learning curves",
    "success": "Success rate",
    "tasks": "Sub-tasks",
    "sampled": "Mean and sampled actions",
    "efficiency": "Sample efficiency",
    "improvement": "Probability of improvement",
    "profiles": "Performance profiles",
    "stability": "Stability",
    "score-against-cost": "Score against cost",
    "training-cost": "Cost rate in training",
    "cumulative-cost": "Cumulative cost in training",
    "evaluation-cost": "Cost by constraint",
    "theory": "The two terms of the bound, and what gradients through the model are worth",
    "calibration": "Calibration of disagreement",
    "sensitivity": "Sensitivity to settings",
}
_ROLLOUTS = (
    f"A demonstration; of each algorithm the first of {EPISODES} episodes that its median run plays, which is one "
    "draw: how well it does is in Results; and of all that these runs play the worst episode, the one with the fewest "
    "sub-tasks, of several the one with the most violations."
)
Progress = Callable[[str], None]
_Scores = Mapping[str, Mapping[str, float]]


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

        def drew(path: Path) -> None:
            if path.suffix == ".png":
                on_progress(f"figure {path.stem}")

        drawn = figures.plot(results, Path(folder), references, for_print=False, on_written=drew)
        parts = []
        for comparison in comparisons(results):
            rollouts = videos(comparison, results_dir, on_progress) if with_videos else ()
            known = (references or {}).get((comparison.suite, comparison.scale), {})
            parts.append(_part(comparison, known, _images(comparison, drawn), list(rollouts)))
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


def _part(comparison: Comparison, references: _Scores, images: Mapping[str, bytes], rollouts: Iterable[Video]) -> str:
    prefix = f"{comparison.suite}-{comparison.scale}"
    sections = {
        "Results": _scores(comparison, references),
        "Figures": _figures(images),
        "Sub-tasks": _table(tables.tasks(comparison)) if comparison.names("completed/") else "",
        "Actions": _actions(comparison),
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
    spec = comparison.spec
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
    if comparison.unlike:
        parts.append(("bad", f"The algorithms are not comparable: they differ in {', '.join(comparison.unlike)}."))
    versions = {run.provenance.get("source_sha256") for run in specs_of(comparison.runs)} - {None}
    if len(versions) > 1:
        parts.append(("bad", f"The runs were made with {len(versions)} versions of the code: see Reproduce."))
    found = [RunDirectory(Path(place)) for place in runs["directory"] if place]
    mixed = [run.path for run in found if len(run.attempts.versions()) > 1]
    if mixed:
        names = ", ".join(f"{path.parent.name}/{path.name}" for path in mixed)
        parts.append(("bad", f"Runs that went on from a checkpoint with another version of the code: {names}."))
    return "".join(f'<div class="{kind}">{_text(text)}</div>' for kind, text in parts)


def _scores(comparison: Comparison, references: _Scores) -> str:
    table = tables.headline(comparison, references)
    strips = [_strip(comparison, cell) for cell in comparison.cells]
    strips += [
        _picture(comparison, name, _dot(comparison, scores[tables.SCORE])) for name, scores in references.items()
    ]
    table.insert(2, "sub-tasks completed", "@strip")
    # One table would be wider than any screen.
    half = list(table.columns).index("success") + 1
    rendered = tables.to_html(table.iloc[:, :half])
    for strip in strips:
        rendered = rendered.replace("@strip", strip, 1)
    text = (
        "Sub-tasks completed at the last evaluation of finished runs: interquartile mean with its 95 % interval "
        "(stratified bootstrap over seeds); in the picture seeds are circles. Other numbers are means over seeds, with "
        "intervals of the same kind."
    )
    rest = (
        "How fast, how steadily, how safely: steps to a score count the whole budget for runs that never reached it; "
        "lost again is the largest drop below the best so far (mean of the worst 5 %); costs are violating steps."
    )
    second = table.iloc[:, [0, *range(half, table.shape[1])]]
    content = f"<p class='dim'>{text}</p>{_scroll(rendered)}<p class='dim'>{rest}</p>{_table(second)}"
    for what, against in (
        ("the baseline", tables.against_baseline(comparison)),
        ("the control, whose adversarial term is off", tables.against_control(comparison)),
    ):
        if len(against):
            content += (
                f"<p class='dim'>Against {what}: probability that a run ends better, and the difference between runs "
                f"of the same seed with its paired interval and sign-flip test.</p>{_table(against)}"
            )
    return content


def _strip(comparison: Comparison, cell: Cell) -> str:
    """Return a small picture of one algorithm's score: seeds, mean of them, and interval."""
    final = final_table(comparison, tables.SCORE, cell)
    colour = cell_colours(comparison.cells)[cell]
    marks = []
    for value, low, high in finals(final):
        if low == low:
            marks.append(
                f'<line x1="{_x(comparison, low):.1f}" x2="{_x(comparison, high):.1f}" y1="12" y2="12" '
                f'stroke="{colour}" stroke-width="5" stroke-opacity=".45"/>'
            )
        marks.append(f'<circle cx="{_x(comparison, value):.1f}" cy="12" r="5" fill="{colour}"/>')
    marks += [
        f'<circle class="seed" cx="{_x(comparison, value):.1f}" cy="12" r="2.6" stroke="{colour}"/>'
        for value in final.loc[final["series"] == "seed", "value"]
    ]
    return _picture(comparison, cell.label, "".join(marks))


def _dot(comparison: Comparison, value: float) -> str:
    return f'<line x1="{_x(comparison, value):.1f}" x2="{_x(comparison, value):.1f}" y1="4" y2="20" stroke="#888"/>'


def _picture(comparison: Comparison, label: str, marks: str) -> str:
    axis = '<line class="axis" x1="4" x2="236" y1="12" y2="12"/>'
    text = _text(f"{label}: scores from 0 to {_most(comparison)}")
    return f'<svg class="strip" viewBox="0 0 240 24" role="img" aria-label="{text}">{axis}{marks}</svg>'


def _x(comparison: Comparison, value: float) -> float:
    return 4 + 232 * min(max(value / _most(comparison), 0), 1)


def _most(comparison: Comparison) -> int:
    return max(len(comparison.names("completed/")), 1)


def _actions(comparison: Comparison) -> str:
    table = tables.actions(comparison)
    text = (
        "The last evaluation, twice: with the policy's mean action, which all other tables and curves show, and with "
        "actions sampled from it. Start states are different ones."
    )
    return f"<p class='dim'>{text}</p>{_table(table)}" if len(table) else ""


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
    return f'<p>{_ROLLOUTS}</p><div class="grid videos">{"".join(cards)}</div>' if cards else ""


def _runs(comparison: Comparison) -> str:
    table = tables.runs(comparison)
    unfinished = table[table["state"] != "done"]
    first = _table(unfinished) if len(unfinished) else "<p>All runs are finished.</p>"
    return f"{first}<details><summary>All {len(table)} runs</summary>{_table(table)}</details>"


def _reproduce(comparison: Comparison) -> str:
    specs = specs_of(comparison.runs)
    versions: dict[str, set[str]] = {}
    for spec in specs:
        for name, version in (spec.provenance.get("packages") or {}).items():
            versions.setdefault(name, set()).add(str(version))
    rows = [{"package": name, "version": ", ".join(sorted(found))} for name, found in sorted(versions.items())]
    packages = f"<details><summary>Versions</summary>{_table(pd.DataFrame(rows))}</details>" if rows else ""
    return f"<pre>{_text(chr(10).join(reproduction.commands(specs)))}</pre>{packages}"


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
