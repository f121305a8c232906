"""How figures look: fonts, colours and files. Sized for one column of a paper, nothing below 7 pt."""

from __future__ import annotations

import io
import math
import textwrap
import zlib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from itertools import groupby
from pathlib import Path
from typing import Any, NamedTuple, Protocol

import numpy as np
import pandas as pd
from matplotlib import colors, rc_context
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import FuncFormatter
from PIL.Image import Dither
from PIL.PngImagePlugin import PngImageFile, PngInfo

from ailft_bench.durable import write_bytes
from ailft_bench.figures.comparison import Cell
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
# Tol's wine, and his olive; an algorithm has one colour in all figures.
COLOURS = {
    "conservative": "#0072B2",
    "vmail": "#E69F00",
    "bc": "#009E73",
    "cmil": "#D55E00",
    "vmail_original": "#CC79A7",
    "no_ail": "#882255",
    "bc_cnn": "#999933",
}
# For algorithms of others: the muted palette of Paul Tol.
_MORE_COLOURS = ("#332288", "#44AA99", "#6699CC", "#AA4499", "#8C564B", "#DDCC77", "#000000")
# A variant is a shade of its algorithm: (towards, by how much); of a dark colour always a lighter one.
_SHADES = (("black", 0.4), ("white", 0.5), ("black", 0.65), ("white", 0.7), ("black", 0.2), ("white", 0.3))

SMOKE_STAMP = "SMOKE: plumbing only, not a result"
SMOKE_COLOUR = "#B00020"
REFERENCE_COLOUR = "0.4"
REFERENCE_DASHES = {"random": (0, (2, 1.5)), "replay": (0, (4, 2)), "expert": (0, (8, 2))}

#: Lines that are equal share the road: dashes of so many points, in turns.
_DASH_PERIOD = 12.0
#: A stretch shorter than this share of its curve is part of the one before it.
_SHORTEST_SHARE = 1 / 40
#: Equal: no further apart than this share of the range of values.
_TWIN_DISTANCE = 0.01

_for_print = ContextVar("for_print", default=False)
_with_captions = ContextVar("with_captions", default=True)


@contextmanager
def appearance(for_print: bool, captions: bool) -> Iterator[None]:
    """Draw figures in this style: with a PDF beside each PNG, with the caption in the picture."""
    tokens = _for_print.set(for_print), _with_captions.set(captions)
    try:
        with rc_context(RC):
            yield
    finally:
        _for_print.reset(tokens[0])
        _with_captions.reset(tokens[1])


class Stretch(NamedTuple):
    """A piece of a curve: the slice of its points, both ends included, and matplotlib's dashes for it."""

    points: slice
    dashes: Any


def stretches(curves: Sequence[tuple[np.ndarray, np.ndarray]], stairs: bool = False) -> list[list[Stretch]]:
    """Split curves (steps, values), drawn in this order one over another, where they meet and where they part.

    Solid, but where a curve runs on top of others: of n such curves each shows in every n-th dash there. ``stairs``
    keep each value until the next step. Of long curves, stretches too short for a dash are part of those before them.
    """
    values = [value[np.isfinite(value)] for _, value in curves]
    distance = _TWIN_DISTANCE * max(np.ptp(np.concatenate([*values, [0.0]])), 1e-12)
    found = []
    for place, curve in enumerate(curves):
        together = np.array([_together(curve, other, distance, stairs) for other in curves])
        counts = zip(together[:place].sum(0).tolist(), together.sum(0).tolist(), strict=True)
        company = [(below, sharing if below else 1) for below, sharing in counts]
        kept: list[tuple[tuple[int, int], int]] = []
        for shared, group in groupby(company):
            length = len(list(group))
            if kept and (shared == kept[-1][0] or length < _SHORTEST_SHARE * len(company)):
                kept[-1] = kept[-1][0], kept[-1][1] + length
            else:
                kept.append((shared, length))
        ends = np.cumsum([length for _, length in kept]).tolist()
        pieces = zip([0, *ends], ends, [shared for shared, _ in kept], strict=False)
        found.append([Stretch(slice(first, end + 1), _dashes(*shared)) for first, end, shared in pieces])
    return found


def _together(
    curve: tuple[np.ndarray, np.ndarray], other: tuple[np.ndarray, np.ndarray], distance: float, stairs: bool
) -> Any:
    """Return whether each segment of ``curve`` runs along ``other``: (n - 1,) for its n points."""
    close = np.zeros(len(curve[0]), bool)
    _, here, there = np.intersect1d(curve[0], other[0], return_indices=True)
    close[here] = np.abs(curve[1][here] - other[1][there]) <= distance
    return close[:-1] if stairs else close[:-1] & close[1:]


def _dashes(below: int, sharing: int) -> Any:
    """Return the dashes of a line that runs over ``below`` others, ``sharing`` of them in all with itself."""
    if not below:
        return "-"
    drawn = _DASH_PERIOD * (sharing - below) / sharing
    return (0, (drawn, _DASH_PERIOD - drawn))


def cell_colours(cells: Iterable[Cell]) -> dict[Cell, str]:
    """Return a colour for each cell, in their order: the algorithm's own, shaded for its variants.

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
                chosen[cell] = _shade(base[algorithm], variants.index(cell.variant))
    return {cell: chosen[cell] for cell in cells}


class Subject(Protocol):
    """What a figure's title names."""

    @property
    def suite(self) -> str:
        """The suite's name."""

    @property
    def scale(self) -> str:
        """The scale's name."""


def new_figure(
    subject: Subject,
    caption: str,
    handles: Sequence[Line2D],
    panel_height: float,
    label_below: str = "",
) -> Figure:
    """Return a figure with title, legend, caption and a label below all panels; the rest is for the panels.

    ``panel_height`` is in inches and includes the panels' own labels.
    """
    lines = textwrap.wrap(caption, 60) if _with_captions.get() else []
    columns = 2 if max((len(str(handle.get_label())) for handle in handles), default=0) <= 26 else 1
    title, legend = 0.2, 0.155 * math.ceil(len(handles) / columns) + 0.08
    text = (len(lines) + 0.7) * SMALL * 1.2 / 72 if lines else 0.03
    below = text + 0.16 * len(label_below.splitlines())
    height = title + legend + panel_height + below
    figure = Figure(figsize=(COLUMN_WIDTH, height))
    # What belongs to the whole figure is placed by hand, and the layout engine gets the space between.
    figure.set_layout_engine("constrained", rect=(0, below / height, 1, panel_height / height))
    figure.text(0.02, 0.04 / height, "\n".join(lines), fontsize=SMALL, va="bottom", linespacing=1.15)
    figure.text(0.55, text / height, label_below, fontsize=8, va="bottom", ha="center")
    anchor = (0.5, 1 - title / height)
    figure.legend(handles=handles, loc="upper center", bbox_to_anchor=anchor, borderaxespad=0, ncols=columns)
    smoke = subject.scale == "smoke"
    figure.text(
        0.5,
        1 - 0.05 / height,
        SMOKE_STAMP if smoke else f"{subject.suite}, {subject.scale} scale",
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


def start_at_zero(axes: Axes) -> None:
    """Let the horizontal axis begin at 0; where all values are 0 it ends at 1."""
    right = axes.dataLim.x1 if axes.dataLim.x1 > 0 else 1.0
    axes.set_xlim(-0.03 * right, 1.05 * right)


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

    For print there is a PDF too, and a caption that is not in the picture is in a text file beside it.
    """
    paths = []
    kinds: dict[str, dict[str, Any]] = {".png": {"Description": caption, "Software": None}}
    if _for_print.get():
        kinds[".pdf"] = {"Subject": caption, "CreationDate": None}
    for suffix, metadata in kinds.items():
        content = io.BytesIO()
        figure.savefig(content, format=suffix[1:], metadata=metadata)
        paths.append(stem.with_name(stem.name + suffix))
        written = with_palette(content.getvalue()) if suffix == ".png" else content.getvalue()
        write_bytes(paths[-1], written, durable=False)
        figure.set_layout_engine("none")  # the second file keeps the layout of the first
    if not _with_captions.get():
        paths.append(stem.with_name(stem.name + ".txt"))
        write_bytes(paths[-1], f"{caption}\n".encode(), durable=False)
    return [*paths, write_table(table, stem.with_name(stem.name + ".csv"))]


def with_palette(png: bytes) -> bytes:
    """Return the opaque picture in 256 colours, its texts kept: a third of the size, and no eye tells them apart."""
    picture = PngImageFile(io.BytesIO(png))
    texts = PngInfo()
    for name, text in picture.text.items():
        texts.add_itxt(name, text)
    small = io.BytesIO()
    picture.convert("RGB").quantize(256, dither=Dither.NONE).save(
        small, "png", optimize=True, pnginfo=texts, dpi=picture.info["dpi"]
    )
    return small.getvalue()


def _shade(colour: str, index: int) -> str:
    towards, amount = _SHADES[index % len(_SHADES)]
    end = 1.0 if towards == "white" or np.mean(colors.to_rgb(colour)) < 0.35 else 0.0
    red, green, blue = ((1 - amount) * part + amount * end for part in colors.to_rgb(colour))
    return colors.to_hex((red, green, blue))


def _short(value: float) -> str:
    for size, suffix in ((1e6, "M"), (1e3, "k")):
        if abs(value) >= size:
            return f"{value / size:g}{suffix}"
    return f"{value:g}"
