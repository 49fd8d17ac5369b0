"""What tracks B and C found, as one picture: the gains seed by seed, with their intervals.

    python -m benchmarks.quality.figure [--out docs/images/quality-gains.png]

Drawn from what lies in `benchmarks/results/`.
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from benchmarks.quality import track_b, track_c
from benchmarks.quality.results import Results
from datagen.plots import DARK, GREY, MIDDLE, render

OUT = Path(__file__).resolve().parents[2] / "docs" / "images" / "quality-gains.png"


def found() -> dict[str, dict[str, dict[str, Any]]]:
    """Gains with per_seed, value, low and high: by panel, then by what is compared."""
    lopsided, few = (
        Results(name, track.SETTINGS).cells for name, track in (("B", track_b), ("C", track_c))
    )
    return {
        "A lopsided set: ours over the best\nway without a generator": {
            shown: paired
            for network, shown in track_b.NETWORKS.items()
            if (paired := track_b.paired_gain(lopsided, network))
        },
        "Few images of each class: ours over\ntransforms alone": {
            f"{count}": paired
            for count in track_c.EXAMPLES
            if (paired := track_c.paired_gain(few, count, track_c.MADE[-1]))
        },
    }


def drawn(panels: dict[str, dict[str, dict[str, Any]]]) -> Figure:
    """A panel each: a dot a seed, and beside the dots the mean and its 95 % interval."""
    figure = Figure(figsize=(8.2, 3.4), layout="constrained", facecolor="white")
    FigureCanvasAgg(figure)
    for place, (title, gains) in enumerate(panels.items()):
        axes = figure.add_subplot(1, len(panels), place + 1)
        axes.axhline(0, color=GREY, linewidth=1)
        for number, paired in enumerate(gains.values()):
            each = paired["per_seed"]
            axes.plot([number - 0.12] * len(each), each, "o", color=MIDDLE, markersize=4)
            if "low" in paired:
                low, high = paired["value"] - paired["low"], paired["high"] - paired["value"]
                axes.errorbar(
                    number + 0.12, paired["value"], [[low], [high]], fmt="s", color=DARK, capsize=4
                )
        axes.set_xticks(range(len(gains)), list(gains), fontsize=9)
        axes.set_xlim(-0.6, len(gains) - 0.4)
        axes.set_title(title, fontsize=10, loc="left")
        axes.spines[["top", "right"]].set_visible(False)
        axes.tick_params(labelsize=8)
    figure.axes[0].set_ylabel("gain in balanced accuracy, points", fontsize=9)
    return figure


def main() -> None:
    """Draw it."""
    parser = argparse.ArgumentParser(description="The gains of tracks B and C as a picture.")
    parser.add_argument("--out", type=Path, default=OUT)
    given = parser.parse_args()
    given.out.write_bytes(render(drawn(found()), "png"))


if __name__ == "__main__":
    main()
