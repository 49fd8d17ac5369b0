"""The training loop: stages that can be stopped after any step and go on as if they had not been.

Randomness is counter-based here too: the noise of a step comes from (seed, stage, step) alone, so
weights, optimizer moments and the number of the step are the whole state of a training.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Protocol

from torch import Tensor

from datagen.errors import TrainingDiverged
from datagen.model.state import Kept, TrainingState

WARM_UP = 0.3
RISING_STEPS = 50
TOLD_EVERY = 20
# A slice lasts at least so many times as long as it took to prepare for it.
PREPARATIONS = 2.0
# Epochs that progress tells of, so that whoever comes late sees the curves too.
MOST_TOLD = 500
Numbers = dict[str, float]


def one_cycle(step: int, steps: int, peak: float) -> float:
    """Learning rate of a step: up along a cosine for the first third, then down to almost nothing.

    Source: Smith and Topin, "Super-convergence", 2018.
    """
    position = step / max(1, steps)
    if position < WARM_UP:
        share = 0.5 - 0.5 * math.cos(math.pi * position / WARM_UP)
        return peak * (0.04 + 0.96 * share)
    share = 0.5 + 0.5 * math.cos(math.pi * (position - WARM_UP) / (1 - WARM_UP))
    return peak * max(share, 1e-4)


def trapezoid(step: int, steps: int, peak: float, hold: float) -> float:
    """Learning rate of a step: up over the first few, level for a share of them, then down.

    Source: Zhai, Kolesnikov, Houlsby and Beyer, "Scaling vision transformers", 2021.
    """
    rising = min(1.0, (step + 1) / min(RISING_STEPS, max(1, steps)))
    position = step / max(1, steps)
    falling = 1.0 if position < hold else max(0.01, (1.0 - position) / (1.0 - hold))
    return peak * rising * falling


class Stage(Kept, Protocol):
    """One part of a training: so many steps on some modules with some optimizers."""

    steps: int
    steps_per_epoch: int
    batch_size: int

    def prepare(self) -> None:
        """Compute what the steps need and the state does not hold; called before each slice."""

    def step(self, number: int) -> dict[str, Tensor]:
        """Take a step; the terms that are worth showing, without gradients."""

    def end_epoch(self, history: list[dict[str, Any]]) -> Numbers:
        """What is measured at the end of an epoch; `history` is of the epochs before it."""

    def is_done(self, history: list[dict[str, Any]]) -> bool:
        """Whether to stop before the last step, now that the epochs of `history` have ended."""


@dataclass(frozen=True)
class Watch:
    """What a training listens to and tells.

    Attributes:
        on_progress: told every few steps, and at the end of each epoch.
        check: called at every step; raises to stop.
        deadline: time.monotonic() at which the slice ends.
        gives_way: asked at every step; the slice ends where it says so.
    """

    on_progress: Callable[[dict[str, Any]], None] = lambda _progress: None
    check: Callable[[], None] = lambda: None
    deadline: float = math.inf
    gives_way: Callable[[], bool] = lambda: False

    def is_over(self) -> bool:
        """Whether the slice ends."""
        return time.monotonic() >= self.deadline or self.gives_way()


def run_stage(stage: Stage, state: TrainingState, watch: Watch, later_seconds: float = 0.0) -> bool:
    """Run a stage to its end, or to the deadline; True where it has ended.

    Args:
        stage: what to run.
        state: where it goes on from, and where its end is kept.
        watch: what it listens to and tells.
        later_seconds: what the stages after it will take, for the time that is left.

    Raises:
        TrainingDiverged: a term is no longer a number.
    """
    start = state.step if state.stage == stage.name else 0
    if start:
        state.restore(stage)
    pace = _Pace(stage, start, later_seconds, time.monotonic())
    stage.prepare()
    prepared = pace.seconds
    for number in range(start, stage.steps):
        watch.check()
        terms = stage.step(number)
        done = number + 1
        if done % TOLD_EVERY == 0 or done % stage.steps_per_epoch == 0:
            numbers = _finite(stage, done, {name: float(value) for name, value in terms.items()})
            if done % stage.steps_per_epoch == 0:
                numbers |= _finite(stage, done, stage.end_epoch(state.history))
                epoch = done // stage.steps_per_epoch
                state.history.append({"stage": stage.name, "epoch": epoch, **numbers})
            told = {"history": state.history[-MOST_TOLD:]}
            watch.on_progress(pace.progress(done) | _latest(stage, state) | numbers | told)
            if done % stage.steps_per_epoch == 0 and stage.is_done(state.history):
                break
        # A slice that only prepares, and the next one again, would come to nothing.
        if done < stage.steps and pace.seconds >= PREPARATIONS * prepared and watch.is_over():
            state.keep(stage, done)
            return False
    state.keep(stage, stage.steps)
    return True


def _latest(stage: Stage, state: TrainingState) -> Numbers:
    """What was last measured on held-out images, shown until it is measured again."""
    last = state.history[-1] if state.history else {}
    if last.get("stage") != stage.name:
        return {}
    return {name: value for name, value in last.items() if name.startswith("validation_")}


def _finite(stage: Stage, step: int, numbers: Numbers) -> Numbers:
    for name, value in numbers.items():
        if not math.isfinite(value):
            raise TrainingDiverged(
                f"The {name} was {value} at step {step} of {stage.name}; "
                "try a smaller learning rate or another seed."
            )
    return numbers


@dataclass
class _Pace:
    stage: Stage
    start: int
    later_seconds: float
    began: float

    @property
    def seconds(self) -> float:
        """Since the slice began."""
        return max(1e-9, time.monotonic() - self.began)

    def progress(self, done: int) -> dict[str, Any]:
        rate = (done - self.start) / self.seconds
        return {
            "stage": self.stage.name,
            "epoch": -(-done // self.stage.steps_per_epoch),
            "epochs": self.stage.steps // self.stage.steps_per_epoch,
            "step": done,
            "steps": self.stage.steps,
            "images_per_second": round(rate * self.stage.batch_size, 1),
            "seconds_left": round((self.stage.steps - done) / rate + self.later_seconds, 1),
        }
