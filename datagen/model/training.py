"""The training loop: stages that can be stopped after any step and go on as if they had not been.

Randomness is counter-based here too: the noise of a step comes from (seed, stage, step) alone, so
weights, optimizer moments and the number of the step are the whole state of a training.
"""

from __future__ import annotations

import copy
import json
import math
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import torch
from safetensors import safe_open
from safetensors.torch import save_file
from torch import Tensor, nn

from datagen.errors import InvalidFile, TrainingDiverged
from datagen.model.autoencoders import Autoencoder
from datagen.model.checkpoint import read_tensors
from datagen.model.config import TrainingOptions
from datagen.model.devices import fast_precision
from datagen.model.networks import standard_noise
from datagen.model.objective import Objective, kl_weight, negative_elbo

STATE_KEY = "datagen-training"
WARM_UP = 0.3
TOLD_EVERY = 20
EVALUATION_BATCH = 1000
Numbers = dict[str, float]
# What a stage keeps for itself; the modules are for those that follow too.
_OF_A_STAGE = ("optimizer.", "average.", "best.")


def generator_at(seed: int, stage: str, step: int) -> torch.Generator:
    """The randomness of one step, from its counters alone."""
    words = [seed & 0xFFFFFFFF, seed >> 32, *stage.encode(), step]
    state = np.random.SeedSequence(words).generate_state(1, np.uint64)[0]
    return torch.Generator().manual_seed(int(state) >> 1)


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


@dataclass(frozen=True)
class TrainingData:
    """Images held whole as uint8 (N, C, H, W), with int64 labels (N,), on the training's device."""

    images: Tensor
    labels: Tensor

    def __len__(self) -> int:
        return len(self.images)

    def rows(self, numbers: Tensor) -> tuple[Tensor, Tensor]:
        """Images as floats in [0, 1] and labels of the numbered rows."""
        numbers = numbers.to(self.images.device)
        return self.images[numbers].float().div_(255.0), self.labels[numbers]


@dataclass
class Batches:
    """Which rows a step takes: every row once an epoch, in an order that the epoch determines.

    Where `labels` are given, classes are balanced: each row of an epoch is drawn with replacement,
    every class equally often.
    """

    count: int
    size: int
    seed: int
    stage: str
    labels: Tensor | None = None
    _shuffled: tuple[int, Tensor] | None = field(default=None, repr=False)

    @property
    def per_epoch(self) -> int:
        """Steps an epoch; rows that do not fill a batch wait for another epoch."""
        return max(1, self.count // self.size)

    def rows(self, step: int) -> Tensor:
        """Row numbers of a step, int64 of shape (size,)."""
        epoch, place = divmod(step, self.per_epoch)
        if self._shuffled is None or self._shuffled[0] != epoch:
            generator = generator_at(self.seed, self.stage + "-order", epoch)
            self._shuffled = epoch, self._order(generator)
        return self._shuffled[1][place * self.size : (place + 1) * self.size]

    def _order(self, generator: torch.Generator) -> Tensor:
        if self.labels is None:
            return torch.randperm(self.count, generator=generator)
        weights = 1.0 / self.labels.bincount()[self.labels].double()
        # Not multinomial, which takes 2**24 rows at most: places on the line of all weights.
        line = weights.cumsum(0)
        places = torch.rand(self.count, generator=generator, dtype=torch.float64) * line[-1]
        return torch.searchsorted(line, places).clamp(max=self.count - 1)


class Stage(Protocol):
    """One part of a training: so many steps on some modules with some optimizers."""

    name: str
    modules: dict[str, nn.Module]
    optimizers: dict[str, torch.optim.Optimizer]
    steps: int
    steps_per_epoch: int
    batch_size: int

    def step(self, number: int) -> dict[str, Tensor]:
        """Take a step; the terms that are worth showing, without gradients."""

    def end_epoch(self, history: list[dict[str, Any]]) -> Numbers:
        """What is measured at the end of an epoch; `history` is of the epochs before it."""

    def is_done(self, history: list[dict[str, Any]]) -> bool:
        """Whether to stop before the last step, now that the epochs of `history` have ended."""


@dataclass
class TrainingState:
    """Everything that a training needs to go on from a step: tensors and a small document."""

    stage: str = ""
    step: int = 0
    tensors: dict[str, Tensor] = field(default_factory=dict)
    history: list[dict[str, Any]] = field(default_factory=list)
    plan: dict[str, int] = field(default_factory=dict)

    def save(self, path: Path) -> None:
        """Write whole or not at all."""
        document = {
            "stage": self.stage,
            "step": self.step,
            "history": self.history,
            "plan": self.plan,
        }
        incoming = path.with_suffix(".incoming")
        tensors = {name: value.cpu().contiguous() for name, value in self.tensors.items()}
        save_file(tensors, incoming, metadata={STATE_KEY: json.dumps(document)})
        incoming.replace(path)

    @classmethod
    def load(cls, path: Path) -> TrainingState:
        """Read what `save` wrote. Raises InvalidFile."""
        tensors = read_tensors(path)
        with safe_open(path, framework="pt") as file:
            metadata = file.metadata() or {}
        if STATE_KEY not in metadata:
            raise InvalidFile(f"{path.name} holds no training.")
        try:
            document = json.loads(metadata[STATE_KEY])
            return cls(
                document["stage"],
                int(document["step"]),
                tensors,
                document["history"],
                document["plan"],
            )
        except (ValueError, KeyError, TypeError):
            raise InvalidFile(f"{path.name} holds a training that cannot be read.") from None

    def keep(self, stage: Stage, step: int) -> None:
        """Take over the modules and optimizers of a stage, as they are after a step."""
        self.stage, self.step = stage.name, step
        self.tensors = {
            name: value for name, value in self.tensors.items() if not name.startswith(_OF_A_STAGE)
        }
        for name, module in stage.modules.items():
            for part, value in module.state_dict().items():
                self.tensors[f"{name}.{part}"] = value.detach().clone()
        for name, optimizer in stage.optimizers.items():
            for number, moments in optimizer.state_dict()["state"].items():
                for part, value in moments.items():
                    self.tensors[f"optimizer.{name}.{number}.{part}"] = value.detach().clone()

    def restore_module(self, name: str, module: nn.Module) -> bool:
        """Give a module its weights back; False where none were kept.

        Raises:
            InvalidFile: what was kept is of another architecture.
        """
        prefix = f"{name}."
        weights = {
            key.removeprefix(prefix): value
            for key, value in self.tensors.items()
            if key.startswith(prefix)
        }
        try:
            if weights:
                module.load_state_dict(weights)
        except RuntimeError as error:
            raise InvalidFile(f"The training that was kept is of another {name}: {error}") from None
        return bool(weights)

    def restore(self, stage: Stage) -> None:
        """Give the modules and optimizers of a stage back what was kept of them."""
        for name, module in stage.modules.items():
            self.restore_module(name, module)
        for name, optimizer in stage.optimizers.items():
            prefix = f"optimizer.{name}."
            document = optimizer.state_dict()
            for key, value in self.tensors.items():
                if key.startswith(prefix):
                    number, part = key.removeprefix(prefix).split(".", 1)
                    document["state"].setdefault(int(number), {})[part] = value
            optimizer.load_state_dict(document)


@dataclass(frozen=True)
class Watch:
    """What a training listens to and tells.

    Attributes:
        on_progress: told every few steps, and at the end of each epoch.
        check: called at every step; raises to stop.
        deadline: time.monotonic() at which the slice ends.
    """

    on_progress: Callable[[dict[str, Any]], None] = lambda _progress: None
    check: Callable[[], None] = lambda: None
    deadline: float = math.inf


def run_stage(stage: Stage, state: TrainingState, watch: Watch) -> bool:
    """Run a stage to its end, or to the deadline; True where it has ended.

    Raises:
        TrainingDiverged: a term is no longer a number.
    """
    start = state.step if state.stage == stage.name else 0
    if start:
        state.restore(stage)
    pace = _Pace(stage, start)
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
            watch.on_progress(pace.progress(done) | numbers)
            if done % stage.steps_per_epoch == 0 and stage.is_done(state.history):
                break
        if time.monotonic() >= watch.deadline and done < stage.steps:
            state.keep(stage, done)
            return False
    state.keep(stage, stage.steps)
    return True


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
    began: float = field(default_factory=time.monotonic)

    def progress(self, done: int) -> dict[str, Any]:
        seconds = max(1e-9, time.monotonic() - self.began)
        rate = (done - self.start) / seconds
        return {
            "stage": self.stage.name,
            "epoch": -(-done // self.stage.steps_per_epoch),
            "epochs": self.stage.steps // self.stage.steps_per_epoch,
            "step": done,
            "steps": self.stage.steps,
            "images_per_second": round(rate * self.stage.batch_size, 1),
            "seconds_left": round((self.stage.steps - done) / rate, 1),
        }


class Fit:
    """Maximise the ELBO: AdamW, one cycle of the learning rate, the KL warmed up.

    Attributes:
        kept: the generator that the stage is for: its best epoch where `patience` is set, else the
            moving average of its weights where there is one, else the model itself.
    """

    name = "fit"

    def __init__(
        self,
        model: Autoencoder,
        data: TrainingData,
        held_out: TrainingData,
        options: TrainingOptions,
    ) -> None:
        self._model, self._data, self._held_out, self._options = model, data, held_out, options
        self.batch_size = min(options.batch_size, len(data))
        labels = data.labels.cpu() if options.balanced else None
        self._batches = Batches(len(data), self.batch_size, options.seed, self.name, labels)
        self.steps_per_epoch = self._batches.per_epoch
        self.steps = options.epochs * self.steps_per_epoch
        self.modules: dict[str, nn.Module] = {"generator": model}
        self._current = model
        if options.average:
            self.modules["average"] = self._current = copy.deepcopy(model)
        self.kept = self._current
        if options.patience and len(held_out):
            self.modules["best"] = self.kept = copy.deepcopy(model)
        self._optimizer = torch.optim.AdamW(model.parameters(), lr=options.learning_rate)
        self.optimizers: dict[str, torch.optim.Optimizer] = {"fit": self._optimizer}
        self._pieces = 1

    def step(self, number: int) -> dict[str, Tensor]:
        """One step of gradient descent on a batch."""
        self._model.train()
        image, label = self._data.rows(self._batches.rows(number))
        generator = generator_at(self._options.seed, self.name, number)
        noise = standard_noise(image.new_empty(len(image), self._options.latent_dim), generator)
        if self._options.label_dropout:
            left_out = torch.rand(len(label), generator=generator) < self._options.label_dropout
            label = label.masked_fill(left_out.to(label.device), self._model.config.class_count)
        for group in self._optimizer.param_groups:
            group["lr"] = one_cycle(number, self.steps, self._options.learning_rate)
        terms = self._backward(number, image, label, noise)
        nn.utils.clip_grad_norm_(self._model.parameters(), 200.0)
        self._optimizer.step()
        if self._current is not self._model:
            # The first weights, which have learnt little, are forgotten sooner.
            decay = min(self._options.average, (1 + number) / (10 + number))
            follow(self._current, self._model, decay)
        return terms

    def _backward(
        self, number: int, image: Tensor, label: Tensor, noise: Tensor
    ) -> dict[str, Tensor]:
        """Gradients of a batch; in more and smaller pieces where the device has not the memory."""
        while True:
            self._optimizer.zero_grad(set_to_none=True)
            sums: dict[str, Tensor] = {}
            try:
                for part in torch.arange(len(image)).chunk(self._pieces):
                    share = len(part) / len(image)
                    own = part.to(image.device)
                    terms = self._objective(number, image[own], label[own], noise[own])
                    (share * terms.loss).backward()  # type: ignore[no-untyped-call]  # torch has no type here
                    found = {
                        "reconstruction": terms.reconstruction,
                        "kl": terms.kl,
                        "total": terms.negative_elbo,
                    }
                    for name, value in found.items():
                        sums[name] = sums.get(name, 0.0) + share * value.detach()
            except torch.cuda.OutOfMemoryError:
                if self._pieces >= len(image):
                    raise
                torch.cuda.empty_cache()
                self._pieces *= 2
            else:
                return sums

    def _objective(self, number: int, image: Tensor, label: Tensor, noise: Tensor) -> Objective:
        options = self._options
        with fast_precision(image.device):
            likelihood, posterior = self._model(image, label, noise)
        weight = kl_weight(options.kl_schedule, number, self.steps, options.kl_warmup)
        return negative_elbo(
            likelihood,
            image,
            posterior,
            self._model.prior_of(label),
            beta=options.beta * weight,
            free_bits=options.free_bits,
            no_kl=options.no_kl,
            no_reconstruction=options.no_reconstruction,
        )

    def end_epoch(self, history: list[dict[str, Any]]) -> Numbers:
        """The same terms on images that are held out; keeps the weights if they are the best."""
        found = held_out_elbo(self._current, self._held_out, self._options.seed)
        if self.kept is not self._current and found["total"] < self._best(history)[0]:
            self.kept.load_state_dict(self._current.state_dict())
        return {f"validation_{name}": value for name, value in found.items()}

    def is_done(self, history: list[dict[str, Any]]) -> bool:
        """Whether the bound on held-out images has not got better for `patience` epochs."""
        if self.kept is self._current:
            return False
        worse_since: int = history[-1]["epoch"] - self._best(history)[1]
        return worse_since >= self._options.patience

    def _best(self, history: list[dict[str, Any]]) -> tuple[float, int]:
        """The best bound so far, and its epoch."""
        own = [entry for entry in history if entry["stage"] == self.name]
        totals = [(entry["validation_total"], entry["epoch"]) for entry in own]
        return min(totals, default=(math.inf, 0))


@torch.no_grad()
def follow(average: nn.Module, model: nn.Module, decay: float) -> None:
    """Move the weights of an average towards those of the model that it follows."""
    for mine, theirs in zip(average.parameters(), model.parameters(), strict=True):
        mine.lerp_(theirs, 1.0 - decay)


@torch.no_grad()
def held_out_elbo(model: Autoencoder, data: TrainingData, seed: int) -> Numbers:
    """Reconstruction, KL and total in nats an image, one latent sample each, with fixed noise.

    Empty where there are no images: nothing was measured then, and 0 would look like a result.
    """
    if not len(data):
        return {}
    model.eval()
    sums = torch.zeros(2, dtype=torch.float64)
    for start in range(0, len(data), EVALUATION_BATCH):
        rows = torch.arange(start, min(start + EVALUATION_BATCH, len(data)))
        image, label = data.rows(rows)
        generator = generator_at(seed, "evaluate", start)
        noise = standard_noise(image.new_empty(len(image), model.config.latent_dim), generator)
        likelihood, posterior = model(image, label, noise)
        terms = negative_elbo(likelihood, image, posterior, model.prior_of(label))
        sums += len(rows) * torch.stack([terms.reconstruction, terms.kl]).double().cpu()
    reconstruction, kl = (sums / len(data)).tolist()
    return {"reconstruction": reconstruction, "kl": kl, "total": reconstruction + kl}


@contextmanager
def progress_bar() -> Iterator[Callable[[dict[str, Any]], None]]:
    """A bar on the terminal that shows stage, epoch, reconstruction, KL and total."""
    from rich.progress import Progress  # noqa: PLC0415 - workers have no terminal

    with Progress() as bar:
        tasks: dict[str, Any] = {}

        def show(progress: dict[str, Any]) -> None:
            stage = progress["stage"]
            if stage not in tasks:
                tasks[stage] = bar.add_task(stage, total=progress["steps"])
            terms = " ".join(
                f"{name} {progress[name]:.2f}"
                for name in ("reconstruction", "kl", "total")
                if name in progress
            )
            text = f"{stage} {progress['epoch']}/{progress['epochs']} {terms}"
            bar.update(tasks[stage], completed=progress["step"], description=text)

        yield show
