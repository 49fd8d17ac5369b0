"""Evaluation: what a trained model is worth, and how images are best drawn from it.

Everything is measured on real images that the model has not seen. Those held out for validation
decide which sampler is recommended, by what a classifier learns from its images; those of the test
split, where there is one, say how good that is.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from datagen.model.autoencoders import Autoencoder
from datagen.model.config import TrainingOptions
from datagen.model.data import TrainingData
from datagen.model.decoding import Decoder
from datagen.model.examples import Examples
from datagen.model.fit import held_out_elbo
from datagen.model.fitting import posteriors
from datagen.model.networks import count_parameters
from datagen.model.samplers import STRENGTH, Sampling, draw_latents
from datagen.quality.judge import Judge, Scorer, accuracy
from datagen.quality.prdc import NEIGHBOURS, prdc
from datagen.quality.training_index import TrainingIndex
from datagen.quality.tstr import as_arrays, images_per_class, reduced, tstr
from datagen.schemas import Gate, Recommended
from datagen.work.splits import Parts

MEASURED_PER_CLASS = 1000
# Of a sampler's images: beyond, a gate that refuses copies is seldom passed, and what passes is no
# longer what the sampler is for.
MOST_COPIES = 0.75
# Of the label that the judge agrees with least: below, a gate leaves out too many images.
LEAST_AGREEMENT = 0.25
# Held-out images of each class that a classifier is tested on.
TESTED_PER_CLASS = 500
# Steps of each classifier that tells what images teach.
TAUGHT_STEPS = 300
# Strengths of `neighbour` with a flow that are tried: the farther from real images first, which
# gives fewer copies of them.
STRENGTHS = (STRENGTH, 0.4)
# Images on either side of the coverage.
COVERED = 2000
# Images that features are computed of at once.
_AT_ONCE = 256


@dataclass(frozen=True)
class Measured:
    """What a sampler's images are like.

    Attributes:
        agreement: of each class, how often the judge agrees; None of a class that was not learnt.
        variance: of each class, how much images vary, as a share of real ones.
        copy_rate: share of copies of training images.
        images: some of them, uint8 (N, C, H, W), reduced.
        labels: of those, int64 (N,).
        scores: of those, the judge's probability of the label, float32 (N,).
        copied: of those, which are copies of training images, bool (N,).
        features: of some of them, as the judge has them, float32 (M, F).
    """

    agreement: list[float | None]
    variance: list[float | None]
    copy_rate: float
    images: np.ndarray
    labels: np.ndarray
    scores: np.ndarray
    copied: np.ndarray
    features: np.ndarray

    def passed(self, gate: Gate) -> np.ndarray:
        """Which of the images a gate lets pass, bool (N,)."""
        return (self.scores >= gate.min_score) & ~(self.copied & gate.reject_copies)


@dataclass(frozen=True)
class _Judges:
    """A model and its judge at work, and what they are held against."""

    model: Autoencoder
    decoder: Decoder
    judge: Judge
    scorer: Scorer
    index: TrainingIndex
    examples: Examples | None
    train: TrainingData
    seed: int
    check: Callable[[], None]

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
) -> dict[str, Any]:
    """The metrics of a trained model, `recommended` among them; `docs/quality.md` explains each.

    Args:
        model: trained, with its priors fitted.
        judge: trained, and calibrated.
        parts: what the images are for.
        options: how it was trained; its seed is used.
        examples: posteriors of real images, for the samplers that start from them.
        index: what copies of training images are known by.
        check: called now and then; raises to stop.
    """
    device = parts.train.device
    work = _Judges(
        model,
        Decoder(model, device),
        judge,
        Scorer(judge, device),
        index,
        examples,
        parts.train,
        options.seed,
        check,
    )
    teaching = _Teaching.of(parts, work) if len(parts.validation) else None
    found = {name: _measured(Sampling(name), work) for name in _samplers(model, examples)}
    strength = None
    if "neighbour" in found and model.flow is not None:
        strength, found["neighbour"] = _strength(found["neighbour"], teaching, parts, work)
    usable = [name for name, own in found.items() if own.copy_rate <= MOST_COPIES] or ["prior"]
    gates = {name: gate_for(own.agreement) for name, own in found.items()}
    taught = {}
    if teaching is not None:
        taught = {name: teaching.by(own, gates[name]) for name, own in found.items()}
    samplers = best_first(usable, taught, len(parts.validation))
    best, gate = found[samplers[0]], gates[samplers[0]]
    if gate.min_score and teaching is not None:
        # Images that the judge is sure of are the easy ones: see what they teach with the others.
        open_gate = gate.model_copy(update={"min_score": 0.0})
        tried = {"gated": taught[samplers[0]], "open": teaching.by(best, open_gate)}
        if best_first(["gated", "open"], tried, len(parts.validation))[0] == "open":
            gate, taught[samplers[0]] = open_gate, tried["open"]
    real = None
    if teaching is not None:
        real = teaching.from_images(*as_arrays(parts.train, images_per_class(len(work.known))))
    elbo = held_out_elbo(model, parts.test, options.seed)
    coverage, reachable_coverage = _coverage(best, parts, work)
    return {
        "recommended": Recommended(
            samplers=tuple(samplers), gate=gate, strength=strength
        ).model_dump(mode="json"),
        "measured_on": parts.measured_on,
        "held_out_images": len(parts.test),
        "parameters": count_parameters(model),
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
        "tstr": round(taught[samplers[0]].test, 5) if taught else None,
        "tstr_by_sampler": {sampler: round(own.test, 5) for sampler, own in taught.items()},
        "trtr": None if real is None else round(real.test, 5),
        "coverage": _rounded(coverage, 5),
        "coverage_of_real": _rounded(reachable_coverage, 5),
    }


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


def _strength(
    usual: Measured, teaching: _Teaching | None, parts: Parts, work: _Judges
) -> tuple[float, Measured]:
    """How far `neighbour` is best to go from real images, and its images at that strength.

    Args:
        usual: its images at the first of the strengths.
        teaching: what tells; None where no images are held out.
        parts: what the images are for.
        work: what measures.
    """
    tried = {STRENGTHS[0]: usual}
    if teaching is None:
        return STRENGTHS[0], usual
    for strength in STRENGTHS[1:]:
        tried[strength] = _measured(Sampling("neighbour", strength=strength), work)
    taught = {
        str(strength): teaching.by(own, gate_for(own.agreement)) for strength, own in tried.items()
    }
    fit = [strength for strength, own in tried.items() if own.copy_rate <= MOST_COPIES]
    order = [str(strength) for strength in fit or STRENGTHS[:1]]
    best = float(best_first(order, taught, len(parts.validation))[0])
    return best, tried[best]


def _measured(sampling: Sampling, work: _Judges) -> Measured:
    """What a sampler's images are like; a class without training images is left out."""
    count = work.model.config.class_count
    known = work.train.all_labels
    agreement: list[float | None] = [None] * count
    variance: list[float | None] = [None] * count
    copies, images, labels, own_scores, all_copied, features = [], [], [], [], [], []
    kept, covered = images_per_class(len(work.known)), -(-COVERED // len(work.known))
    for label in work.known:
        work.check()
        made, own = _drawn(sampling, label, work)
        real = torch.nonzero(known == label)[:MEASURED_PER_CLASS, 0]
        scores = work.scorer.score(made)
        agreement[label] = float((scores.argmax(axis=1) == label).mean())
        spread = pixel_variance(work.train.pixels(real))
        variance[label] = pixel_variance(made) / spread if spread else None
        copied = work.index.copies(made, own)
        copies.append(float(copied.mean()))
        images.append(reduced(made[:kept]))
        labels.append(own[:kept])
        own_scores.append(scores[:kept, label])
        all_copied.append(copied[:kept])
        features.append(hidden(work.judge, made[:covered], work.train.device))
    return Measured(
        agreement,
        variance,
        float(np.mean(copies)),
        np.concatenate(images),
        np.concatenate(labels),
        np.concatenate(own_scores),
        np.concatenate(all_copied),
        np.concatenate(features),
    )


def _drawn(sampling: Sampling, label: int, work: _Judges) -> tuple[np.ndarray, np.ndarray]:
    """Images uint8 (N, C, H, W) of one label, and N times the label."""
    labels = np.full(MEASURED_PER_CLASS, label, dtype=np.int64)
    number = np.arange(MEASURED_PER_CLASS) + label * MEASURED_PER_CLASS
    none = np.zeros_like(number)
    drawn = draw_latents(work.model, sampling, work.seed, number, none, labels, work.examples)
    return np.concatenate(list(work.decoder.tiles(drawn.latents, labels))), labels


@dataclass(frozen=True)
class Taught:
    """What a classifier has learnt from some images: balanced accuracy on held-out ones.

    Attributes:
        validation: on the images for validation, by which samplers are compared.
        test: on the images that the model is measured on.
    """

    validation: float
    test: float


@dataclass(frozen=True)
class _Teaching:
    """Classifiers that learn from generated images, or from real ones, and the images that test."""

    work: _Judges
    tests: Sequence[tuple[np.ndarray, np.ndarray]]

    @classmethod
    def of(cls, parts: Parts, work: _Judges) -> _Teaching:
        """For the images of a training."""
        sets = (
            [parts.validation] if parts.test is parts.validation else [parts.validation, parts.test]
        )
        return cls(work, [as_arrays(data, TESTED_PER_CLASS) for data in sets if len(data)])

    def by(self, measured: Measured, gate: Gate) -> Taught:
        """By the images of a sampler that a gate lets pass."""
        rows = measured.passed(gate)
        return self.from_images(measured.images[rows], measured.labels[rows])

    def from_images(self, images: np.ndarray, labels: np.ndarray) -> Taught:
        """By images uint8 (N, C, H, W), reduced, with labels int64 (N,)."""
        values = tstr(
            images,
            labels,
            self.tests,
            self.work.model.config.class_count,
            steps=TAUGHT_STEPS,
            seed=self.work.seed,
            device=self.work.train.device,
            check=self.work.check,
        )
        return Taught(values[0], values[-1])


def best_first(samplers: Sequence[str], taught: Mapping[str, Taught], held_out: int) -> list[str]:
    """The samplers, those from which a classifier learns most first.

    Within one standard error of the best, the order that they come in counts: it was found on many
    more images than are held out of one dataset.

    Args:
        samplers: in the order that they mostly come in.
        taught: what was measured; empty where nothing could be.
        held_out: images that it was measured on.
    """
    left, ordered = list(samplers), []
    while left and taught:
        best = max(taught[name].validation for name in left)
        slack = math.sqrt(best * (1.0 - best) / max(1, held_out))
        chosen = next(name for name in left if taught[name].validation >= best - slack)
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


def _coverage(best: Measured, parts: Parts, work: _Judges) -> tuple[float | None, float | None]:
    """Share of held-out real images that have a generated one nearby, and that have a training one.

    In the judge's features; None where there are too few images.
    """
    device = parts.train.device

    def features(data: TrainingData, count: int) -> np.ndarray:
        rows = torch.linspace(0, len(data) - 1, count).long()
        return hidden(work.judge, data.pixels(rows), device)

    count = min(COVERED, len(best.features), len(parts.test), len(parts.train))
    if count <= NEIGHBOURS:
        return None, None
    held_out = features(parts.test, count)
    some = np.linspace(0, len(best.features) - 1, count).astype(np.int64)
    made = prdc(held_out, best.features[some]).coverage
    return made, prdc(held_out, features(parts.train, count)).coverage


@torch.no_grad()
def hidden(judge: Judge, images: np.ndarray, device: torch.device) -> np.ndarray:
    """The judge's features, float32 (N, F), of images uint8 (N, C, H, W)."""
    judge.eval()
    found = []
    for start in range(0, len(images), _AT_ONCE):
        image = torch.tensor(images[start : start + _AT_ONCE]).to(device).float().div_(255.0)
        found.append(judge.hidden(image).float().cpu().numpy())
    return np.concatenate(found)


@torch.no_grad()
def reconstruction_error(model: Autoencoder, data: TrainingData, seed: int) -> float | None:
    """Mean absolute difference of images to what their posterior means decode to, of a range of 1.

    None where there are no images.
    """
    if not len(data):
        return None
    means = posteriors(model, data, seed).mean.float().numpy()
    labels = data.all_labels.numpy()
    decoder, total = Decoder(model, data.device), 0.0
    for rows in data.pieces():
        at = rows.numpy()
        pictures = np.concatenate(list(decoder.tiles(means[at], labels[at])))
        apart = np.abs(pictures.astype(np.int16) - data.pixels(rows))
        total += float(apart.mean(dtype=np.float64)) * len(rows)
    return total / len(data) / 255.0


def _rounded(value: float | None, digits: int) -> float | None:
    """The value, or None where nothing was measured."""
    return None if value is None else round(value, digits)


def _mean(values: Sequence[float | None]) -> float:
    """Mean of what was measured."""
    return float(np.mean([value for value in values if value is not None]))


def pixel_variance(images: np.ndarray) -> float:
    """Mean over the pixels of their variance over the images uint8 (N, C, H, W); 0 without any."""
    return float(images.var(axis=0, dtype=np.float64).mean()) if len(images) else 0.0
