"""Time budgets: how many epochs of each stage fit into the time that a training may take."""

from __future__ import annotations

import copy
import time
from collections.abc import Set as AbstractSet

from datagen.model.autoencoders import Autoencoder
from datagen.model.config import TrainingOptions
from datagen.model.refinement import Refinement
from datagen.model.training import Fit, Stage, TrainingData
from datagen.quality.judge import Judge, JudgeFit

# The first steps allocate memory and choose algorithms.
WARM_UP_STEPS = 3
TIMED_STEPS = 5
# Of the time: a judge is good after a while, and a generator takes all it can get. What is left is
# for the looks at held-out images after every epoch.
SHARES = {"judge_epochs": 0.2, "epochs": 0.5, "refine_epochs": 0.2}


def planned_epochs(
    model: Autoencoder,
    judge: Judge,
    data: TrainingData,
    options: TrainingOptions,
    given: AbstractSet[str],
) -> dict[str, int]:
    """Epochs of each stage that fit into `options.time_budget`, but for those that are `given`.

    A few steps of each stage are timed, on copies; a stage that is left out gives its time to the
    others.
    """
    skipped = {"refine_epochs"} if options.refine_epochs == 0 else set()
    open_stages = [name for name in SHARES if name not in given and name not in skipped]
    whole = sum(SHARES[name] for name in SHARES if name not in skipped)
    nothing = TrainingData(data.images[:0], data.labels[:0])
    stages: dict[str, Stage] = {
        "judge_epochs": JudgeFit(copy.deepcopy(judge), data, nothing, options),
        "epochs": Fit(copy.deepcopy(model), data, nothing, options),
    }
    if "refine_epochs" in open_stages:
        stages["refine_epochs"] = Refinement(copy.deepcopy(model), data, nothing, options)
    plan = {}
    for name in open_stages:
        share = SHARES[name] / whole * sum(SHARES.values())
        epoch = _seconds_a_step(stages[name]) * stages[name].steps_per_epoch
        plan[name] = max(1, int(share * (options.time_budget or 0.0) / epoch))
    return plan


def _seconds_a_step(stage: Stage) -> float:
    for number in range(WARM_UP_STEPS):
        stage.step(number)
    began = time.perf_counter()
    for number in range(TIMED_STEPS):
        stage.step(WARM_UP_STEPS + number)
    return (time.perf_counter() - began) / TIMED_STEPS
