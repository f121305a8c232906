"""How figures look: fonts, colours and files. Sized for one column of a paper, nothing below 7 pt."""

from __future__ import annotations

import io
import math
import textwrap
import zlib
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import pandas as pd
from matplotlib import colors, rcParams
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import FuncFormatter

from ailft_bench.durable import write_bytes
from ailft_bench.figures.data import Cell, Comparison
from ailft_bench.results import write_table

COLUMN_WIDTH = 3.3
"""Inches of one column of a two-column paper."""
SMALL = 7
"""Points: the smallest text of a figure."""

RC: Any = {
    "font.size": SMALL,
    "axes.titlesize": SMALL,
    "axes.labelsize": 8,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.linewidth": 0.6,
    "xtick.major.width": 0.6,
    "ytick.major.width": 0.6,
    "legend.fontsize": SMALL,
    "legend.frameon": False,
    "legend.handlelength": 2.2,
    "legend.columnspacing": 1.0,
    "figure.titlesize": 8,
    "savefig.dpi": 200,
    "pdf.fonttype": 42,
}

# The colour-blind safe palette of Okabe and Ito, its light blue, which is a shade of the blue, replaced by Paul
# Tol's wine; an algorithm has one colour in all figures.
COLOURS = {
    "conservative": "#0072B2",
    "vmail": "#E69F00",
    "bc": "#009E73",
    "cmil": "#D55E00",
    "vmail_original": "#CC79A7",
    "no_ail": "#882255",
}
# For algorithms of others: the muted palette of Paul Tol.
_MORE_COLOURS = ("#332288", "#44AA99", "#6699CC", "#999933", "#AA4499", "#8C564B", "#DDCC77", "#000000")
# A variant is a shade of its algorithm: (towards, by how much).
_SHADES = (("black", 0.4), ("white", 0.5), ("black", 0.65), ("white", 0.7), ("black", 0.2), ("white", 0.3))

SMOKE_STAMP = "SMOKE: plumbing only, not a result"
SMOKE_COLOUR = "#B00020"
REFERENCE_COLOUR = "0.4"
REFERENCE_DASHES = {"random": (0, (2, 1.5)), "replay": (0, (4, 2)), "expert": (0, (8, 2))}


def cell_colours(cells: Iterable[Cell]) -> dict[Cell, str]:
    """Return a colour for each cell: the algorithm's own, shaded for its variants.

    An algorithm without a fixed colour gets one by its name, so it keeps it from figure to figure unless two
    such names that share one meet in the same figure; then the alphabetically later one moves on.
    """
    cells = list(cells)
    base = dict(COLOURS)
    for name in sorted({cell.algorithm for cell in cells} - base.keys()):
        start = zlib.crc32(name.encode())
        options = [_MORE_COLOURS[(start + i) % len(_MORE_COLOURS)] for i in range(len(_MORE_COLOURS))]
        base[name] = next((option for option in options if option not in base.values()), options[0])
    chosen = {}
    for algorithm in {cell.algorithm for cell in cells}:
        variants = sorted(c.variant for c in cells if c.algorithm == algorithm and c.variant != "default")
        for cell in (cell for cell in cells if cell.algorithm == algorithm):
            if cell.variant == "default":
                chosen[cell] = base[algorithm]
            else:
                towards, amount = _SHADES[variants.index(cell.variant) % len(_SHADES)]
                chosen[cell] = _blend(base[algorithm], towards, amount)
    return chosen


def new_figure(
    comparison: Comparison,
    caption: str,
    handles: Sequence[Line2D],
    panel_height: float,
    label_below: str = "",
) -> Figure:
    """Return a figure with title, legend, caption and a label below all panels; the rest is for the panels.

    ``panel_height`` is in inches and includes the panels' own labels.
    """
    lines = textwrap.wrap(caption, 60)
    columns = 2 if max((len(str(handle.get_label())) for handle in handles), default=0) <= 26 else 1
    title, legend = 0.2, 0.155 * math.ceil(len(handles) / columns) + 0.08
    text = (len(lines) + 0.7) * SMALL * 1.2 / 72
    below = text + 0.16 * len(label_below.splitlines())
    height = title + legend + panel_height + below
    figure = Figure(figsize=(COLUMN_WIDTH, height))
    # What belongs to the whole figure is placed by hand, and the layout engine gets the space between.
    figure.set_layout_engine("constrained", rect=(0, below / height, 1, panel_height / height))
    figure.text(0.02, 0.04 / height, "\n".join(lines), fontsize=SMALL, va="bottom", linespacing=1.15)
    figure.text(0.55, text / height, label_below, fontsize=8, va="bottom", ha="center")
    anchor = (0.5, 1 - title / height)
    figure.legend(handles=handles, loc="upper center", bbox_to_anchor=anchor, borderaxespad=0, ncols=columns)
    smoke = comparison.scale == "smoke"
    figure.text(
        0.5,
        1 - 0.05 / height,
        SMOKE_STAMP if smoke else f"{comparison.suite}, {comparison.scale} scale",
        fontsize=8,
        weight="bold" if smoke else "normal",
        color=SMOKE_COLOUR if smoke else "black",
        va="top",
        ha="center",
    )
    if smoke:
        middle = (below + panel_height / 2) / height
        across: dict[str, Any] = {"rotation": 25, "va": "center", "ha": "center"}
        figure.text(0.55, middle, "SMOKE", fontsize=40, color=SMOKE_COLOUR, alpha=0.12, **across)
    return figure


def label_steps(axes: Axes, budget: int) -> None:
    """Give the horizontal axis the range 0 to ``budget`` and short numbers (20k)."""
    axes.set_xlim(0, budget)
    axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: _short(value)))
    axes.locator_params(axis="x", nbins=5)


def label_references(axes: Axes, values: Mapping[str, float]) -> None:
    """Draw dashed lines across the panel, named at its right edge without overlap.

    The axis keeps its range: a line above it is named at the top with its value and an arrow.
    """
    low, high = axes.get_ylim()
    gap = (high - low) * 0.075
    ordered = sorted(values.items(), key=lambda item: item[1])
    places: list[float] = []
    for _, value in ordered:
        places.append(max(min(value, high), places[-1] + gap if places else low))
    ceiling = high + gap / 3
    for index in reversed(range(len(places))):
        places[index] = min(places[index], ceiling)
        ceiling = places[index] - gap
    for (name, value), place in zip(ordered, places, strict=True):
        if value <= high:
            draw_reference(axes, name, value)
        text = name if value <= high else f"{name}\n\N{UPWARDS ARROW}{value:.2g}"
        position = ("axes fraction", "data")
        axes.annotate(
            text, (1.02, place), xycoords=position, color=REFERENCE_COLOUR, va="center", annotation_clip=False
        )


def draw_reference(axes: Axes, name: str, value: float) -> None:
    """Draw one dashed line across the panel."""
    dashes = REFERENCE_DASHES.get(name, "--")
    axes.axhline(value, color=REFERENCE_COLOUR, linestyle=dashes, linewidth=0.8, zorder=1, label=name)


def save(figure: Figure, table: pd.DataFrame, caption: str, stem: Path) -> list[Path]:
    """Write the figure as PNG with the caption in its metadata, and its data as CSV beside it.

    Where matplotlib's ``savefig.format`` is ``pdf``, for print, there is a PDF too.
    """
    paths = []
    kinds: dict[str, dict[str, Any]] = {".png": {"Description": caption, "Software": None}}
    if rcParams["savefig.format"] == "pdf":
        kinds[".pdf"] = {"Subject": caption, "CreationDate": None}
    for suffix, metadata in kinds.items():
        content = io.BytesIO()
        figure.savefig(content, format=suffix[1:], metadata=metadata)
        paths.append(stem.with_name(stem.name + suffix))
        write_bytes(paths[-1], content.getvalue(), durable=False)
        figure.set_layout_engine("none")  # the second file keeps the layout of the first
    return [*paths, write_table(table, stem.with_name(stem.name + ".csv"))]


def _blend(colour: str, towards: str, amount: float) -> str:
    start, end = colors.to_rgb(colour), colors.to_rgb(towards)
    red, green, blue = ((1 - amount) * a + amount * b for a, b in zip(start, end, strict=True))
    return colors.to_hex((red, green, blue))


def _short(value: float) -> str:
    for size, suffix in ((1e6, "M"), (1e3, "k")):
        if abs(value) >= size:
            return f"{value / size:g}{suffix}"
    return f"{value:g}"
