"""Plots: numbers and images in, PNG or SVG out. The same numbers give the same bytes.

Everything goes through matplotlib's objects, and nothing through its global state but the salt of
the SVG's ids, which would else be drawn at random.
"""

from __future__ import annotations

import io
import textwrap
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import matplotlib as mpl
import numpy as np
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

mpl.rcParams["svg.hashsalt"] = "datagen"
# Letters stay letters, so that an SVG can be searched and read aloud.
mpl.rcParams["svg.fonttype"] = "none"

DARK, MIDDLE, LIGHT, GREY = "#2f5d8a", "#7fa6c9", "#c3d6e6", "#9a9a9a"
WARM = "#c8643c"
_INK = "#333333"
_PAPER = 250
_GAP = 2
_CLASS_COLOURS = 20
_COUNTED_CLASSES = 16
_LABEL_LETTERS = 26
_LETTERS_AN_INCH = 12.5
_LINE_INCHES = 0.17


@dataclass(frozen=True)
class Row:
    """A row of images of one size: uint8 (n, C, H, W), what it is, and a remark behind it."""

    images: np.ndarray
    name: str = ""
    remark: str = ""


def render(figure: Figure, kind: str) -> bytes:
    """A figure as `png` or `svg`."""
    out = io.BytesIO()
    metadata: dict[str, Any] = {"Software": None} if kind == "png" else {"Date": None}
    figure.savefig(out, format=kind, dpi=120, metadata=metadata)
    return out.getvalue()


def _new(width: float, height: float) -> Figure:
    figure = Figure(figsize=(width, height), layout="constrained", facecolor="white")
    FigureCanvasAgg(figure)
    return figure


def _title(figure: Figure, text: str) -> None:
    """A title over the whole width, in as many lines as it needs."""
    width, height = figure.get_size_inches()
    wrapped = [
        line
        for part in text.split("\n")
        for line in textwrap.wrap(part, max(20, int(width * _LETTERS_AN_INCH)))
    ]
    figure.set_size_inches(width, height + _LINE_INCHES * (len(wrapped) - 1))
    figure.suptitle(safe("\n".join(wrapped)), fontsize=10, x=0.01, ha="left", color=_INK)


def _plain(axes: Any) -> None:
    axes.spines[["top", "right"]].set_visible(False)
    axes.tick_params(labelsize=8, colors=_INK)
    axes.grid(axis="y", color="#ececec", linewidth=0.8)
    axes.set_axisbelow(True)


def safe(text: str) -> str:
    """A text of a user's as matplotlib shows it: a dollar sign would begin a formula."""
    return text.replace("$", r"\$")


def short(name: str) -> str:
    """A name cut to fit beside a picture."""
    cut = name if len(name) <= _LABEL_LETTERS else name[: _LABEL_LETTERS - 1] + "…"
    return safe(cut)


def lines(
    panels: Sequence[tuple[str, Mapping[str, tuple[Sequence[float], Sequence[float]]]]],
    title: str,
    x_label: str,
    marks: Sequence[float] = (),
) -> Figure:
    """Panels side by side, each with lines of (x, y) by name.

    Args:
        panels: heading of each panel, and its lines.
        title: what the picture shows.
        x_label: of all panels.
        marks: places on the x axis at which something changed.
    """
    figure = _new(3.4 * len(panels), 3.0)
    colours = (DARK, WARM, MIDDLE, GREY)
    styles = ("-", "--", "-.", ":")
    for place, (heading, drawn) in enumerate(panels):
        axes = figure.add_subplot(1, len(panels), place + 1)
        for number, (name, (x, y)) in enumerate(drawn.items()):
            dot = "o" if len(x) == 1 else None
            axes.plot(
                x, y, styles[number % 4], color=colours[number % 4], label=safe(name), marker=dot
            )
        for mark in marks:
            axes.axvline(mark, color=GREY, linewidth=0.8, linestyle=":")
        axes.set_title(safe(heading), fontsize=9, loc="left", color=_INK)
        axes.set_xlabel(safe(x_label), fontsize=8, color=_INK)
        _plain(axes)
        if len(drawn) > 1:
            axes.legend(frameon=False, fontsize=8)
    _title(figure, title)
    return figure


def bars(
    values: Sequence[float], names: Sequence[str], faint: Sequence[bool], title: str, y_label: str
) -> Figure:
    """A bar each; the faint ones in grey."""
    figure = _new(min(14.0, max(4.6, 0.34 * len(values) + 1.4)), 3.0)
    axes = figure.add_subplot()
    colours = [LIGHT if grey else DARK for grey in faint]
    axes.bar(range(len(values)), values, color=colours, width=0.75)
    step = max(1, len(values) // 40)
    axes.set_xticks(range(0, len(values), step), [safe(name) for name in names[::step]], fontsize=7)
    axes.set_ylabel(safe(y_label), fontsize=8, color=_INK)
    _title(figure, title)
    _plain(axes)
    return figure


def heat(matrix: np.ndarray, names: Sequence[str], title: str, axes_names: Sequence[str]) -> Figure:
    """Counts (K, K) as shares of their rows; few classes show the counts too."""
    shares = matrix / np.maximum(1, matrix.sum(axis=1, keepdims=True))
    count = len(names)
    figure = _new(min(11.0, max(3.6, 0.42 * count + 1.2)), min(10.0, max(3.2, 0.36 * count + 1.2)))
    axes = figure.add_subplot()
    colours = mpl.colors.LinearSegmentedColormap.from_list("share", ["#ffffff", LIGHT, DARK])
    axes.imshow(shares, cmap=colours, vmin=0.0, vmax=1.0)
    step = max(1, count // 40)
    ticks = range(0, count, step)
    axes.set_xticks(ticks, [short(names[at]) for at in ticks], fontsize=7, rotation=90)
    axes.set_yticks(ticks, [short(names[at]) for at in ticks], fontsize=7)
    if count <= _COUNTED_CLASSES:
        for row, column in zip(*np.nonzero(matrix), strict=True):
            ink = "white" if shares[row, column] > 0.5 else _INK  # noqa: PLR2004 - half dark
            axes.text(
                column, row, f"{matrix[row, column]}", ha="center", va="center", fontsize=6,
                color=ink,
            )  # fmt: skip
    axes.set_xlabel(safe(axes_names[0]), fontsize=8, color=_INK)
    axes.set_ylabel(safe(axes_names[1]), fontsize=8, color=_INK)
    axes.spines[:].set_visible(False)
    _title(figure, title)
    return figure


def steps(
    edges: Sequence[float], series: Mapping[str, Sequence[int]], title: str, x_label: str
) -> Figure:
    """Histograms over the same edges, each as a share of its own sum."""
    figure = _new(6.4, 2.8)
    axes = figure.add_subplot()
    for (name, counts), colour in zip(series.items(), (DARK, WARM, GREY), strict=False):
        shares = np.asarray(counts) / max(1, sum(counts))
        axes.stairs(shares, edges, color=colour, label=safe(name), linewidth=1.4)
    axes.set_xlabel(safe(x_label), fontsize=8, color=_INK)
    axes.legend(frameon=False, fontsize=8)
    _title(figure, title)
    _plain(axes)
    return figure


def dots(
    rows: Sequence[tuple[str, Sequence[float], tuple[float, float, float] | None]],
    title: str,
    x_label: str,
    zero: float | None = None,
) -> Figure:
    """A row each: single values as small dots, and a value with its interval.

    Args:
        rows: name, single values, and (value, low, high) where there is an interval.
        title: what the picture shows.
        x_label: of the values.
        zero: where a line is drawn.
    """
    figure = _new(6.8, 0.42 * len(rows) + 1.1)
    axes = figure.add_subplot()
    for place, (_, values, interval) in enumerate(rows):
        axes.plot(values, [place] * len(values), "o", color=MIDDLE, markersize=4)
        if interval is not None:
            value, low, high = interval
            axes.plot([low, high], [place, place], color=DARK, linewidth=2)
            axes.plot([value], [place], "D", color=DARK, markersize=6)
    if zero is not None:
        axes.axvline(zero, color=WARM, linewidth=1)
    axes.set_yticks(range(len(rows)), [safe(name) for name, _, _ in rows], fontsize=8)
    axes.set_ylim(len(rows) - 0.5, -0.5)
    axes.set_xlabel(safe(x_label), fontsize=8, color=_INK)
    axes.grid(axis="x", color="#ececec", linewidth=0.8)
    axes.set_axisbelow(True)
    axes.spines[["top", "right", "left"]].set_visible(False)
    axes.tick_params(labelsize=8, colors=_INK)
    _title(figure, title)
    return figure


def scatter(
    points: np.ndarray, labels: np.ndarray, class_names: Sequence[str], title: str, axes_names: Any
) -> Figure:
    """Points (N, 2) coloured by class; beyond twenty classes the rest is grey."""
    figure = _new(6.4, 5.0)
    axes = figure.add_subplot()
    colours = mpl.colormaps["tab20" if len(class_names) > 10 else "tab10"]  # noqa: PLR2004
    beyond = labels >= _CLASS_COLOURS
    axes.scatter(points[beyond, 0], points[beyond, 1], s=4, color=GREY, linewidths=0)
    for label in range(min(len(class_names), _CLASS_COLOURS)):
        own = points[labels == label]
        name = short(class_names[label])
        axes.scatter(own[:, 0], own[:, 1], s=5, color=colours(label), label=name, linewidths=0)
    axes.set_xlabel(safe(axes_names[0]), fontsize=8, color=_INK)
    axes.set_ylabel(safe(axes_names[1]), fontsize=8, color=_INK)
    figure.legend(loc="outside right upper", frameon=False, fontsize=8, markerscale=2.5)
    _title(figure, title)
    axes.tick_params(labelsize=8)
    axes.spines[["top", "right"]].set_visible(False)
    return figure


def image_rows(rows: Sequence[Row], title: str, columns: Sequence[str] = ()) -> Figure:
    """Rows of images with names at the left and remarks at the right."""
    canvas = _tiled([row.images for row in rows])
    height, width = canvas.shape[:2]
    tile = rows[0].images.shape[2] + _GAP
    side = rows[0].images.shape[3] + _GAP
    named = max((len(short(row.name)) for row in rows), default=0)
    remarked = max((len(row.remark) for row in rows), default=0)
    # A tile is between a third and half an inch high, whatever its pixels.
    inch = 0.42 if len(rows) > 6 else 0.5  # noqa: PLR2004
    picture = (inch * width / tile, inch * height / tile)
    figure = _new(max(4.2, picture[0] + 0.085 * named + 0.09 * remarked + 0.3), picture[1] + 0.75)
    axes = figure.add_subplot()
    axes.imshow(canvas, interpolation="nearest", aspect="equal")
    middles = [tile * number + tile / 2 for number in range(len(rows))]
    axes.set_yticks(middles, [short(row.name) for row in rows], fontsize=8, color=_INK)
    if columns:
        places = [side * number + side / 2 for number in range(len(columns))]
        axes.set_xticks(places, [short(name) for name in columns], fontsize=7, color=_INK)
        axes.xaxis.tick_top()
    else:
        axes.set_xticks([])
    axes.tick_params(length=0)
    axes.spines[:].set_visible(False)
    for middle, row in zip(middles, rows, strict=True):
        if row.remark:
            axes.text(
                width + tile * 0.15, middle, safe(row.remark), va="center", fontsize=8, color=_INK
            )
    _title(figure, title)
    return figure


def image_panels(panels: Sequence[tuple[str, np.ndarray]], title: str, note: str = "") -> Figure:
    """Panels of images, each a square grid: uint8 (rows, columns, C, H, W), with a name each."""
    across = min(5, len(panels))
    down = -(-len(panels) // across)
    figure = _new(max(4.2, 2.3 * across), 2.5 * down + 0.7)
    for place, (name, grid) in enumerate(panels):
        axes = figure.add_subplot(down, across, place + 1)
        axes.imshow(_tiled(list(grid), gap=0), interpolation="nearest", aspect="equal")
        axes.set_xticks([])
        axes.set_yticks([])
        axes.spines[:].set_visible(False)
        axes.set_title(short(name), fontsize=8, color=_INK, pad=3)
    _title(figure, title if not note else f"{title}\n{note}")
    return figure


def _tiled(rows: Sequence[np.ndarray], gap: int = _GAP) -> np.ndarray:
    """Images as one picture, uint8 (h, w, 3), on paper."""
    channels, height, width = rows[0].shape[1:]
    columns = max(len(row) for row in rows)
    shape = (len(rows) * (height + gap), columns * (width + gap), 3)
    canvas = np.full(shape, _PAPER, dtype=np.uint8)
    for number, row in enumerate(rows):
        for column, image in enumerate(row):
            top, left = number * (height + gap), column * (width + gap)
            pixels = np.broadcast_to(image, (3, height, width)) if channels == 1 else image
            canvas[top : top + height, left : left + width] = pixels.transpose(1, 2, 0)
    return canvas
