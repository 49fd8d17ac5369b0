"""What classifiers learn from the model that ships, tested on MNIST's test images (TSTR).

    python -m benchmarks.quality.bundled --mnist DIR [--seed 0]

60,000 images, as many a digit, are drawn as anybody's job without options draws them; the three
classifiers of track A learn from those alone, as there. About a quarter of an hour on one core.
Prints one JSON object.
"""

from __future__ import annotations

import argparse
import json
from dataclasses import replace
from pathlib import Path

import numpy as np

from benchmarks.machine import machine
from benchmarks.quality.classifiers import tested
from benchmarks.quality.generator import CPU, bundled
from benchmarks.quality.mnist import CLASS_NAMES, Mnist
from benchmarks.quality.track_a import EPOCHS, KINDS, LEARNING, MADE
from datagen.quality.learning import Part


def main() -> None:
    """Draw, learn, test."""
    parser = argparse.ArgumentParser(description="TSTR of the bundled model.")
    parser.add_argument("--mnist", type=Path, required=True, help="Folder of the four IDX files.")
    parser.add_argument("--seed", type=int, default=0)
    given = parser.parse_args()
    labels = np.arange(MADE, dtype=np.int64) % len(CLASS_NAMES)
    images, labels, refused = bundled(labels, given.seed)
    learning = replace(LEARNING, steps=EPOCHS * len(labels) // LEARNING.batch_size)
    test = Mnist(given.mnist).test
    accuracy = {
        kind: tested(kind, [Part(images, labels)], learning, given.seed, test, CPU).accuracy
        for kind in KINDS
    }
    told = {"images": len(labels), "refused": refused, "accuracy": accuracy}
    print(json.dumps({"machine": machine(1), "seed": given.seed} | told))


if __name__ == "__main__":
    main()
