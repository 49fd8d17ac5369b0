"""Track B: an imbalanced set, 4,000 images of one digit down to 40, tested on a balanced one.

The generator sees the imbalanced images alone. The bar is the best of what needs no generator:
class weights, oversampling, transforms, SMOTE. Ours is transforms and oversampling with a share of
every batch synthetic, at as many steps.
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

COUNTS = (4000, 2000, 1000, 750, 500, 350, 200, 100, 60, 40)
FILLED = 4000
MADE = 2000
LEARNING = Learning(steps=2500)
SYNTHETIC_SHARE = 0.5
NETWORKS = {"small_cnn": "small CNN", "resnet18": "ResNet-18"}
BASELINES = {
    "none": "nothing",
    "class_weights": "class weights",
    "oversampling": "oversampling",
    "affine": "affine transforms",
    "affine_oversampling": "affine transforms and oversampling",
    "smote": "SMOTE",
    "affine_smote": "affine transforms and SMOTE",
}
OURS = "ours"
SHOWN = BASELINES | {OURS: "**affine transforms, oversampling, and ours**"}
FIGURES = ("acsa", "gm", "f1")
SETTINGS: dict[str, Any] = {
    "counts": COUNTS,
    "filled_to": FILLED,
    "made_a_class": MADE,
    "learning": asdict(LEARNING),
    "synthetic_share": SYNTHETIC_SHARE,
}
ANCHORS = {
    "SMOTE": ("87.98", "89.99", "85.02"),
    "BAGAN": ("93.06", "95.98", "92.77"),
    "GAMO": ("95.52", "97.47", "95.47"),
    "DeepSMOTE": ("96.09", "97.80", "96.03"),
}


def phases(seeds: int) -> list[list[str]]:
    """Names of the cells, by when they can be run."""
    every = range(seeds)
    return [
        [f"{seed}/generator" for seed in every],
        *([f"{seed}/{network}/{arm}" for seed in every for arm in SHOWN] for network in NETWORKS),
    ]


def folder_of(name: str, work: Path) -> Path:
    """Where the generator of a cell lies."""
    return work / f"B-{name.partition('/')[0]}"


def run(name: str, mnist: Mnist, held_out: LabelledImages, place: Place) -> dict[str, Any]:
    """What one cell gives."""
    number, _, what = name.partition("/")
    seed, folder = int(number), folder_of(name, place.work)
    real = mnist.some(COUNTS, seed)
    if what == "generator":
        options = TrainingOptions(seed=seed)
        trained(folder, {"train": real}, options, place.device)
        return told(folder, options)
    network, _, arm = what.partition("/")
    parts = _with_ours(real, folder, seed, place) if arm == OURS else [_baseline(arm, real, seed)]
    return asdict(tested(network, parts, LEARNING, seed, held_out, place.device))


def _baseline(arm: str, real: LabelledImages, seed: int) -> Part:
    images, labels = real.images, real.labels
    if arm == "class_weights":
        counts = np.bincount(labels)
        return Part(images, labels, weights=len(labels) / (len(counts) * counts))
    if arm in {"smote", "affine_smote"}:
        images, labels = _smote(images, labels, seed)
        return Part(images, labels, affine=arm == "affine_smote")
    oversampled = arm in {"oversampling", "affine_oversampling"}
    return Part(
        images, labels, balanced=oversampled, affine=arm in {"affine", "affine_oversampling"}
    )


def _smote(images: np.ndarray, labels: np.ndarray, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Every class filled by lines between neighbours in pixels (Chawla et al., 2002)."""
    from imblearn.over_sampling import SMOTE  # noqa: PLC0415 - who draws the table does without

    wanted = dict.fromkeys(range(len(CLASS_NAMES)), FILLED)
    sampler = SMOTE(sampling_strategy=wanted, random_state=seed)
    flat, filled = sampler.fit_resample(images.reshape(len(images), -1).astype(np.float32), labels)
    pixels = flat.round().clip(0, 255).astype(np.uint8).reshape(-1, *images.shape[1:])
    return pixels, filled.astype(np.int64)


def _with_ours(real: LabelledImages, folder: Path, seed: int, place: Place) -> list[Part]:
    # As many of each, and not what is lacking to FILLED: a share of every batch is theirs, in which
    # no class should be missing.
    labels = np.repeat(np.arange(len(COUNTS), dtype=np.int64), MADE)
    images, labels, _ = drawn(folder, labels, seed, place.device)
    share = SYNTHETIC_SHARE
    return [
        Part(real.images, real.labels, 1 - share, balanced=True, affine=True),
        Part(images, labels, share, balanced=True),
    ]


def table(cells: dict[str, dict[str, Any]]) -> list[str]:
    """The results beside the anchors, as lines of Markdown."""
    lines = ["| network | the imbalanced set, with | ACSA | GM | F1 |", "|---|---|---:|---:|---:|"]
    for network, network_shown in NETWORKS.items():
        for arm, shown in SHOWN.items():
            found = _seeds(cells, network, arm).values()
            if not found:
                continue
            row = [mean([cell[figure] for cell in found]) for figure in FIGURES]
            lines.append(f"| {network_shown} | {shown} | {' | '.join(row)} |")
    for shown, values in ANCHORS.items():
        lines.append(f"| ResNet-18, published | {shown} | {' | '.join(values)} |")
    for network, shown in NETWORKS.items():
        if found := paired_gain(cells, network):
            lines += ["", _in_words(shown, found)]
    return lines


def _in_words(network: str, found: dict[str, Any]) -> str:
    return (
        f"{network}: ACSA of ours less that of {BASELINES[found['over']]}, the best of the others "
        f"on the very test set: {in_words(found)} points, over {len(found['per_seed'])} seeds."
    )


def paired_gain(cells: dict[str, dict[str, Any]], network: str) -> dict[str, Any] | None:
    """Ours against the baseline that did best, `over`: the paired difference of ACSA."""
    ours = _seeds(cells, network, OURS)
    bars = {arm: _seeds(cells, network, arm) for arm in BASELINES}
    whole = {arm: found for arm, found in bars.items() if ours and set(found) >= set(ours)}
    if not whole:
        return None
    values = {arm: [found[seed]["acsa"] for seed in ours] for arm, found in whole.items()}
    best = max(values, key=lambda arm: sum(values[arm]))
    return gain([cell["acsa"] for cell in ours.values()], values[best]) | {"over": best}


def _seeds(cells: dict[str, dict[str, Any]], network: str, arm: str) -> dict[str, dict[str, Any]]:
    """The cells of an arm, by seed."""
    end = f"/{network}/{arm}"
    return {name.removesuffix(end): cell for name, cell in cells.items() if name.endswith(end)}
