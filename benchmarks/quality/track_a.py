"""Track A: what classifiers learn from synthetic images alone, tested on real ones (TSTR).

The generator learns from 50,000 images of MNIST with the options that `datagen train` takes by
itself, and 60,000 images, as many a label, are drawn as `datagen generate` draws them by itself.
Three classifiers learn from those, and from the real images: 50 epochs of Adam, nothing selected.
"""

from __future__ import annotations

from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.quality.cells import Place
from benchmarks.quality.classifiers import tested
from benchmarks.quality.generator import drawn, told, trained
from benchmarks.quality.mnist import CLASS_NAMES, Mnist
from benchmarks.quality.paired import mean
from datagen.images import LabelledImages
from datagen.model.training_options import TrainingOptions
from datagen.quality.learning import Learning, Part
from datagen.quality.report import FULL, MEASURE, Subject, run_step

MADE = 60_000
EPOCHS = 50
LEARNING = Learning(steps=0, batch_size=128, learning_rate=3e-4, constant=True)
KINDS = {"logistic": "LogReg", "mlp": "MLP", "cnn": "CNN"}
ARMS = {"real": "50,000 real images", "synthetic": "**60,000 of ours**"}
SETTINGS: dict[str, Any] = {
    "made": MADE,
    "epochs": EPOCHS,
    "learning": asdict(LEARNING),
}
# Published for MNIST: a differentially private diffusion model and one GAN a digit.
ANCHORS = {
    "real images, published": {"logistic": "92.2", "mlp": "97.5", "cnn": "99.3"},
    "DPDM (ε = 10), published": {"logistic": "90.8", "mlp": "94.8", "cnn": "98.1"},
    "one GAN a digit, published": {"cnn": "98.37"},
    "target": {"logistic": "> 90.8", "mlp": "> 94.8", "cnn": "≥ 99.0"},
}


def phases(seeds: int) -> list[list[str]]:
    """Names of the cells, by when they can be run."""
    every = range(seeds)
    learnt = [f"{seed}/{kind}/{arm}" for seed in every for kind in KINDS for arm in ARMS]
    return [
        [f"{seed}/generator" for seed in every],
        learnt + [f"{seed}/measures" for seed in every],
    ]


def folder_of(name: str, work: Path) -> Path:
    """Where the generator of a cell lies."""
    return work / f"A-{name.partition('/')[0]}"


def run(name: str, mnist: Mnist, held_out: LabelledImages, place: Place) -> dict[str, Any]:
    """What one cell gives."""
    number, _, what = name.partition("/")
    seed, folder = int(number), folder_of(name, place.work)
    if what == "generator":
        options = TrainingOptions(seed=seed)
        splits = {"train": mnist.learnt, "validation": mnist.choosing}
        trained(folder, splits, options, place.device)
        return told(folder, options)
    if what == "measures":
        images, labels, refused = _synthetic(folder, seed, place)
        subject = Subject(images, labels, mnist.learnt, held_out, gated=True)
        found = run_step(MEASURE, subject, FULL, place.device, lambda: None)
        found["parts"]["copying"].pop("pairs")
        return found | {"refused": refused}
    kind, _, arm = what.partition("/")
    images, labels = mnist.learnt.images, mnist.learnt.labels
    if arm == "synthetic":
        images, labels, _ = _synthetic(folder, seed, place)
    learning = replace(LEARNING, steps=EPOCHS * len(labels) // LEARNING.batch_size)
    parts = [Part(images, labels)]
    return asdict(tested(kind, parts, learning, seed, held_out, place.device))


def _synthetic(folder: Path, seed: int, place: Place) -> tuple[np.ndarray, np.ndarray, int]:
    labels = np.arange(MADE, dtype=np.int64) % len(CLASS_NAMES)
    return drawn(folder, labels, seed, place.device)


def table(cells: dict[str, dict[str, Any]]) -> list[str]:
    """The results beside the anchors, as lines of Markdown."""
    lines = [
        f"| learnt from | {' | '.join(KINDS.values())} |",
        f"|---|{'---:|' * len(KINDS)}",
    ]
    for arm, shown in ARMS.items():
        found = (
            [cell["accuracy"] for name, cell in cells.items() if name.endswith(f"/{kind}/{arm}")]
            for kind in KINDS
        )
        lines.append(f"| {shown} | {' | '.join(mean(values) for values in found)} |")
    for shown, values in ANCHORS.items():
        lines.append(f"| {shown} | {' | '.join(values.get(kind, '') for kind in KINDS)} |")
    return lines
