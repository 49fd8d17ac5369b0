"""Track C: few examples of each digit, and what synthetic images add to them.

The generator sees the few alone. All arms take as many steps; ours mixes a share of synthetic
images into every batch.
"""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.quality.cells import Place
from benchmarks.quality.classifiers import tested
from benchmarks.quality.generator import drawn, told, trained
from benchmarks.quality.mnist import CLASS_NAMES, Mnist
from benchmarks.quality.paired import gain, in_words, mean
from datagen.images import LabelledImages
from datagen.model.training_options import TrainingOptions
from datagen.quality.learning import Learning, Part

EXAMPLES = (10, 20, 50, 100, 500)
MADE = (200, 500, 1000, 2000)
LEARNING = Learning(steps=1500)
SYNTHETIC_SHARE = 0.5
NETWORK = "small_cnn"
PLAIN = {"real": "real", "affine": "real, affine"}
WITH = {
    "synthetic": "synthetic alone",
    "real_synthetic": "real and synthetic",
    "affine_synthetic": "**real and synthetic, affine**",
}
SETTINGS: dict[str, Any] = {
    "examples": EXAMPLES,
    "made": MADE,
    "learning": asdict(LEARNING),
    "synthetic_share": SYNTHETIC_SHARE,
    "network": NETWORK,
}


def phases(seeds: int) -> list[list[str]]:
    """Names of the cells, by when they can be run; what is asked for most comes first."""
    cells = [(count, seed) for seed in range(seeds) for count in EXAMPLES]
    first = [*PLAIN, f"affine_synthetic-{MADE[-1]}"]
    other = [f"{arm}-{made}" for arm in WITH for made in MADE if f"{arm}-{made}" not in first]
    return [
        [f"{count}/{seed}/generator" for count, seed in cells],
        [f"{count}/{seed}/{arm}" for count, seed in cells for arm in first],
        [f"{count}/{seed}/{arm}" for count, seed in cells for arm in other],
    ]


def folder_of(name: str, work: Path) -> Path:
    """Where the generator of a cell lies."""
    count, seed, _ = name.split("/")
    return work / f"C-{count}-{seed}"


def run(name: str, mnist: Mnist, held_out: LabelledImages, place: Place) -> dict[str, Any]:
    """What one cell gives."""
    count, number, what = name.split("/")
    seed, folder = int(number), folder_of(name, place.work)
    real = mnist.some([int(count)] * len(CLASS_NAMES), seed)
    if what == "generator":
        options = TrainingOptions(seed=seed)
        trained(folder, {"train": real}, options, place.device)
        return told(folder, options)
    parts = _parts(what, real, folder, seed, place)
    return asdict(tested(NETWORK, parts, LEARNING, seed, held_out, place.device))


def _parts(what: str, real: LabelledImages, folder: Path, seed: int, place: Place) -> list[Part]:
    arm, _, made = what.partition("-")
    affine = arm.startswith("affine")
    share = {"synthetic": 1.0, "real": 0.0, "affine": 0.0}.get(
        arm if made else what, SYNTHETIC_SHARE
    )
    parts = []
    if share < 1:
        parts.append(Part(real.images, real.labels, 1 - share, balanced=True, affine=affine))
    if share > 0:
        labels = np.repeat(np.arange(len(CLASS_NAMES), dtype=np.int64), int(made))
        images, labels, _ = drawn(folder, labels, seed, place.device)
        parts.append(Part(images, labels, share, balanced=True))
    return parts


def table(cells: dict[str, dict[str, Any]]) -> list[str]:
    """The results, as lines of Markdown."""
    heads = [f"{count} a class" for count in EXAMPLES]
    lines = [f"| learnt from | {' | '.join(heads)} |", f"|---|{'---:|' * len(EXAMPLES)}"]
    arms = PLAIN | {
        f"{arm}-{made}": f"{shown}, {made:,} a class"
        for arm, shown in WITH.items()
        for made in MADE
    }
    for arm, shown in arms.items():
        found = [_seeds(cells, count, arm) for count in EXAMPLES]
        lines.append(f"| {shown} | {' | '.join(mean(list(each.values())) for each in found)} |")
    for made in MADE:
        gains = [paired_gain(cells, count, made) for count in EXAMPLES]
        shown = " | ".join(in_words(each) if each else "" for each in gains)
        lines.append(f"| gain over real, affine, with {made:,} a class | {shown} |")
    return lines


def paired_gain(cells: dict[str, dict[str, Any]], count: int, made: int) -> dict[str, Any] | None:
    """Real and synthetic images, so many of each, against real ones, both with transforms."""
    ours = _seeds(cells, count, f"affine_synthetic-{made}")
    theirs = _seeds(cells, count, "affine")
    both = sorted(set(ours) & set(theirs))
    if not both:
        return None
    return gain([ours[seed] for seed in both], [theirs[seed] for seed in both])


def _seeds(cells: dict[str, dict[str, Any]], count: int, arm: str) -> dict[str, float]:
    """Balanced accuracies of an arm, by seed."""
    return {
        name.split("/")[1]: cell["acsa"]
        for name, cell in cells.items()
        if name.startswith(f"{count}/") and name.endswith(f"/{arm}")
    }
