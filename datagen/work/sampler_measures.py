"""What a sampler's images are like: agreement, copies, variance and coverage of real images."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from datagen.model.autoencoders import Autoencoder
from datagen.model.data import TrainingData, looked_at_once
from datagen.model.decoding import Decoder
from datagen.model.examples import Examples
from datagen.model.grain import Grain, with_grain
from datagen.model.samplers import Sampling, draw_latents
from datagen.quality.judge import Judge, Scorer
from datagen.quality.prdc import prdc
from datagen.quality.training_index import TrainingIndex
from datagen.quality.tstr import BATCH, reduced
from datagen.schemas import STARTING_FROM_IMAGES, Gate
from datagen.work.splits import Parts

# Images that are measured of each label and of all, at most, and the values that those of a label
# may have, so that large pictures fit into memory.
MEASURED_PER_CLASS, MEASURED_IMAGES, MEASURED_VALUES = 1000, 20_000, 1 << 26
FEWEST_MEASURED = 8
# Passes of a classifier over the images that it learns from: its steps determine their number.
PASSES = 8
# Of a sampler's images: beyond, a gate that refuses copies is seldom passed, and what passes is no
# longer what the sampler is for.
MOST_COPIES = 0.75
# Of the images of a label: below, most jobs would be short of that label, and the rare label may be
# the very one that images are wanted for.
LEAST_PASSED = 0.1
# Of the label that the judge agrees with least: below, a gate leaves out too many images.
LEAST_AGREEMENT = 0.25
# Images on either side of the coverage, and the values that their features may have together.
COVERED, COVERED_VALUES = 2000, 1 << 24
# Below, one of five nearest images lies nearby whatever it shows.
FEWEST_COVERED = 20


@dataclass(frozen=True)
class EvaluationContext:
    """A model and its judge at work, and what they are compared with.

    Attributes:
        model: the generator, with its priors fitted.
        decoder: its decoder, set up for the device.
        judge: the judge, whose features the coverage is measured in.
        scorer: the judge, set up to score tiles of images.
        index: what copies of training images are known by.
        examples: posteriors of real images; None where none are kept.
        parts: the real images.
        seed: of what is drawn, and of classifiers.
        steps: of each classifier.
        check: called now and then; raises to stop.
        on_progress: notified after each classifier.
    """

    model: Autoencoder
    decoder: Decoder
    judge: Judge
    scorer: Scorer
    index: TrainingIndex
    examples: Examples | None
    parts: Parts
    seed: int
    steps: int
    check: Callable[[], None]
    on_progress: Callable[[dict[str, Any]], None]

    @property
    def train(self) -> TrainingData:
        """What the model has learnt from."""
        return self.parts.train

    @property
    def known(self) -> list[int]:
        """The labels that were learnt."""
        return sorted(set(self.train.all_labels.tolist()))


@dataclass(frozen=True)
class Measured:
    """Images of a sampler, and what was measured of them.

    Attributes:
        sampling: how they were drawn.
        agreement: of each class, how often the judge agrees; None of a class that was not learnt,
            and of all where the judge gives the labels itself.
        variance: of each class, how much images vary, as a share of real ones.
        copy_rate: share of copies of training images.
        images: uint8 (N, C, H, W), reduced; none where a classifier has learnt from them.
        labels: int64 (N,); the judge's where the networks see no label.
        scores: the judge's probability of the label, float32 (N,).
        copied: which are copies of training images, bool (N,).
    """

    sampling: Sampling
    agreement: list[float | None]
    variance: list[float | None]
    copy_rate: float
    images: np.ndarray
    labels: np.ndarray
    scores: np.ndarray
    copied: np.ndarray

    def passed(self, gate: Gate) -> np.ndarray:
        """Which of the images a gate lets pass, bool (N,)."""
        return (self.scores >= gate.min_score) & ~(self.copied & gate.reject_copies)

    @property
    def gate(self) -> Gate:
        """The gate for the images: without a score where too few of some label would have it."""
        gate = gate_for(self.agreement)
        has_enough = self._least_share(self.scores >= gate.min_score) >= LEAST_PASSED
        return gate if has_enough else gate.model_copy(update={"min_score": 0.0})

    @property
    def is_usable(self) -> bool:
        """Whether few enough images are copies, and enough of each label pass the gate for them."""
        passed = self.passed(self.gate)
        return self.has_few_copies and self._least_share(passed) >= LEAST_PASSED

    def _least_share(self, rows: np.ndarray) -> float:
        """Of the labels, the least share of images that are among the rows, bool (N,)."""
        numbers, counts = np.unique(self.labels, return_counts=True)
        # Where the judge gives the labels, one that it seldom gives says nothing of the sampler.
        often = numbers[counts >= min(FEWEST_MEASURED, counts.max())]
        return min(float(rows[self.labels == label].mean()) for label in often)

    @property
    def has_few_copies(self) -> bool:
        """Whether few enough images are copies, all labels together."""
        return self.copy_rate <= MOST_COPIES


def measured(sampling: Sampling, context: EvaluationContext) -> Measured:
    """What a sampler's images are like; a class without training images is left out."""
    config = context.model.config
    known = context.train.all_labels
    agreement: list[float | None] = [None] * config.class_count
    variance: list[float | None] = [None] * config.class_count
    copies, images, labels, scores, copied = [], [], [], [], []
    count = measured_per_class(context)
    # Such a sampler has no label to go by: the judge gives it, as a job would have it.
    is_labelled = config.is_conditional or sampling.sampler in STARTING_FROM_IMAGES
    for group in groups(context, count):
        context.check()
        smooth, pictures = drawn(sampling, group, count, context)
        requested = np.repeat(group, count)
        probabilities = context.scorer.score(pictures)
        judged = probabilities.argmax(axis=1)
        given = requested if is_labelled else judged
        is_copy = context.index.copies(smooth, given)
        score = np.take_along_axis(probabilities, given[:, None], axis=1)[:, 0]
        for label in group.tolist():
            own = np.flatnonzero(requested == label)
            real = torch.nonzero(known == label)[:count, 0]
            if is_labelled:
                agreement[label] = float((judged[own] == label).mean())
            spread = pixel_variance(context.train.pixels(real))
            variance[label] = pixel_variance(pictures[own]) / spread if spread else None
            copies.append(float(is_copy[own].mean()))
        images.append(reduced(pictures))
        labels.append(given)
        scores.append(score)
        copied.append(is_copy)
    return Measured(
        sampling,
        agreement,
        variance,
        float(np.mean(copies)),
        np.concatenate(images),
        np.concatenate(labels),
        np.concatenate(scores),
        np.concatenate(copied),
    )


def drawn(
    sampling: Sampling, group: np.ndarray, count: int, context: EvaluationContext
) -> tuple[np.ndarray, np.ndarray]:
    """So many images uint8 (N, C, H, W) of each label, as they are decoded and with their grain."""
    labels = np.repeat(group, count)
    number = np.tile(np.arange(count), len(group)) + labels * MEASURED_PER_CLASS
    none = np.zeros_like(number)
    found = draw_latents(
        context.model, sampling, context.seed, number, none, labels, context.examples
    )
    smooth = np.concatenate(list(context.decoder.tiles(found.latents, labels)))
    return smooth, with_grain(smooth, Grain.of(context.model.config), context.seed, number, none)


def groups(context: EvaluationContext, count: int) -> list[np.ndarray]:
    """The labels that were learnt, as many together as have so many images at once in all.

    The decoder works in tiles: a few images of one label would fill a small part of one.
    """
    together = max(1, _most_at_once(context) // count)
    known = np.array(context.known, dtype=np.int64)
    return [known[start : start + together] for start in range(0, len(known), together)]


def measured_per_class(context: EvaluationContext) -> int:
    """Images of a label that a sampler is measured on: fewer of many labels, and of large ones."""
    shared = context.steps * BATCH // PASSES // len(context.known)
    shared = min(max(FEWEST_MEASURED, shared), max(1, MEASURED_IMAGES // len(context.known)))
    return min(shared, _most_at_once(context))


def _most_at_once(context: EvaluationContext) -> int:
    """Images that are drawn at once: as many as fit into memory, however large they are."""
    in_memory = max(1, MEASURED_VALUES // math.prod(context.train.image_shape))
    return min(MEASURED_PER_CLASS, in_memory)


def gate_for(agreement: Sequence[float | None]) -> Gate:
    """The gate for images of a sampler, by how often the judge agrees with each label.

    One that takes any score where the judge disagrees so often that it would leave many out.
    """
    least = min((value for value in agreement if value is not None), default=1.0)
    gate = Gate(on_shortfall="keep")
    return gate if least >= LEAST_AGREEMENT else gate.model_copy(update={"min_score": 0.0})


def coverage_of(
    sampling: Sampling, context: EvaluationContext
) -> tuple[float | None, float | None]:
    """Share of held-out real images that have a generated one nearby, and that have a training one.

    In the judge's features; None where there are too few images.
    """
    train, test = context.train, context.parts.test
    most = min(COVERED, COVERED_VALUES // context.judge.config.feature_count)
    per_class = max(1, min(most // len(context.known), measured_per_class(context)))
    count = min(per_class * len(context.known), len(test), len(train))
    if count < FEWEST_COVERED:
        return None, None
    generated = np.concatenate(
        [
            hidden(context.judge, drawn(sampling, group, per_class, context)[1], train.device)
            for group in groups(context, per_class)
        ]
    )

    def features(data: TrainingData) -> np.ndarray:
        rows = torch.linspace(0, len(data) - 1, count).long()
        size = looked_at_once(math.prod(data.image_shape))
        pieces = [data.pixels(part) for part in torch.split(rows, size)]
        return np.concatenate([hidden(context.judge, one, train.device) for one in pieces])

    held_out = features(test)
    some = np.linspace(0, len(generated) - 1, count).astype(np.int64)
    covered = prdc(held_out, generated[some]).coverage
    return covered, prdc(held_out, features(train)).coverage


@torch.no_grad()
def hidden(judge: Judge, images: np.ndarray, device: torch.device) -> np.ndarray:
    """The judge's features, float32 (N, F), of images uint8 (N, C, H, W)."""
    judge.eval()
    size = looked_at_once(math.prod(images.shape[1:]))
    found = []
    for start in range(0, len(images), size):
        image = torch.tensor(images[start : start + size]).to(device).float().div_(255.0)
        found.append(judge.hidden(image).float().cpu().numpy())
    return np.concatenate(found)


def pixel_variance(images: np.ndarray) -> float:
    """Mean over the pixels of their variance over images uint8 (N, C, H, W); 0 without images.

    In squared grey levels.
    """
    return float(images.var(axis=0, dtype=np.float64).mean()) if len(images) else 0.0
