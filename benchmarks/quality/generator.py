"""The generator of a track: trained once a seed and kept, and what is drawn from it."""

from __future__ import annotations

import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch

from datagen.bundled import INDEX, JUDGE, MODEL
from datagen.images import LabelledImages, decode_pngs
from datagen.model.checkpoint import load_generator
from datagen.model.decoding import Decoder
from datagen.model.examples import load_examples
from datagen.model.header import read_header
from datagen.model.samplers import Sampling
from datagen.model.training_options import TrainingOptions
from datagen.quality.judge import Scorer, load_judge
from datagen.quality.training_index import load_index
from datagen.schemas import STARTING_FROM_IMAGES, Recommended
from datagen.work import recipe
from datagen.work.candidates import Candidates, Drawing, Wanted
from datagen.work.generators import Generator
from datagen.work.stopwatch import Stopwatch

CPU = torch.device("cpu")


def is_trained(folder: Path) -> bool:
    """Whether a generator lies in a folder, whole."""
    return (folder / recipe.JUDGE).exists()


def trained(
    folder: Path,
    splits: Mapping[str, LabelledImages],
    options: TrainingOptions,
    device: torch.device,
) -> None:
    """Train into a folder, or find it trained; a training that was cut off begins anew."""
    folder.mkdir(parents=True, exist_ok=True)
    if not is_trained(folder):
        recipe.train(
            splits,
            options,
            folder=folder,
            device=device,
            training_digest="0" * 64,
            on_progress=lambda _progress: None,
            check=lambda: None,
            slice_seconds=math.inf,
        )


def told(folder: Path, options: TrainingOptions) -> dict[str, Any]:
    """What a result says of a generator: how it was trained, how it draws, what it measured."""
    header = read_header(folder / recipe.GENERATOR)
    measured = {name: value for name, value in header.metrics.items() if name != "history"}
    return {"given": options.model_dump(exclude_unset=True), "came_to": header.options} | measured


def drawn(
    folder: Path, labels: np.ndarray, seed: int, device: torch.device
) -> tuple[np.ndarray, np.ndarray, int]:
    """Images as a job of that seed draws them where it leaves sampler and gate to the model.

    Args:
        folder: where the model lies.
        labels: what is asked for, int64 (N,).
        seed: the job's.
        device: what draws.

    Returns:
        uint8 (M, C, H, W), their labels (M,), and how many candidates the gate refused; M is less
        than N where none of an image's candidates passed.
    """
    model, header = load_generator(folder / recipe.GENERATOR, device)
    judge, _ = load_judge(folder / recipe.JUDGE, device)
    shape, classes = model.config.image_shape, model.config.class_count
    generator = Generator(
        model,
        Decoder(model, device),
        Scorer(judge, device),
        load_examples(folder / recipe.EXAMPLES, model.config.latent_dim),
        load_index(folder / recipe.INDEX, shape, classes),
    )
    found = Recommended.model_validate(header.metrics["recommended"])
    return made(
        generator,
        Drawing(Sampling(found.samplers[0], strength=found.strength), seed, found.gate),
        labels,
    )


def bundled(labels: np.ndarray, seed: int) -> tuple[np.ndarray, np.ndarray, int]:
    """The same from the model that ships, as everybody gets it: its examples do not ship."""
    model, header = load_generator(MODEL, CPU)
    judge, _ = load_judge(JUDGE, CPU)
    index = load_index(INDEX, model.config.image_shape, model.config.class_count)
    generator = Generator(model, Decoder(model, CPU), Scorer(judge, CPU), None, index)
    found = Recommended.model_validate(header.metrics["recommended"])
    sampler = next(name for name in found.samplers if name not in STARTING_FROM_IMAGES)
    return made(generator, Drawing(Sampling(sampler), seed, found.gate_of(sampler)), labels)


def made(
    generator: Generator, drawing: Drawing, labels: np.ndarray
) -> tuple[np.ndarray, np.ndarray, int]:
    """Images, their labels, and how many candidates were refused."""
    index = np.arange(len(labels))
    wanted = Wanted(index, np.zeros_like(index), labels)
    samples, refused = Candidates(drawing, generator, Stopwatch()).make(wanted)
    return (
        decode_pngs(samples.images),
        samples.labels,
        0 if refused is None else len(refused.indices),
    )
