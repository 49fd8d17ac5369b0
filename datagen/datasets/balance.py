"""The class balance of a dataset, as a picture."""

from __future__ import annotations

import io
from collections.abc import Mapping, Sequence

# Shades of one colour: what is trained on stands out, what measures steps back.
COLOURS = {"train": "#2f5d8a", "validation": "#7fa6c9", "test": "#c3d6e6"}
SHOWN_CLASSES = 60
_NAME_LETTERS = 24


def draw_balance(
    title: str, class_names: Sequence[str], counts: Mapping[str, Sequence[int]], kind: str
) -> bytes:
    """Horizontal bars, one a class, its splits one after the other.

    Of more than 60 classes the largest and the smallest are shown.

    Args:
        title: the dataset's name.
        class_names: in their order.
        counts: per split, images per class.
        kind: `png` or `svg`.
    """
    from matplotlib.backends.backend_agg import FigureCanvasAgg  # noqa: PLC0415 - takes a while
    from matplotlib.figure import Figure  # noqa: PLC0415

    totals = [sum(counts[split][number] for split in counts) for number in range(len(class_names))]
    rows = _shown(totals)
    figure = Figure(figsize=(7.2, 1.3 + 0.26 * len(rows)), layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.add_subplot()
    left = [0] * len(rows)
    for split, colour in COLOURS.items():
        if split in counts:
            values = [counts[split][number] for number in rows]
            axes.barh(range(len(rows)), values, left=left, color=colour, label=split, height=0.72)
            left = [done + value for done, value in zip(left, values, strict=True)]
    for place, number in enumerate(rows):
        axes.text(left[place], place, f" {totals[number]:,}", va="center", fontsize=8)
    axes.set_yticks(range(len(rows)), [_short(class_names[number]) for number in rows], fontsize=8)
    axes.invert_yaxis()
    axes.set_xlim(0, max(1, *totals) * 1.12)
    axes.xaxis.set_major_formatter(lambda value, _: f"{value:,.0f}")
    axes.tick_params(axis="x", labelsize=8)
    axes.spines[["top", "right", "left"]].set_visible(False)
    axes.tick_params(axis="y", length=0)
    axes.set_title(_heading(title, totals, len(rows)), loc="left", fontsize=10)
    if len(counts) > 1:
        figure.legend(loc="outside lower right", ncols=len(counts), frameon=False, fontsize=8)
    out = io.BytesIO()
    # Without a date the same counts give the same bytes.
    metadata = {"Software": None} if kind == "png" else {"Date": None}
    figure.savefig(out, format=kind, dpi=120, metadata=metadata)
    return out.getvalue()


def _shown(totals: Sequence[int]) -> list[int]:
    if len(totals) <= SHOWN_CLASSES:
        return list(range(len(totals)))
    order = sorted(range(len(totals)), key=lambda number: -totals[number])
    half = SHOWN_CLASSES // 2
    return order[:half] + order[-half:]


def _heading(title: str, totals: Sequence[int], shown: int) -> str:
    smallest = min(totals)
    ratio = (
        "a class has none" if smallest == 0 else f"largest ÷ smallest {max(totals) / smallest:,.1f}"
    )
    heading = f"{title}: {sum(totals):,} images, {len(totals):,} classes, {ratio}"
    return (
        heading if shown == len(totals) else f"{heading}\n(the {shown // 2} largest and smallest)"
    )


def _short(name: str) -> str:
    # A dollar sign would begin a formula.
    plain = name.replace("$", r"\$")
    return plain if len(plain) <= _NAME_LETTERS else plain[: _NAME_LETTERS - 1] + "…"
