"""Few pictures of each class, and what synthetic ones add to them.

    python -m benchmarks.quality.few_pictures [--sets things fashion] [--per-class 20] [--seeds 5]
        [--budget 300] [--alone] [--fashion /usr/share/datasets/fashion-mnist]

The recipe sees the few alone. A small CNN learns from them, transformed; and from them and as many
synthetic ones in every batch, untransformed. Both take the same number of steps, and are tested on
held-out images; the interval is over the seeds, each of which has other images, another generator
and other classifiers.

With `--alone`, the ablation of shared style: each class gets a generator that saw no other class.

Prints a table, writes `benchmarks/results/quality-few-pictures.json`, and as its last line prints
JSON.
"""

from __future__ import annotations

import argparse
import json
import os
import tempfile
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.machine import machine
from benchmarks.quality.classifiers import tested
from benchmarks.quality.generator import CPU, drawn, trained
from benchmarks.quality.paired import gain, in_words, mean
from benchmarks.quality.recipe_on_pictures import real_images
from benchmarks.quality.results import RESULTS, commit
from datagen.images import LabelledImages
from datagen.model.training_options import TrainingOptions
from datagen.quality.learning import Learning, Part

SETS = ("things", "fashion")
GENERATED = 1000
LEARNING = Learning(steps=1500)
SYNTHETIC_SHARE = 0.5
NETWORK = "small_cnn"
ARMS = {
    "real": "real, transformed",
    "with": "**real, transformed, and synthetic**",
    "alone": "real, and synthetic of generators that saw one class each",
}


def some(images: LabelledImages, per_class: int, seed: int) -> LabelledImages:
    """So many images of each class, chosen by the seed."""
    random = np.random.default_rng(seed)
    rows = [
        random.permutation(np.flatnonzero(images.labels == label))[:per_class]
        for label in range(len(images.class_names))
    ]
    chosen = np.concatenate(rows)
    return LabelledImages(images.images[chosen], images.labels[chosen], images.class_names)


def run(which: str, seed: int, given: argparse.Namespace, folder: Path) -> dict[str, float]:
    """Balanced accuracy of each arm."""
    real, held_out = real_images(which, given.fashion)
    few = some(real, given.per_class, seed)
    options = TrainingOptions(seed=seed, time_budget=given.budget)
    trained(folder / "all", {"train": few}, options, CPU)
    labels = np.repeat(np.arange(len(few.class_names), dtype=np.int64), GENERATED)
    own = Part(few.images, few.labels, 1 - SYNTHETIC_SHARE, balanced=True, affine=True)
    arms = {
        "real": [Part(few.images, few.labels, balanced=True, affine=True)],
        "with": [own, _synthetic(*drawn(folder / "all", labels, seed, CPU)[:2])],
    }
    if given.alone:
        arms["alone"] = [own, _one_by_one(few, options, folder)]
    return {
        arm: tested(NETWORK, parts, LEARNING, seed, held_out, CPU).acsa
        for arm, parts in arms.items()
    }


def _synthetic(images: np.ndarray, labels: np.ndarray) -> Part:
    return Part(images, labels, SYNTHETIC_SHARE, balanced=True)


def _one_by_one(few: LabelledImages, options: TrainingOptions, folder: Path) -> Part:
    """Images of generators that saw one class each, for an equal share of the time."""
    classes = len(few.class_names)
    share = options.model_copy(update={"time_budget": (options.time_budget or 0.0) / classes})
    images, labels = [], []
    for label in range(classes):
        rows = few.labels == label
        one = LabelledImages(few.images[rows], np.zeros(rows.sum(), dtype=np.int64), ("one",))
        trained(folder / f"class-{label}", {"train": one}, share, CPU)
        zeros = np.zeros(GENERATED, dtype=np.int64)
        made = drawn(folder / f"class-{label}", zeros, options.seed, CPU)[0]
        images.append(made)
        labels.append(np.full(len(made), label, dtype=np.int64))
    return _synthetic(np.concatenate(images), np.concatenate(labels))


def table(found: dict[str, list[dict[str, float]]]) -> list[str]:
    """The figures as lines of Markdown."""
    lines = [f"| learnt from | {' | '.join(found)} |", f"|---|{'---:|' * len(found)}"]
    for arm, words in ARMS.items():
        cells = [[one[arm] for one in seeds if arm in one] for seeds in found.values()]
        if any(cells):
            lines.append(f"| {words} | {' | '.join(mean(cell) for cell in cells)} |")
    gains = [
        in_words(gain([one["with"] for one in seeds], [one["real"] for one in seeds]))
        for seeds in found.values()
    ]
    lines.append(f"| gain, in points | {' | '.join(gains)} |")
    return lines


def main() -> None:
    """Run the sets one after the other."""
    parser = argparse.ArgumentParser(description="What synthetic images add to few pictures.")
    parser.add_argument("--sets", nargs="+", choices=SETS, default=SETS)
    parser.add_argument("--per-class", type=int, default=20, help="Real images of each class.")
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--budget", type=float, default=300.0, help="Seconds of a training.")
    parser.add_argument("--alone", action="store_true", help="Generators of one class each, too.")
    parser.add_argument(
        "--fashion", type=Path, default=Path("/usr/share/datasets/fashion-mnist"),
        help="The folder with the four files of Fashion-MNIST.",
    )  # fmt: skip
    given = parser.parse_args()
    found: dict[str, list[dict[str, float]]] = {}
    for which in given.sets:
        for seed in range(given.seeds):
            with tempfile.TemporaryDirectory(prefix="datagen-few-") as folder:
                found.setdefault(which, []).append(run(which, seed, given, Path(folder)))
                print(which, seed, found[which][-1], flush=True)
    path = RESULTS / "quality-few-pictures.json"
    document: dict[str, Any] = json.loads(path.read_text()) if path.exists() else {}
    for which, seeds in found.items():
        # Sets that were measured before are kept, with and without the ablation.
        document[f"{which}, alone" if given.alone else which] = {
            "per_class": given.per_class,
            "budget": given.budget,
            "machine": machine(os.cpu_count() or 1),
            "commit": commit(),
            "seeds": seeds,
        }
    path.write_text(json.dumps(document, indent=1) + "\n")
    print("\n".join(table(found)))
    print(json.dumps(document))


if __name__ == "__main__":
    main()
