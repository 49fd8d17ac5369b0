"""The verdict: what the figures come to, in a sentence, and what to do about it."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

from datagen.quality.usefulness import Difference

Outcome = Literal["helps", "no_measurable_difference", "hurts", "unknown"]
# Labels are wrong if the evaluator agrees with so much less of them than of real ones.
LABEL_GAP = 0.02
# Images vary too little if they cover less of the real ones than this share of what real ones do.
COVERAGE_SHARE = 0.7
COPY_RATE = 0.01
# A z below this is no chance: the images are nearer to the training set than held-out ones.
COPYING_Z = -5.0
# Those that cover most of what is real.
VARIED_SAMPLERS = ("neighbour", "interpolate", "density")


@dataclass(frozen=True)
class Findings:
    """The figures that a verdict is drawn from; None where one could not be computed.

    Attributes:
        gain: of learning from real and synthetic images over learning from real ones.
        label_gap: by how much the evaluator agrees less with the labels than with real ones.
        coverage_share: coverage over that of as many held-out real images.
        copy_rate: share of images that are copies.
        copying_z: C_T over all classes.
        gated: whether a gate was set.
        sampler: how latents were drawn.
    """

    gain: Difference | None
    label_gap: float | None
    coverage_share: float | None
    copy_rate: float | None
    copying_z: float | None
    gated: bool
    sampler: str


@dataclass(frozen=True)
class Verdict:
    """What it comes to.

    Attributes:
        outcome: drawn from the interval of the gain, and from nothing else.
        sentence: the same for people.
        advice: what to do, most important first.
    """

    outcome: Outcome
    sentence: str
    advice: tuple[str, ...]


def verdict(findings: Findings) -> Verdict:
    """Draw the verdict. A figure that is no number counts as not computed."""
    outcome, sentence = _outcome(findings.gain)
    return Verdict(outcome, sentence, tuple(_advice(findings, outcome)))


def _outcome(gain: Difference | None) -> tuple[Outcome, str]:
    if gain is None or not all(map(math.isfinite, (gain.value, gain.low, gain.high))):
        return "unknown", (
            "Whether these images help is not known: the comparison could not be computed."
        )
    points = f"{abs(gain.value) * 100:.2f} points of balanced accuracy"
    interval = f"95% interval {gain.low * 100:+.2f} to {gain.high * 100:+.2f}"
    if gain.low > 0:
        return "helps", f"Training with these images helps, by {points} ({interval})."
    if gain.high < 0:
        return "hurts", f"Training with these images hurts, by {points} ({interval})."
    return "no_measurable_difference", (
        f"Training with these images makes no measurable difference "
        f"({gain.value * 100:+.2f} points, {interval})."
    )


def _advice(findings: Findings, outcome: Outcome) -> list[str]:
    advice = []
    if _is(findings.copy_rate, above=COPY_RATE) or _is(findings.copying_z, below=COPYING_Z):
        otherwise = "" if findings.sampler == "prior" else "use the sampler 'prior', "
        advice.append(
            "Images come too near to those that were learnt from: reject copies with the gate, "
            f"{otherwise}or train on more images."
        )
    if _is(findings.label_gap, above=LABEL_GAP):
        advice.append(
            "Labels are less often right than those of real images: "
            + ("raise the gate's `min_score`" if findings.gated else "set a gate")
            + ", lower the temperature, or train the model for longer."
        )
    if _is(findings.coverage_share, below=COVERAGE_SHARE):
        others = [f"'{name}'" for name in VARIED_SAMPLERS if name != findings.sampler]
        advice.append(
            f"Images vary less than real ones do: use another sampler ({' or '.join(others)}), "
            "raise the temperature, or lower the gate."
        )
    if outcome == "helps":
        advice.append("Use them, and see whether more images a class help further.")
    elif outcome == "hurts":
        advice.append("Do not train with them as they are.")
    elif outcome == "no_measurable_difference":
        advice.append(
            "More images of this kind will hardly change that; where real images are enough, none "
            "are needed."
            if not advice
            else "Mend that first; more images of this kind will hardly help."
        )
    return advice


def _is(value: float | None, *, above: float = -math.inf, below: float = math.inf) -> bool:
    """Whether a figure that is known lies beyond a bound."""
    if value is None or math.isnan(value):
        return False
    return value > above if below == math.inf else value < below
