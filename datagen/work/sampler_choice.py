"""Which sampler, strength, gate and grain are best: those whose images teach a classifier most."""

from __future__ import annotations

import math
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import groupby

import numpy as np

from datagen.model.autoencoders import Autoencoder
from datagen.model.examples import Examples
from datagen.model.grain import Grain
from datagen.model.samplers import STRENGTH, Sampling
from datagen.quality.tstr import BATCH, as_arrays, tstr
from datagen.schemas import Gate
from datagen.work.sampler_measures import EvaluationContext, Measured, measured

# What a training's progress calls it.
EVALUATION = "evaluation"
# What a training usually compares, for the plan of its time: samplers, and classifiers for them,
# for the grain, for the gate and for real images.
PLANNED_SAMPLERS, PLANNED_CLASSIFIERS = 8, 9
# Held-out images that a classifier is tested on: of each class, of all, and of each at least.
TESTED_PER_CLASS, TESTED, FEWEST_TESTED = 500, 4000, 8
# Strengths of `neighbour` with a flow that are tried: the farther from real images first, which
# gives fewer copies of them.
STRENGTHS = (STRENGTH, 0.4)


@dataclass(frozen=True)
class Accuracy:
    """Balanced accuracy of a classifier that has learnt from some images alone.

    Attributes:
        validation: on the images for validation, by which samplers are compared.
        test: on the images that the model is measured on.
    """

    validation: float
    test: float


@dataclass
class Classifiers:
    """Classifiers that learn from generated images, or from real ones, and the images that test.

    Attributes:
        context: the model that they are for, and what it is compared with.
        tests: images and labels of each set that they are tested on.
        planned: classifiers that will learn.
        learnt: what each way of drawing images came to, so that none is measured twice.
    """

    context: EvaluationContext
    tests: Sequence[tuple[np.ndarray, np.ndarray]]
    planned: int
    learnt: dict[tuple[Sampling, Grain], tuple[Measured, Accuracy]] = field(default_factory=dict)
    _done: int = 0
    _began: float = field(default_factory=time.monotonic)

    @classmethod
    def of(cls, context: EvaluationContext, grains: int) -> Classifiers:
        """For the images of a training, which may get one of so many grains."""
        sets = [context.parts.validation]
        if context.parts.test is not context.parts.validation:
            sets.append(context.parts.test)
        # One for each other grain, one through a gate that asks for no score, one of real images.
        planned = len(samplings(context)) + max(0, grains - 1) + 2
        per_class = min(TESTED_PER_CLASS, max(FEWEST_TESTED, TESTED // len(context.known)))
        return cls(context, [as_arrays(data, per_class) for data in sets], planned)

    @property
    def held_out(self) -> float:
        """Images for validation that they are tested on, as many of each class as are worth them.

        Each class counts the same in a balanced accuracy, so the rarest says how sure it is.
        """
        _, counts = np.unique(self.tests[0][1], return_counts=True)
        return float(len(counts) ** 2 / (1.0 / counts).sum())

    def compare(self, sampling: Sampling) -> tuple[Measured, Accuracy]:
        """What images of a sampler are like, and what is learnt from them through their gate."""
        key = (sampling, Grain.of(self.context.model.config))
        if key not in self.learnt:
            own = measured(sampling, self.context)
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
            self.context.model.config.class_count,
            steps=self.context.steps,
            seed=self.context.seed,
            device=self.context.train.device,
            check=self.context.check,
        )
        self._done += 1
        self._notify()
        return Accuracy(values[0], values[-1])

    def _notify(self) -> None:
        seconds = max(1e-9, time.monotonic() - self._began)
        steps, left = self.context.steps, max(0, self.planned - self._done)
        self.context.on_progress(
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
    samplers: Sequence[str], accuracies: Mapping[str, Accuracy], held_out: float
) -> list[str]:
    """The samplers, those from which a classifier learns most first.

    Within one standard error of the best, the given order counts: it was found on many more images
    than are held out of one dataset.

    Args:
        samplers: in the order that is usually right.
        accuracies: what was measured; empty where nothing could be.
        held_out: images that it was measured on, as many of each class.
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


def choose_grain(
    context: EvaluationContext, classifiers: Classifiers, grains: Sequence[Grain]
) -> None:
    """Give the model the grain with which its images teach most.

    By the images that are nearest to real ones: what they lack is the grain, and no more.
    """
    ways = samplings(context)
    sampling = ([way for way in ways if way.sampler == "neighbour"] or ways)[-1]
    learnt = {}
    for number, grain in enumerate(grains):
        context.model.config = grain.kept_in(context.model.config)
        learnt[str(number)] = classifiers.compare(sampling)[1]
    best = best_first(list(learnt), learnt, classifiers.held_out)[0]
    context.model.config = grains[int(best)].kept_in(context.model.config)


def compared(
    context: EvaluationContext, classifiers: Classifiers | None
) -> tuple[dict[str, Measured], dict[str, Accuracy]]:
    """What each sampler's images are like, and what a classifier learns from them.

    Where a sampler has several strengths, at the best of them; without classifiers at the first,
    and nothing is learnt.
    """
    found: dict[str, Measured] = {}
    accuracies: dict[str, Accuracy] = {}
    for sampler, ways in groupby(samplings(context), lambda way: way.sampler):
        if classifiers is None:
            found[sampler] = measured(next(ways), context)
            continue
        tried = {str(number): classifiers.compare(way) for number, way in enumerate(ways)}
        learnt = {number: accuracy for number, (_, accuracy) in tried.items()}
        names = usable({number: own for number, (own, _) in tried.items()})
        best = best_first(names or ["0"], learnt, classifiers.held_out)[0]
        found[sampler], accuracies[sampler] = tried[best]
    return found, accuracies


def usable(found: Mapping[str, Measured]) -> list[str]:
    """Those that are usable; where none is, for want of one label, those with few copies in all."""
    names = [name for name, own in found.items() if own.is_usable]
    return names or [name for name, own in found.items() if own.has_few_copies]


def best_gate(
    best: Measured, gate: Gate, gated: Accuracy, classifiers: Classifiers
) -> tuple[Gate, Accuracy]:
    """The gate whose images a classifier learns more from: with a least score, or without one.

    The judge is sure of the easy images; the others may be what a classifier needs.
    """
    if not gate.min_score:
        classifiers.planned -= 1
        return gate, gated
    no_score = gate.model_copy(update={"min_score": 0.0})
    again = measured(best.sampling, classifiers.context)
    learnt = {"gated": gated, "free": classifiers.learn_through(no_score, again)}
    is_gated = best_first(["gated", "free"], learnt, classifiers.held_out)[0] == "gated"
    return (gate, gated) if is_gated else (no_score, learnt["free"])


def samplings(context: EvaluationContext) -> list[Sampling]:
    """The samplers, and each strength of those that have several."""
    with_strengths = context.model.flow is not None
    return [
        Sampling(sampler, strength=strength)
        for sampler in _samplers(context.model, context.examples)
        for strength in (STRENGTHS if sampler == "neighbour" and with_strengths else (None,))
    ]


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
