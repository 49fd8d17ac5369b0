"""Evaluation: what a trained model is worth, and how images are best drawn from it.

Everything is measured on real images that the model has not seen. Those held out for validation
decide which sampler is recommended, by what a classifier learns from its images; those of the test
split, where there is one, say how good that is.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import groupby
from typing import Any

import numpy as np
import torch

from datagen.model.autoencoders import Autoencoder
from datagen.model.data import TrainingData, looked_at_once
from datagen.model.decoding import Decoder
from datagen.model.examples import Examples
from datagen.model.fit import held_out_elbo
from datagen.model.grain import Grain, with_grain
from datagen.model.networks import count_parameters
from datagen.model.samplers import STRENGTH, Sampling, draw_latents
from datagen.model.training_options import TrainingOptions
from datagen.quality.judge import Judge, Scorer, accuracy
from datagen.quality.prdc import NEIGHBOURS, prdc
from datagen.quality.training_index import TrainingIndex
from datagen.quality.tstr import BATCH, as_arrays, reduced, tstr
from datagen.schemas import STARTING_FROM_IMAGES, Gate, Recommended
from datagen.work.reconstructions import reconstruction_error
from datagen.work.splits import Parts

# What a training's progress calls it.
EVALUATION = "evaluation"
# Images that are measured of each label and of all, at most, and the values that those of a label
# may have, so that large pictures fit into memory.
MEASURED_PER_CLASS, MEASURED_IMAGES, MEASURED_VALUES = 1000, 20_000, 1 << 26
FEWEST_MEASURED = 8
# What a training usually compares, for the plan of its time: samplers, and classifiers for them,
# for the grain, for the gate and for real images.
PLANNED_SAMPLERS, PLANNED_CLASSIFIERS = 8, 9
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
# Held-out images that a classifier is tested on: of each class, of all, and of each at least.
TESTED_PER_CLASS, TESTED, FEWEST_TESTED = 500, 4000, 8
# Strengths of `neighbour` with a flow that are tried: the farther from real images first, which
# gives fewer copies of them.
STRENGTHS = (STRENGTH, 0.4)
# Images on either side of the coverage, and the values that their features may have together.
COVERED, COVERED_VALUES = 2000, 1 << 24


@dataclass(frozen=True)
class Measured:
    """Images of a sampler, and what was measured of them.

    Attributes:
        sampling: how they were drawn.
        agreement: of each class, how often the judge agrees; None of a class that was not learnt.
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


@dataclass(frozen=True)
class Accuracy:
    """Balanced accuracy of a classifier that has learnt from some images alone.

    Attributes:
        validation: on the images for validation, by which samplers are compared.
        test: on the images that the model is measured on.
    """

    validation: float
    test: float


@dataclass(frozen=True)
class _Work:
    """A model and its judge at work, and what they are compared with."""

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


def evaluate(
    model: Autoencoder,
    judge: Judge,
    parts: Parts,
    options: TrainingOptions,
    examples: Examples | None,
    index: TrainingIndex,
    check: Callable[[], None],
    on_progress: Callable[[dict[str, Any]], None] = lambda _progress: None,
    grains: Sequence[Grain] = (),
) -> dict[str, Any]:
    """The metrics of a trained model, `recommended` among them; `docs/quality.md` explains each.

    Args:
        model: trained, with its priors fitted.
        judge: trained, and calibrated.
        parts: what the images are for.
        options: how it was trained; its seed is used, and its `evaluation_steps`.
        examples: posteriors of real images, for the samplers that start from them.
        index: what copies of training images are known by.
        check: called now and then; raises to stop.
        on_progress: notified after each classifier, in the fields of a stage of training.
        grains: noise that generated images may get, in order of preference; the model gets the one
            with which they teach most.
    """
    device = parts.train.device
    work = _Work(
        model,
        Decoder(model, device),
        judge,
        Scorer(judge, device),
        index,
        examples,
        parts,
        options.seed,
        options.evaluation_steps,
        check,
        on_progress,
    )
    grains = list(dict.fromkeys(grains))
    if grains:
        model.config = grains[0].kept_in(model.config)
    classifiers = _Classifiers.of(work, len(grains)) if len(parts.validation) else None
    if classifiers is not None and len(grains) > 1:
        _choose_grain(work, classifiers, grains)
    found, accuracies = _compared(work, classifiers)
    usable = _usable(found) or ["prior"]
    held_out = 0 if classifiers is None else classifiers.held_out
    samplers = best_first(usable, accuracies, held_out)
    best = found[samplers[0]]
    gate = best.gate
    real = None
    if classifiers is not None:
        gate, accuracies[samplers[0]] = _best_gate(best, gate, accuracies[samplers[0]], classifiers)
        real = classifiers.learn(*as_arrays(parts.train, _measured_per_class(work)))
    elbo = held_out_elbo(model, parts.test, options.seed)
    coverage, coverage_of_real = _coverage(best.sampling, work)
    strength = found["neighbour"].sampling.strength if "neighbour" in found else None
    recommended = Recommended(samplers=tuple(samplers), gate=gate, strength=strength)
    return {
        "recommended": recommended.model_dump(mode="json"),
        "measured_on": parts.measured_on,
        "held_out_images": len(parts.test),
        "parameters": count_parameters(model),
        "grain": list(model.config.grain),
        "reconstruction": _rounded(elbo.get("reconstruction"), 3),
        "kl": _rounded(elbo.get("kl"), 3),
        "negative_elbo": _rounded(elbo.get("total"), 3),
        "reconstruction_error": _rounded(reconstruction_error(model, parts.test, options.seed), 5),
        "judge_test_accuracy": _rounded(accuracy(judge, parts.test), 5),
        "judge_agreement": round(_mean(best.agreement), 5),
        "judge_agreement_per_class": [_rounded(value, 4) for value in best.agreement],
        "judge_agreement_by_sampler": {
            sampler: round(_mean(own.agreement), 5) for sampler, own in found.items()
        },
        "copy_rate_by_sampler": {
            sampler: round(own.copy_rate, 5) for sampler, own in found.items()
        },
        "variance_ratio_per_class": [_rounded(value, 4) for value in best.variance],
        "tstr": round(accuracies[samplers[0]].test, 5) if accuracies else None,
        "tstr_by_sampler": {name: round(own.test, 5) for name, own in accuracies.items()},
        "trtr": None if real is None else round(real.test, 5),
        "coverage": _rounded(coverage, 5),
        "coverage_of_real": _rounded(coverage_of_real, 5),
    }


def _choose_grain(work: _Work, classifiers: _Classifiers, grains: Sequence[Grain]) -> None:
    """Give the model the grain with which its images teach most.

    By the images that are nearest to real ones: what they lack is the grain, and no more.
    """
    ways = _samplings(work)
    sampling = ([way for way in ways if way.sampler == "neighbour"] or ways)[-1]
    learnt = {}
    for number, grain in enumerate(grains):
        work.model.config = grain.kept_in(work.model.config)
        learnt[str(number)] = classifiers.compare(sampling)[1]
    best = best_first(list(learnt), learnt, classifiers.held_out)[0]
    work.model.config = grains[int(best)].kept_in(work.model.config)


def _compared(
    work: _Work, classifiers: _Classifiers | None
) -> tuple[dict[str, Measured], dict[str, Accuracy]]:
    """What each sampler's images are like, and what a classifier learns from them.

    Where a sampler has several strengths, at the best of them; without classifiers at the first,
    and nothing is learnt.
    """
    found: dict[str, Measured] = {}
    accuracies: dict[str, Accuracy] = {}
    for sampler, ways in groupby(_samplings(work), lambda way: way.sampler):
        if classifiers is None:
            found[sampler] = _measured(next(ways), work)
            continue
        tried = {str(number): classifiers.compare(way) for number, way in enumerate(ways)}
        learnt = {number: accuracy for number, (_, accuracy) in tried.items()}
        usable = _usable({number: own for number, (own, _) in tried.items()})
        best = best_first(usable or ["0"], learnt, classifiers.held_out)[0]
        found[sampler], accuracies[sampler] = tried[best]
    return found, accuracies


def _usable(found: Mapping[str, Measured]) -> list[str]:
    """Those that are usable; where none is, for want of one label, those with few copies in all."""
    usable = [name for name, own in found.items() if own.is_usable]
    return usable or [name for name, own in found.items() if own.has_few_copies]


def _best_gate(
    best: Measured, gate: Gate, gated: Accuracy, classifiers: _Classifiers
) -> tuple[Gate, Accuracy]:
    """The gate whose images a classifier learns more from: with a least score, or without one.

    The judge is sure of the easy images; the others may be what a classifier needs.
    """
    if not gate.min_score:
        classifiers.planned -= 1
        return gate, gated
    no_score = gate.model_copy(update={"min_score": 0.0})
    again = _measured(best.sampling, classifiers.work)
    learnt = {"gated": gated, "free": classifiers.learn_through(no_score, again)}
    is_gated = best_first(["gated", "free"], learnt, classifiers.held_out)[0] == "gated"
    return (gate, gated) if is_gated else (no_score, learnt["free"])


def _samplers(model: Autoencoder, examples: Examples | None) -> list[str]:
    """The samplers that the model keeps something for, those that mostly teach best first.

    In that order by classifiers that learnt from their images; `docs/quality.md` has the figures.
    """
    kept = {
        "neighbour": examples is not None,
        "interpolate": examples is not None,
        "density": model.config.components > 0,
        "prior": True,
    }
    if model.flow is not None:
        kept = {"prior": True} | kept
    return [sampler for sampler, is_kept in kept.items() if is_kept]


def _samplings(work: _Work) -> list[Sampling]:
    """The samplers, and each strength of those that have several."""
    with_strengths = work.model.flow is not None
    return [
        Sampling(sampler, strength=strength)
        for sampler in _samplers(work.model, work.examples)
        for strength in (STRENGTHS if sampler == "neighbour" and with_strengths else (None,))
    ]


def _measured(sampling: Sampling, work: _Work) -> Measured:
    """What a sampler's images are like; a class without training images is left out."""
    config = work.model.config
    known = work.train.all_labels
    agreement: list[float | None] = [None] * config.class_count
    variance: list[float | None] = [None] * config.class_count
    copies, images, labels, scores, copied = [], [], [], [], []
    count = _measured_per_class(work)
    # Such a sampler has no label to go by: the judge gives it, as a job would have it.
    is_labelled = config.is_conditional or sampling.sampler in STARTING_FROM_IMAGES
    for group in _groups(work, count):
        work.check()
        smooth, pictures = _drawn(sampling, group, count, work)
        requested = np.repeat(group, count)
        probabilities = work.scorer.score(pictures)
        judged = probabilities.argmax(axis=1)
        is_copy = work.index.copies(smooth, requested)
        given = requested if is_labelled else judged
        score = np.take_along_axis(probabilities, given[:, None], axis=1)[:, 0]
        for label in group.tolist():
            own = np.flatnonzero(requested == label)
            real = torch.nonzero(known == label)[:count, 0]
            agreement[label] = float((judged[own] == label).mean())
            spread = pixel_variance(work.train.pixels(real))
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


def _measured_per_class(work: _Work) -> int:
    """Images of a label that a sampler is measured on: fewer of many labels, and of large ones."""
    shared = work.steps * BATCH // PASSES // len(work.known)
    shared = min(max(FEWEST_MEASURED, shared), max(1, MEASURED_IMAGES // len(work.known)))
    return min(shared, _most_at_once(work))


def _most_at_once(work: _Work) -> int:
    """Images that are drawn at once: as many as fit into memory, however large they are."""
    in_memory = max(1, MEASURED_VALUES // math.prod(work.train.image_shape))
    return min(MEASURED_PER_CLASS, in_memory)


def _groups(work: _Work, count: int) -> list[np.ndarray]:
    """The labels that were learnt, as many together as have so many images at once in all.

    The decoder works in tiles: a few images of one label would fill a small part of one.
    """
    together = max(1, _most_at_once(work) // count)
    known = np.array(work.known, dtype=np.int64)
    return [known[start : start + together] for start in range(0, len(known), together)]


def _drawn(
    sampling: Sampling, group: np.ndarray, count: int, work: _Work
) -> tuple[np.ndarray, np.ndarray]:
    """So many images uint8 (N, C, H, W) of each label, as they are decoded and with their grain."""
    labels = np.repeat(group, count)
    number = np.tile(np.arange(count), len(group)) + labels * MEASURED_PER_CLASS
    none = np.zeros_like(number)
    drawn = draw_latents(work.model, sampling, work.seed, number, none, labels, work.examples)
    smooth = np.concatenate(list(work.decoder.tiles(drawn.latents, labels)))
    return smooth, with_grain(smooth, Grain.of(work.model.config), work.seed, number, none)


@dataclass
class _Classifiers:
    """Classifiers that learn from generated images, or from real ones, and the images that test.

    Attributes:
        work: the model that they are for.
        tests: images and labels of each set that they are tested on.
        planned: classifiers that will learn.
        learnt: what each way of drawing images came to, so that none is measured twice.
    """

    work: _Work
    tests: Sequence[tuple[np.ndarray, np.ndarray]]
    planned: int
    learnt: dict[tuple[Sampling, Grain], tuple[Measured, Accuracy]] = field(default_factory=dict)
    _done: int = 0
    _began: float = field(default_factory=time.monotonic)

    @classmethod
    def of(cls, work: _Work, grains: int) -> _Classifiers:
        """For the images of a training, which may get one of so many grains."""
        sets = [work.parts.validation]
        if work.parts.test is not work.parts.validation:
            sets.append(work.parts.test)
        # One for each other grain, one through a gate that asks for no score, one of real images.
        planned = len(_samplings(work)) + max(0, grains - 1) + 2
        per_class = min(TESTED_PER_CLASS, max(FEWEST_TESTED, TESTED // len(work.known)))
        return cls(work, [as_arrays(data, per_class) for data in sets], planned)

    @property
    def held_out(self) -> int:
        """Images for validation that they are tested on."""
        return len(self.tests[0][1])

    def compare(self, sampling: Sampling) -> tuple[Measured, Accuracy]:
        """What images of a sampler are like, and what is learnt from them through their gate."""
        key = (sampling, Grain.of(self.work.model.config))
        if key not in self.learnt:
            own = _measured(sampling, self.work)
            found = self.learn_through(own.gate, own)
            # Of all ways together the images would not fit into memory.
            self.learnt[key] = (replace(own, images=own.images[:0]), found)
        return self.learnt[key]

    def learn_through(self, gate: Gate, measured: Measured) -> Accuracy:
        """Learn from the images of a sampler that a gate lets pass."""
        rows = measured.passed(gate)
        return self.learn(measured.images[rows], measured.labels[rows])

    def learn(self, images: np.ndarray, labels: np.ndarray) -> Accuracy:
        """Learn from images uint8 (N, C, H, W), reduced, with labels int64 (N,)."""
        values = tstr(
            images,
            labels,
            self.tests,
            self.work.model.config.class_count,
            steps=self.work.steps,
            seed=self.work.seed,
            device=self.work.train.device,
            check=self.work.check,
        )
        self._done += 1
        self._notify()
        return Accuracy(values[0], values[-1])

    def _notify(self) -> None:
        seconds = max(1e-9, time.monotonic() - self._began)
        steps, left = self.work.steps, max(0, self.planned - self._done)
        self.work.on_progress(
            {
                "stage": EVALUATION,
                "epoch": self._done,
                "epochs": self.planned,
                "step": self._done * steps,
                "steps": self.planned * steps,
                "images_per_second": round(self._done * steps * BATCH / seconds, 1),
                "seconds_left": round(left * seconds / self._done, 1),
            }
        )


def best_first(
    samplers: Sequence[str], accuracies: Mapping[str, Accuracy], held_out: int
) -> list[str]:
    """The samplers, those from which a classifier learns most first.

    Within one standard error of the best, the given order counts: it was found on many more images
    than are held out of one dataset.

    Args:
        samplers: in the order that is usually right.
        accuracies: what was measured; empty where nothing could be.
        held_out: images that it was measured on.
    """
    left, ordered = list(samplers), []
    while left and accuracies:
        best = max(accuracies[name].validation for name in left)
        # A few images prove nothing, even if all of them are right (Agresti and Coull, 1998).
        likely = (best * held_out + 2) / (held_out + 4)
        slack = math.sqrt(likely * (1.0 - likely) / (held_out + 4))
        chosen = next(name for name in left if accuracies[name].validation >= best - slack)
        left.remove(chosen)
        ordered.append(chosen)
    return ordered + left


def gate_for(agreement: Sequence[float | None]) -> Gate:
    """The gate for images of a sampler, by how often the judge agrees with each label.

    One that takes any score where the judge disagrees so often that it would leave many out.
    """
    least = min(value for value in agreement if value is not None)
    gate = Gate(on_shortfall="keep")
    return gate if least >= LEAST_AGREEMENT else gate.model_copy(update={"min_score": 0.0})


def _coverage(sampling: Sampling, work: _Work) -> tuple[float | None, float | None]:
    """Share of held-out real images that have a generated one nearby, and that have a training one.

    In the judge's features; None where there are too few images.
    """
    train, test = work.train, work.parts.test
    most = min(COVERED, COVERED_VALUES // work.judge.config.feature_count)
    per_class = max(1, min(most // len(work.known), _measured_per_class(work)))
    count = min(per_class * len(work.known), len(test), len(train))
    if count <= NEIGHBOURS:
        return None, None
    generated = np.concatenate(
        [
            hidden(work.judge, _drawn(sampling, group, per_class, work)[1], train.device)
            for group in _groups(work, per_class)
        ]
    )

    def features(data: TrainingData) -> np.ndarray:
        rows = torch.linspace(0, len(data) - 1, count).long()
        size = looked_at_once(math.prod(data.image_shape))
        pieces = [data.pixels(part) for part in torch.split(rows, size)]
        return np.concatenate([hidden(work.judge, one, train.device) for one in pieces])

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


def _rounded(value: float | None, digits: int) -> float | None:
    """The value, or None where nothing was measured."""
    return None if value is None else round(value, digits)


def _mean(values: Sequence[float | None]) -> float:
    """Mean of what was measured."""
    return float(np.mean([value for value in values if value is not None]))


def pixel_variance(images: np.ndarray) -> float:
    """Mean over the pixels of their variance over the images uint8 (N, C, H, W); 0 without any."""
    return float(images.var(axis=0, dtype=np.float64).mean()) if len(images) else 0.0
