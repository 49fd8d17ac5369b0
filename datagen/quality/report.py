"""The report: what labelled images are worth, measured beside real ones, part by part.

A report is a row of steps, so that a long one can be interrupted between two of them. What a step
gives is plain values, which are all that is kept. Three networks take part that have nothing to do
with each other: the judge, which may have gated the images; the features, which distances are
measured in; and the evaluator, which says whether labels are right.
"""

from __future__ import annotations

import base64
from collections.abc import Callable, Iterator, Mapping
from dataclasses import asdict, dataclass, replace
from typing import Any

import numpy as np
import torch

from datagen.images import LabelledImages, encode_png
from datagen.model.config import JudgeConfig
from datagen.quality.copying import Copying, look_for_copies
from datagen.quality.distance import Measured, frechet, kernel
from datagen.quality.evaluator import EVALUATOR_SEED, new_evaluator
from datagen.quality.features import Features
from datagen.quality.fidelity import Fidelity, fidelity, share_interval
from datagen.quality.judge import Judge
from datagen.quality.learning import Learning, Part, learn, predicted
from datagen.quality.prdc import NEIGHBOURS, prdc
from datagen.quality.training_index import TrainingIndex, index_of
from datagen.quality.usefulness import Difference, balanced_accuracy, difference
from datagen.quality.verdict import Findings, verdict

SCHEMA_VERSION = 1
MEASURE = "measure"
# Arms of the usefulness, by what they learn from; the transforms are a mild turn, scale, shear and
# shift, which any training would use. Synthetic images vary by themselves, and more so where the
# generator learnt from transformed ones: transformed again they taught less (docs/quality.md).
REAL, BOTH = "real_affine", "real_and_synthetic_affine"
ALONE, REAL_PLAIN = "synthetic", "real"
ARMS = (REAL, BOTH, REAL_PLAIN, ALONE)
# Of each batch of real and synthetic images: enough to teach, and too few to drown the real ones.
SYNTHETIC_SHARE = 0.25
FEATURE_SEED = 104_729
FEWEST_IMAGES = 2
HISTOGRAM_BINS = 40


@dataclass(frozen=True)
class Effort:
    """How much a report computes.

    Attributes:
        quick: whether it is the quick one.
        images: generated ones that are looked at, at most.
        real_images: real ones that features and evaluator are compared on, at most.
        evaluator_steps, feature_steps, learning_steps: of the networks' training.
        seeds: of the comparison of arms.
        batch_size: images a step.
    """

    quick: bool
    images: int
    real_images: int
    evaluator_steps: int
    feature_steps: int
    learning_steps: int
    seeds: int
    batch_size: int = 128


QUICK = Effort(True, 10_000, 10_000, 600, 300, 400, 3)
FULL = Effort(False, 50_000, 50_000, 2000, 1000, 1500, 5)


@dataclass(frozen=True)
class Subject:
    """What is reported on, beside what it is compared with; labels count the real set's classes.

    Attributes:
        images, labels: generated, uint8 (N, C, H, W) and int64 (N,).
        train: real images that were learnt from.
        held_out: real images that were not.
        gated: whether a gate let the images pass.
        sampler: how their latents were drawn.
    """

    images: np.ndarray
    labels: np.ndarray
    train: LabelledImages
    held_out: LabelledImages
    gated: bool
    sampler: str = "prior"

    @property
    def class_names(self) -> tuple[str, ...]:
        """The real set's."""
        return self.train.class_names


# Of the generated images, the real ones to train on, and the held-out real ones.
_Sets = tuple[np.ndarray, np.ndarray, np.ndarray]


class NotComputable(Exception):
    """A part of a report that cannot be computed; its text says why."""


def step_names(effort: Effort) -> list[str]:
    """The steps of a report, in their order."""
    return [MEASURE, *(f"{arm}/{seed}" for seed in range(effort.seeds) for arm in ARMS)]


def run_step(
    name: str, subject: Subject, effort: Effort, device: torch.device, check: Callable[[], None]
) -> dict[str, Any]:
    """What one step gives, as plain values.

    Args:
        name: one of `step_names`.
        subject: what is reported on.
        effort: how much to compute.
        device: where to compute.
        check: called often; raises to stop.
    """
    if name == MEASURE:
        return _measure(subject, effort, device, check)
    arm, _, seed = name.partition("/")
    return _run_arm(arm, int(seed), subject, effort, device, check)


def _measure(
    subject: Subject, effort: Effort, device: torch.device, check: Callable[[], None]
) -> dict[str, Any]:
    found: dict[str, Any] = {}
    missing: list[dict[str, str]] = []
    for part, compute in _parts(subject, effort, device, check).items():
        check()
        try:
            found[part] = compute()
        except NotComputable as reason:
            missing.append({"part": part, "reason": str(reason)})
    return {"parts": found, "not_computed": missing}


def _parts(
    subject: Subject, effort: Effort, device: torch.device, check: Callable[[], None]
) -> dict[str, Callable[[], dict[str, Any]]]:
    train, held_out = subject.train, subject.held_out
    some = spread_out(len(train), effort.real_images)
    others = spread_out(len(held_out), effort.real_images)
    cached: dict[str, _Sets] = {}

    def features() -> _Sets:
        if "all" not in cached:
            _need_classes(train)
            with torch.random.fork_rng(devices=[]):
                torch.manual_seed(FEATURE_SEED)
                network = Judge(_judge_config(train))
            learning = Learning(effort.feature_steps, effort.batch_size, fast=False)
            part = Part(train.images, train.labels, affine=True)
            learn(network, [part], learning, seed=FEATURE_SEED, device=device, check=check)
            found = Features.of(network, train.images[some], device)
            sets = (subject.images, train.images[some], held_out.images[others])
            cached["all"] = (found(sets[0]), found(sets[1]), found(sets[2]))
            if not all(np.isfinite(values).all() for values in cached["all"]):
                cached.clear()
                raise NotComputable("The features are not all numbers.")
        return cached["all"]

    def labels() -> _Sets:
        return subject.labels, train.labels[some], held_out.labels[others]

    def of_held_out_classes(sets: _Sets) -> _Sets:
        """Rows of the classes that are held out: like is compared with like."""
        made, known, others = (
            values[np.isin(own, held_out.labels)]
            for values, own in zip(sets, labels(), strict=True)
        )
        return made, known, others

    return {
        "fidelity": lambda: _fidelity(subject, effort, device, check),
        "distance": lambda: _distance(
            of_held_out_classes(features()), of_held_out_classes(labels()), subject.class_names
        ),
        "coverage": lambda: _coverage(of_held_out_classes(features())),
        "copying": lambda: _copying(subject, features(), held_out.labels[others]),
    }


def _need_classes(real: LabelledImages) -> None:
    if len(np.unique(real.labels)) < FEWEST_IMAGES:
        raise NotComputable("The real images are all of one class; nothing can learn from them.")


def _judge_config(real: LabelledImages) -> JudgeConfig:
    return JudgeConfig(image_shape=real.image_shape, class_count=len(real.class_names))


def spread_out(count: int, most: int) -> np.ndarray:
    """Rows spread evenly over so many, at most `most` of them."""
    return np.unique(np.linspace(0, max(0, count - 1), min(count, most)).astype(np.int64))


def _fidelity(
    subject: Subject, effort: Effort, device: torch.device, check: Callable[[], None]
) -> dict[str, Any]:
    train, held_out = subject.train, subject.held_out
    _need_classes(train)
    network = new_evaluator(train.image_shape, len(train.class_names))
    learning = Learning(effort.evaluator_steps, effort.batch_size)
    parts = [Part(train.images, train.labels, affine=True)]
    learn(network, parts, learning, seed=EVALUATOR_SEED, device=device, check=check)

    def told(images: np.ndarray, labels: np.ndarray) -> dict[str, Any]:
        found = predicted(network, images, device).argmax(axis=1)
        return _told_fidelity(
            fidelity(labels, found, len(train.class_names)), train.class_names, len(labels)
        )

    return {
        **told(subject.images, subject.labels),
        "evaluator": told(held_out.images, held_out.labels),
    }


def _told_fidelity(found: Fidelity, names: tuple[str, ...], count: int) -> dict[str, Any]:
    low, high = share_interval(found.agreement, count)
    return {
        "agreement": _rounded(found.agreement),
        "low": _rounded(low),
        "high": _rounded(high),
        "balanced": _rounded(found.balanced),
        "per_class": {
            name: _rounded(float(value))
            for name, value in zip(names, found.per_class, strict=True)
            if np.isfinite(value)
        },
        "confusion": found.confusion.tolist(),
    }


def _distance(features: _Sets, labels: _Sets, names: tuple[str, ...]) -> dict[str, Any]:
    """Of generated images to real ones; the floor is what as many held-out real ones come to."""
    made, known, others = features
    size = min(len(made), len(others))
    if min(size, len(known)) <= made.shape[1]:
        raise NotComputable(
            f"{min(size, len(known)):,} images are too few for a covariance of {made.shape[1]} "
            "features."
        )
    a, b = made[spread_out(len(made), size)], others[spread_out(len(others), size)]
    found: dict[str, Any] = {
        "features": made.shape[1],
        "images": size,
        "frechet": _told(frechet(a, known)) | {"floor": _told(frechet(b, known))},
        "kernel": _told(kernel(a, known)) | {"floor": _told(kernel(b, known))},
        "per_class": {},
    }
    for label in np.unique(labels[0]).tolist():
        one, two, three = (
            values[own == label] for values, own in zip(features, labels, strict=True)
        )
        least = min(len(one), len(three))
        if min(least, len(two)) <= FEWEST_IMAGES:
            continue
        one, three = one[spread_out(len(one), least)], three[spread_out(len(three), least)]
        entry: dict[str, Any] = {
            "images": least,
            "kernel": _told(kernel(one, two)) | {"floor": _told(kernel(three, two))},
        }
        if min(least, len(two)) > made.shape[1]:
            entry["frechet"] = _told(frechet(one, two)) | {"floor": _told(frechet(three, two))}
        found["per_class"][names[label]] = entry
    return found


def _coverage(features: _Sets) -> dict[str, Any]:
    made, known, others = features
    size = min(len(made), len(others))
    if min(size, len(known)) <= NEIGHBOURS:
        raise NotComputable(
            f"{min(size, len(known)):,} images are too few to have {NEIGHBOURS} neighbours each."
        )
    a, b = made[spread_out(len(made), size)], others[spread_out(len(others), size)]

    def told(points: np.ndarray) -> dict[str, float | None]:
        return {name: _rounded(value) for name, value in asdict(prdc(known, points)).items()}

    return {"neighbours": NEIGHBOURS, "images": size, **told(a), "held_out": told(b)}


def _copying(subject: Subject, features: _Sets, held_out_labels: np.ndarray) -> dict[str, Any]:
    train = subject.train
    if min(len(features[1]), len(features[2])) < FEWEST_IMAGES:
        raise NotComputable("There are too few real images to compare with.")
    index = index_of(
        train.images.__getitem__, train.labels, len(train.class_names), per_class=len(train)
    )
    found = look_for_copies(subject.images, subject.labels, index, features, held_out_labels)
    return _told_copying(found, subject, index)


def _told_copying(found: Copying, subject: Subject, index: TrainingIndex) -> dict[str, Any]:
    names = subject.class_names
    held = index.copies(subject.held_out.images, subject.held_out.labels)
    edges = np.linspace(
        0.0, float(np.quantile(np.concatenate([found.nearest, found.held_out]), 0.999)) or 1.0,
        HISTOGRAM_BINS + 1,
    )  # fmt: skip
    return {
        "authenticity": _rounded(found.authenticity),
        "copying_z": {
            "all" if label < 0 else names[label]: _rounded(value, 2)
            for label, value in found.copying_z.items()
        },
        "copies": int(found.copies.sum()),
        "copy_rate": _rounded(float(found.copies.mean())),
        "held_out_copy_rate": _rounded(float(held.mean())),
        "exact_duplicates": int(found.exact_duplicates.sum()),
        "near_duplicates": int(found.near_duplicates.sum()),
        "nearest": {
            "median": _rounded(float(np.median(found.nearest))),
            "held_out_median": _rounded(float(np.median(found.held_out))),
            "edges": [round(float(edge), 4) for edge in edges],
            "generated": np.histogram(found.nearest, edges)[0].tolist(),
            "held_out": np.histogram(found.held_out, edges)[0].tolist(),
        },
        "pairs": [
            {
                "image": number,
                "training_row": row,
                "label": names[subject.labels[number]],
                "distance": round(apart, 2),
                "generated_png": _png(subject.images[number]),
                "real_png": _png(subject.train.images[row]),
            }
            for number, row, apart in found.pairs
        ],
    }


def _png(image: np.ndarray) -> str:
    return base64.b64encode(encode_png(image[None])[0]).decode()


def _run_arm(
    arm: str,
    seed: int,
    subject: Subject,
    effort: Effort,
    device: torch.device,
    check: Callable[[], None],
) -> dict[str, Any]:
    """Which held-out images a classifier gets wrong that learnt from the arm's images."""
    train, held_out = subject.train, subject.held_out
    if arm in {REAL_PLAIN, ALONE} and _lacking(subject):
        return {"wrong": []}
    real = Part(train.images, train.labels, balanced=True)
    made = Part(subject.images, subject.labels, balanced=True)
    parts = {
        REAL: [replace(real, affine=True)],
        BOTH: [
            replace(real, affine=True, share=1 - SYNTHETIC_SHARE),
            replace(made, share=SYNTHETIC_SHARE),
        ],
        REAL_PLAIN: [real],
        ALONE: [made],
    }[arm]
    network = new_evaluator(train.image_shape, len(train.class_names), EVALUATOR_SEED + 1 + seed)
    learning = Learning(effort.learning_steps, effort.batch_size)
    learn(network, parts, learning, seed=seed, device=device, check=check)
    found = predicted(network, held_out.images, device).argmax(axis=1)
    return {"wrong": np.flatnonzero(found != held_out.labels).tolist()}


def assembled(
    steps: Mapping[str, Mapping[str, Any]], subject: Subject, effort: Effort
) -> dict[str, Any]:
    """The report, from what all steps gave."""
    measured = steps[MEASURE]
    parts = dict(measured["parts"])
    missing = list(measured["not_computed"])
    gain = None
    try:
        parts["usefulness"], gain = _usefulness(steps, subject, effort)
    except NotComputable as reason:
        missing.append({"part": "usefulness", "reason": str(reason)})
    if lacking := _lacking(subject):
        why = f"{lacking} of the real labels have no image here; nothing can learn them alone."
        missing.append({"part": "usefulness.synthetic_alone", "reason": why})
    drawn = verdict(_findings(parts, gain, subject))
    return {
        "schema_version": SCHEMA_VERSION,
        "classes": list(subject.class_names),
        "effort": asdict(effort),
        **parts,
        "not_computed": missing,
        "verdict": {
            "outcome": drawn.outcome,
            "sentence": drawn.sentence,
            "advice": list(drawn.advice),
        },
    }


def _usefulness(
    steps: Mapping[str, Mapping[str, Any]], subject: Subject, effort: Effort
) -> tuple[dict[str, Any], Difference]:
    labels = subject.held_out.labels
    if len(np.unique(labels)) < FEWEST_IMAGES:
        raise NotComputable("The held-out real images are all of one class.")
    _need_classes(subject.train)
    right = {arm: list(_right(arm, steps, len(labels), effort)) for arm in ARMS}
    gain = difference(right[BOTH], right[REAL], labels)
    alone = None
    if not _lacking(subject):
        alone = _told_difference(difference(right[ALONE], right[REAL_PLAIN], labels))
    shown = ARMS if alone else (REAL, BOTH)
    told = {
        "steps": effort.learning_steps,
        "seeds": effort.seeds,
        "synthetic_share": SYNTHETIC_SHARE,
        "held_out": len(labels),
        "arms": {
            arm: [_rounded(balanced_accuracy(each, labels)) for each in found]
            for arm, found in right.items()
            if arm in shown
        },
        "gain": _told_difference(gain),
        "synthetic_alone": alone,
    }
    return told, gain


def _lacking(subject: Subject) -> int:
    """Labels of the held-out images that no generated image has."""
    return len(np.setdiff1d(subject.held_out.labels, subject.labels))


def _right(
    arm: str, steps: Mapping[str, Mapping[str, Any]], count: int, effort: Effort
) -> Iterator[np.ndarray]:
    for seed in range(effort.seeds):
        right = np.ones(count, dtype=bool)
        right[steps[f"{arm}/{seed}"]["wrong"]] = False
        yield right


def _findings(parts: Mapping[str, Any], gain: Difference | None, subject: Subject) -> Findings:
    label_gap = coverage_share = copy_rate = copying_z = None
    if (own := parts.get("fidelity")) is not None:
        label_gap = _label_gap(own)
    if (own := parts.get("coverage")) is not None and own["held_out"]["coverage"]:
        coverage_share = own["coverage"] / own["held_out"]["coverage"]
    if (own := parts.get("copying")) is not None:
        copy_rate = max(0.0, own["copy_rate"] - own["held_out_copy_rate"])
        copying_z = own["copying_z"]["all"]
    return Findings(
        gain=gain,
        label_gap=label_gap,
        coverage_share=coverage_share,
        copy_rate=copy_rate,
        copying_z=copying_z,
        gated=subject.gated,
        sampler=subject.sampler,
    )


def _label_gap(own: Mapping[str, Any]) -> float | None:
    """How much less often labels are right than real ones, over the labels that both have."""
    made, real = own["per_class"], own["evaluator"]["per_class"]
    both = [name for name in made if name in real]
    if not both:
        return None
    return float(np.mean([real[name] - made[name] for name in both]))


def _told(found: Measured) -> dict[str, float | None]:
    return {name: _rounded(value, 5) for name, value in asdict(found).items()}


def _told_difference(found: Difference) -> dict[str, Any]:
    return {
        "value": _rounded(found.value, 5),
        "low": _rounded(found.low, 5),
        "high": _rounded(found.high, 5),
        "per_seed": [_rounded(value, 5) for value in found.per_seed],
    }


def _rounded(value: float | None, digits: int = 4) -> float | None:
    """The value for JSON, which has no word for what is no number."""
    return None if value is None or not np.isfinite(value) else round(float(value), digits)
