"""Evaluation: what a trained model is worth, and how images are best drawn from it.

Everything is measured on real images that the model has not seen. Those held out for validation
decide which sampler is recommended, by what a classifier learns from its images; those of the test
split, where there is one, say how good that is.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from datagen.model.autoencoders import Autoencoder
from datagen.model.decoding import Decoder
from datagen.model.examples import Examples
from datagen.model.fit import held_out_elbo
from datagen.model.grain import Grain
from datagen.model.networks import count_parameters
from datagen.model.training_options import TrainingOptions
from datagen.model_quality import NOTES
from datagen.quality.judge import Judge, Scorer, accuracy
from datagen.quality.training_index import TrainingIndex
from datagen.quality.tstr import as_arrays
from datagen.schemas import STARTING_FROM_IMAGES, Gate, Recommended
from datagen.wording import listed
from datagen.work.reconstructions import reconstruction_error
from datagen.work.sampler_choice import (
    Classifiers,
    best_first,
    best_gate,
    choose_grain,
    compared,
    usable,
)
from datagen.work.sampler_measures import (
    LEAST_PASSED,
    EvaluationContext,
    Measured,
    coverage_of,
    measured_per_class,
)
from datagen.work.splits import Parts

# Up to so many times what guessing reaches, nothing has been learnt.
NEAR_GUESSING = 1.3


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
    context = EvaluationContext(
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
    why_not = parts.why_not_comparable
    if why_not is None and not context.steps:
        why_not = "the time budget had no room for it"
    is_compared = why_not is None
    classifiers = Classifiers.of(context, len(grains)) if is_compared else None
    if classifiers is not None and len(grains) > 1:
        choose_grain(context, classifiers, grains)
    found, accuracies = compared(context, classifiers)
    names = usable(found) or ["prior"]
    held_out = 0 if classifiers is None else classifiers.held_out
    samplers = best_first(names, accuracies, held_out)
    best = found[samplers[0]]
    gate = best.gate
    real = None
    if classifiers is not None:
        gate, accuracies[samplers[0]] = best_gate(best, gate, accuracies[samplers[0]], classifiers)
        real = classifiers.learn(*as_arrays(parts.train, measured_per_class(context)))
    elbo = held_out_elbo(model, parts.test, options.seed)
    coverage, coverage_of_real = coverage_of(best.sampling, context)
    chance = 1.0 / len(context.known)
    agreement, judge_accuracy = _mean(best.agreement), accuracy(judge, parts.test)
    near_guessing = _near_guessing(agreement, judge_accuracy, chance)
    notes = [] if near_guessing is None else [near_guessing]
    if why_not is not None:
        usual = "; the one that is recommended usually teaches best" if len(names) > 1 else ""
        notes.append(f"Samplers were not compared, because {why_not}{usual}.")
    # Where the judge gives the labels, a job asks for none of them.
    if model.config.is_conditional or best.sampling.sampler in STARTING_FROM_IMAGES:
        notes += _seldom_passing(best, gate, parts.class_names)
    strength = found["neighbour"].sampling.strength if "neighbour" in found else None
    others = {name: own.gate for name, own in found.items() if name != samplers[0]}
    recommended = Recommended(
        samplers=tuple(samplers),
        gate=gate,
        gates={name: other for name, other in others.items() if other != gate},
        strength=strength,
    )
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
        "judge_test_accuracy": _rounded(judge_accuracy, 5),
        "judge_agreement": _rounded(agreement, 5),
        "judge_agreement_per_class": [_rounded(value, 4) for value in best.agreement],
        "judge_agreement_by_sampler": {
            sampler: _rounded(_mean(own.agreement), 5) for sampler, own in found.items()
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
        "chance": round(chance, 5),
        NOTES: notes,
    }


def _near_guessing(
    agreement: float | None, judge_accuracy: float | None, chance: float
) -> str | None:
    """What a training has not come to: a judge, or images, that say something of their labels."""
    most = NEAR_GUESSING * chance
    if chance == 1.0:
        return None
    if judge_accuracy is not None and judge_accuracy < most:
        return (
            f"The judge is right for {judge_accuracy:.1%} of real images, where guessing would be "
            f"right for {chance:.1%}: what it says of generated ones means little; train longer."
        )
    if agreement is None or agreement >= most:
        return None
    return (
        f"The judge sees the requested label in {agreement:.1%} of generated images, where "
        f"guessing would be right for {chance:.1%}: they show next to nothing of it; train "
        "longer."
    )


def _seldom_passing(best: Measured, gate: Gate, class_names: Sequence[str]) -> list[str]:
    """What jobs may be short of: labels of whose images hardly any pass the recommended gate."""
    passed = best.passed(gate)
    short = [
        label
        for label in np.unique(best.labels).tolist()
        if passed[best.labels == label].mean() < LEAST_PASSED
    ]
    if not short:
        return []
    own = np.isin(best.labels, short)
    copies = f"{int((best.copied & own).sum()):,} of {int(own.sum()):,} were copies of real ones"
    why = f" ({copies})" if gate.reject_copies else ""
    less = (
        f"Less than {LEAST_PASSED:.0%} of the images of {listed([class_names[n] for n in short])} "
        f"from the sampler '{best.sampling.sampler}' passed its gate{why}"
    )
    return [f"{less}; jobs may be short of such labels."]


def _rounded(value: float | None, digits: int) -> float | None:
    """The value, or None where nothing was measured."""
    return None if value is None else round(value, digits)


def _mean(values: Sequence[float | None]) -> float | None:
    """Mean of what was measured, or None where nothing was."""
    known = [value for value in values if value is not None]
    return float(np.mean(known)) if known else None
