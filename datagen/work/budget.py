"""Time: how long an epoch of each stage takes, and how many fit into what a training may take."""

from __future__ import annotations

import copy
import math
import time
from collections.abc import Callable, Mapping
from collections.abc import Set as AbstractSet

import torch

from datagen.durations import LONGEST_BUDGET, rounded_up, spelled
from datagen.model.autoencoders import Autoencoder
from datagen.model.data import TrainingData
from datagen.model.fit import Fit
from datagen.model.flow_fit import FlowFit
from datagen.model.refinement import Refinement
from datagen.model.training import Stage
from datagen.model.training_options import TrainingOptions
from datagen.quality.judge import Judge, JudgeFit
from datagen.quality.perceptual import FeatureFit, PerceptualDistance
from datagen.quality.tstr import BATCH, LARGEST_SIDE
from datagen.work.sampler_choice import EVALUATION, PLANNED_CLASSIFIERS, PLANNED_SAMPLERS
from datagen.work.sampler_measures import PASSES

# The first steps allocate memory and choose algorithms. Where pictures are large, a step takes
# seconds, and one is enough.
WARM_UP_STEPS = 3
TIMED_STEPS = 5
ENOUGH_SECONDS = 1.0
FEW_TO_ENCODE = 64
# Images that are learnt from at least, however little time there is.
FEWEST_IMAGES = 1000
# What is left of a budget is for the looks at held-out images after every epoch.
SHARE_FOR_STAGES = 0.9
# Of a budget, for comparing samplers at the end; steps of a classifier that tell anything at all,
# and the share for those at most: beyond, nothing is compared.
SHARE_FOR_EVALUATION, FEWEST_STEPS, LARGEST_SHARE = 0.15, 20, 0.4
# Below this share of the generator's usual steps, images are expected to be soft.
ENOUGH_OF_USUAL = 0.25
# Below so many steps of the generator, smaller networks that take more of them teach more.
ENOUGH_STEPS = 6_000
# A training that is planned to take so many times its budget says so.
OVERRUN = 1.25
# Cost of generating an image, as a share of learning from one.
SHARE_OF_GENERATING = 0.3
# Of that: a judge is good after a while, and a generator takes all it can get.
SHARES = {
    "judge_epochs": 0.2,
    "feature_epochs": 0.05,
    "epochs": 0.5,
    "flow_epochs": 0.1,
    "refine_epochs": 0.2,
}
# By name, as a training's history has them.
STAGES = {
    "judge_epochs": JudgeFit.name,
    "feature_epochs": FeatureFit.name,
    "epochs": Fit.name,
    "flow_epochs": FlowFit.name,
    "refine_epochs": Refinement.name,
}
EPOCHS_OF = {stage: name for name, stage in STAGES.items()}


def measured_pace(
    model: Autoencoder,
    judge: Judge,
    data: TrainingData,
    options: TrainingOptions,
    *,
    is_compared: bool,
    check: Callable[[], None] = lambda: None,
) -> dict[str, float]:
    """Seconds that an epoch of each stage takes here; a few steps of each are timed, on copies.

    Args:
        model: what is to be trained.
        judge: its judge.
        data: what they learn from.
        options: how.
        is_compared: whether classifiers will compare samplers: images are held out for that.
        check: called before every step, which takes seconds on large pictures; raises to stop.
    """
    nothing = data.subset(torch.arange(0))
    perceptual = None
    if options.feature_weight:
        # As fast as what it will be, which is of the same network.
        perceptual = PerceptualDistance.of(copy.deepcopy(judge), data, options.seed)
    stages: list[Stage] = [
        JudgeFit(copy.deepcopy(judge), data, nothing, options),
        Fit(copy.deepcopy(model), data, nothing, options, perceptual),
    ]
    if model.flow is not None:
        # Its pace does not depend on the images, which would all have to be encoded first.
        few = data.subset(torch.arange(min(len(data), FEW_TO_ENCODE)))
        stages.append(FlowFit(copy.deepcopy(model), few, nothing, options))
    if options.refine_epochs:
        stages.append(Refinement(copy.deepcopy(model), data, nothing, options))
    pace = {stage.name: seconds_an_epoch(stage, check) for stage in stages}
    if perceptual is not None:
        pace[FeatureFit.name] = pace[JudgeFit.name]
    an_image = {stage.name: pace[stage.name] / images_an_epoch(stage) for stage in stages[:2]}
    # Classifiers look at pictures that are averaged down.
    smaller = min(1.0, LARGEST_SIDE**2 / math.prod(data.image_shape[1:]))
    learnt_from = PLANNED_CLASSIFIERS * BATCH * smaller * an_image[JudgeFit.name] * is_compared
    generated = PLANNED_SAMPLERS * BATCH / PASSES * SHARE_OF_GENERATING * an_image[Fit.name]
    return pace | {EVALUATION: learnt_from + generated}


def planned(
    budget: float, pace: Mapping[str, float], given: AbstractSet[str], options: TrainingOptions
) -> dict[str, int]:
    """Epochs of each stage, and steps of the evaluation, that fit into so many seconds.

    What is `given` stays, and is left out of the answer. A stage that is left out, and has no pace,
    gives its time to the others; so does a judge that has as many epochs as it takes to be good.
    """
    waiting = {name: SHARES[name] for name, stage in STAGES.items() if stage in pace}
    a_step, steps = pace.get(EVALUATION, 0.0), options.evaluation_steps
    if a_step and "evaluation_steps" not in given:
        steps = min(steps, max(FEWEST_STEPS, int(SHARE_FOR_EVALUATION * budget / a_step)))
        steps = steps if steps * a_step <= LARGEST_SHARE * budget else 0
    left = max(SHARE_FOR_STAGES * budget - steps * a_step, 0.0)
    plan = {"evaluation_steps": steps}
    for name, stage in STAGES.items():
        if stage not in pace:
            continue
        seconds = left * waiting[name] / sum(waiting.values())
        epochs = max(1, int(seconds / pace[stage]))
        most = {"judge_epochs": options.judge_epochs, "feature_epochs": options.feature_epochs}
        plan[name] = min(epochs, most.get(name, epochs))
        left -= plan[name] * pace[stage]
        del waiting[name]
    return {name: number for name, number in plan.items() if name not in given}


def images_for_one_pass(
    budget: float, pace: Mapping[str, float], given: AbstractSet[str], count: int
) -> int | None:
    """Of so many images, those that the fit has time to see once; None where it is all of them.

    More would be read for nothing, and one pass over all of them would take longer than the budget.
    """
    seen = max(FEWEST_IMAGES, int(count * _seconds_for_fit(budget, pace) / pace[Fit.name]))
    return None if "epochs" in given or seen >= count else seen


def has_enough_steps(pace: Mapping[str, float], options: TrainingOptions, count: int) -> bool:
    """Whether a time budget has room for so many steps of the fit that smaller networks, of which
    it would have room for more, are not worth it.

    Args:
        pace: seconds an epoch of each stage.
        options: with the time budget, and all that the recipe fills in.
        count: images that are learnt from.
    """  # noqa: D205 - one sentence
    if options.time_budget is None:
        return True
    epochs = _seconds_for_fit(options.time_budget, pace) / pace[Fit.name]
    return epochs * _steps(count, options.batch_size) >= ENOUGH_STEPS


def _seconds_for_fit(budget: float, pace: Mapping[str, float]) -> float:
    shares = sum(share for name, share in SHARES.items() if STAGES[name] in pace)
    return SHARE_FOR_STAGES * budget * SHARES["epochs"] / shares


def pace_of_fewer(pace: Mapping[str, float], share: float) -> dict[str, float]:
    """The pace where only a share of the images is learnt from; not all epochs are passes."""
    passes = {STAGES[name] for name in SHARES} - {FlowFit.name}
    return {name: value * (share if name in passes else 1.0) for name, value in pace.items()}


def seconds_of_all(pace: Mapping[str, float], options: TrainingOptions) -> float:
    """Seconds that a training takes from its first step to its end, held-out images included."""
    first = next(iter(STAGES.values()))
    epochs = options.judge_epochs * pace[first] + seconds_after(first, pace, options)
    return epochs / SHARE_FOR_STAGES


def budget_notes(
    pace: Mapping[str, float],
    planned_options: TrainingOptions,
    usual: TrainingOptions,
    count: int,
    *,
    has_ended: bool = False,
) -> list[str]:
    """What a user should know of a time budget; [] where it is enough.

    Args:
        pace: seconds an epoch of each stage, of the images that are learnt from.
        planned_options: what the budget came to.
        usual: what the recipe takes without a budget.
        count: images that there are.
        has_ended: whether the training is over, so that how long it takes is no estimate any more.
    """
    budget, learnt = planned_options.time_budget, planned_options.images or count
    if budget is None:
        return []
    notes = []
    steps = planned_options.epochs * _steps(learnt, planned_options.batch_size)
    usual_steps = usual.epochs * _steps(count, usual.batch_size)
    if steps < ENOUGH_OF_USUAL * usual_steps:
        needed = seconds_of_all(pace_of_fewer(pace, count / learnt), usual)
        notes.append(
            f"The time budget of {spelled(budget)} has room for {steps:,} of about "
            f"{usual_steps:,} steps of the generator on this machine, so expect soft images; "
            + (
                f"{rounded_up(needed)} would be enough."
                if needed <= LONGEST_BUDGET
                else f"even the longest budget, {spelled(LONGEST_BUDGET)}, would not be enough."
            )
        )
    expected = seconds_of_all(pace, planned_options)
    if expected > OVERRUN * budget and not has_ended:
        notes.append(
            f"The training takes about {rounded_up(expected)} on this machine, longer than its "
            f"time budget of {spelled(budget)}: each stage learns for one epoch at least."
        )
    return notes


def _steps(count: int, batch_size: int) -> int:
    """Steps of an epoch."""
    return max(1, count // min(batch_size, max(1, count)))


def seconds_after(stage: str, pace: Mapping[str, float], options: TrainingOptions) -> float:
    """Seconds that the stages after one will take, the evaluation with them."""
    later = list(STAGES.values())[list(STAGES.values()).index(stage) + 1 :]
    epochs: dict[str, int] = options.model_dump(include=set(STAGES))
    stages = sum(epochs[name] * pace.get(own, 0.0) for name, own in STAGES.items() if own in later)
    return stages + options.evaluation_steps * pace.get(EVALUATION, 0.0)


def seconds_an_epoch(stage: Stage, check: Callable[[], None] = lambda: None) -> float:
    """Seconds that an epoch of a stage takes now; a few of its steps are taken for that.

    `check` is called before each of them; it raises to stop.
    """
    stage.prepare()
    _seconds_a_step(stage, 0, WARM_UP_STEPS, check)
    return _seconds_a_step(stage, WARM_UP_STEPS, TIMED_STEPS, check) * stage.steps_per_epoch


def _seconds_a_step(stage: Stage, first: int, steps: int, check: Callable[[], None]) -> float:
    """Mean of so many steps, or of fewer where they take long."""
    began = time.perf_counter()
    for done in range(1, steps + 1):
        check()
        stage.step(first + done - 1)
        seconds = time.perf_counter() - began
        if seconds >= ENOUGH_SECONDS:
            break
    return seconds / done


def images_an_epoch(stage: Stage) -> int:
    """Images that an epoch of a stage learns from."""
    return stage.steps_per_epoch * stage.batch_size
