"""What `datagen train --from MODEL` saves: steps to the same bound on held-out images.

    python -m benchmarks.quality.warm_start [--steps 600] [--set shapes]

A parent learns eight of the ten classes of a set of our own making. Then all ten are learnt by the
recommended recipe's networks twice, from nothing and from the parent, with the same batches. What
counts is the first look, every fiftieth step, at which the bound of the averaged weights on
held-out images is as good as the run from nothing comes to at its end. Prints JSON.
"""

from __future__ import annotations

import argparse
import copy
import json
import os
from typing import Any

import numpy as np
import torch

from benchmarks.machine import machine
from benchmarks.quality import colour
from benchmarks.quality.results import commit
from datagen.model.autoencoders import Autoencoder, make_generator
from datagen.model.config import GeneratorConfig
from datagen.model.data import TrainingData, mid_tones
from datagen.model.fit import Fit, held_out_elbo
from datagen.model.training_options import TrainingOptions
from datagen.model.warm_start import start_from

CPU = torch.device("cpu")
PER_CLASS, HELD_OUT = 500, 100
KNOWN = 8
LOOKED_AT_EVERY = 50


def first_classes(
    which: str, classes: int, per_class: int, seed: int
) -> tuple[TrainingData, list[str]]:
    """Images of the first classes of a set, as many of each, and the names of those classes."""
    images, labels, names = colour.made(which, per_class, seed)
    rows = labels < classes
    return TrainingData.on(CPU, images[rows], labels[rows].astype(np.int64)), list(names)[:classes]


def generator(options: TrainingOptions, shape: tuple[int, int, int], classes: int) -> Autoencoder:
    """Networks with fresh weights, as the options have them."""
    names = set(GeneratorConfig.model_fields) & set(TrainingOptions.model_fields)
    own = options.model_dump(include=names - {"flow_width", "flow_blocks"})
    config = GeneratorConfig.model_validate({"image_shape": shape, "class_count": classes, **own})
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(options.seed)
        return make_generator(config).to(memory_format=torch.channels_last)


def fitted(
    model: Autoencoder, data: TrainingData, held_out: TrainingData, options: TrainingOptions
) -> tuple[Autoencoder, list[tuple[int, float]]]:
    """The fitted model, and its bound on held-out images after so many steps."""
    fit = Fit(model, data, data.subset(torch.arange(0)), options)
    bounds = []
    for number in range(fit.steps):
        fit.step(number)
        if (number + 1) % LOOKED_AT_EVERY == 0 or number + 1 == fit.steps:
            looked_at = copy.deepcopy(fit.kept)
            bounds.append((number + 1, held_out_elbo(looked_at, held_out, options.seed)["total"]))
            print(*bounds[-1], flush=True)
    return fit.kept, bounds


def main() -> None:
    """Train the parent, then the ten classes from nothing and from the parent."""
    parser = argparse.ArgumentParser(description="Steps that starting from a model saves.")
    parser.add_argument("--steps", type=int, default=600, help="Of each training.")
    parser.add_argument("--set", choices=sorted(colour.SETS), default="shapes")
    given = parser.parse_args()
    data, names = first_classes(given.set, 10, PER_CLASS, 0)
    held_out, _ = first_classes(given.set, 10, HELD_OUT, 1)
    few, known = first_classes(given.set, KNOWN, PER_CLASS, 2)
    few_held_out, _ = first_classes(given.set, KNOWN, HELD_OUT, 1)
    tones = mid_tones(data)

    def options_of(images: TrainingData, classes: int, **told: Any) -> TrainingOptions:
        counts = np.bincount(images.all_labels.numpy(), minlength=classes).tolist()
        options = TrainingOptions(**told).for_images(counts, images.image_shape, tones)
        per_epoch = len(images) // options.batch_size
        return options.model_copy(update={"epochs": max(1, given.steps // per_epoch)})

    shape = data.image_shape
    own = options_of(few, KNOWN)
    parent, _ = fitted(generator(own, shape, KNOWN), few, few_held_out, own)
    plain = options_of(data, 10)
    _, nothing = fitted(generator(plain, shape, 10), data, held_out, plain)
    warm = options_of(data, 10, kl_schedule="constant")
    child = generator(warm, shape, 10)
    start_from(child, parent, names, known)
    _, started = fitted(child, data, held_out, warm)
    steps, goal = nothing[-1]
    reached = next((step for step, bound in started if bound <= goal), None)
    print(
        json.dumps(
            {
                "set": given.set,
                "from_nothing": nothing,
                "from_parent": started,
                "steps_from_nothing": steps,
                "steps_from_parent": reached,
                "ratio": None if reached is None else round(reached / steps, 3),
                "machine": machine(os.cpu_count() or 1),
                "commit": commit(),
            }
        )
    )


if __name__ == "__main__":
    main()
