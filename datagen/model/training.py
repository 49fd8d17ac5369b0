"""The training loop: stages that can be stopped after any step and go on as if they had not been.

Randomness is counter-based here too: the noise of a step comes from (seed, stage, step) alone, so
weights, optimizer moments and the number of the step are the whole state of a training.
"""

from __future__ import annotations

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
from datagen.model.autoencoders import CVAE
from datagen.model.checkpoint import read_tensors
from datagen.model.config import TrainingOptions
from datagen.model.devices import fast_precision
from datagen.model.networks import standard_noise
from datagen.model.objective import negative_elbo

STATE_KEY = "datagen-training"
WARM_UP = 0.3
TOLD_EVERY = 20
EVALUATION_BATCH = 1000
Numbers = dict[str, float]


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
    """Which rows a step takes: every row once an epoch, in an order that the epoch determines."""

    count: int
    size: int
    seed: int
    stage: str
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
            self._shuffled = epoch, torch.randperm(self.count, generator=generator)
        return self._shuffled[1][place * self.size : (place + 1) * self.size]


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

    def end_epoch(self) -> Numbers:
        """What is measured at the end of an epoch."""


@dataclass
class TrainingState:
    """Everything that a training needs to go on from a step: tensors and a small document."""

    stage: str = ""
    step: int = 0
    tensors: dict[str, Tensor] = field(default_factory=dict)
    history: list[dict[str, Any]] = field(default_factory=list)

    def save(self, path: Path) -> None:
        """Write whole or not at all."""
        document = {"stage": self.stage, "step": self.step, "history": self.history}
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
            return cls(document["stage"], int(document["step"]), tensors, document["history"])
        except (ValueError, KeyError, TypeError):
            raise InvalidFile(f"{path.name} holds a training that cannot be read.") from None

    def keep(self, stage: Stage, step: int) -> None:
        """Take over the modules and optimizers of a stage, as they are after a step."""
        self.stage, self.step = stage.name, step
        self.tensors = {
            name: value for name, value in self.tensors.items() if not name.startswith("optimizer.")
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
                numbers |= _finite(stage, done, stage.end_epoch())
                epoch = done // stage.steps_per_epoch
                state.history.append({"stage": stage.name, "epoch": epoch, **numbers})
            watch.on_progress(pace.progress(done) | numbers)
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
    """Maximise the ELBO: AdamW, one cycle of the learning rate, the KL warmed up."""

    name = "fit"

    def __init__(
        self, model: CVAE, data: TrainingData, held_out: TrainingData, options: TrainingOptions
    ) -> None:
        self._model, self._data, self._held_out, self._options = model, data, held_out, options
        self.batch_size = min(options.batch_size, len(data))
        self._batches = Batches(len(data), self.batch_size, options.seed, self.name)
        self.steps_per_epoch = self._batches.per_epoch
        self.steps = options.epochs * self.steps_per_epoch
        self.modules: dict[str, nn.Module] = {"generator": model}
        self._optimizer = torch.optim.AdamW(model.parameters(), lr=options.learning_rate)
        self.optimizers: dict[str, torch.optim.Optimizer] = {"fit": self._optimizer}

    def step(self, number: int) -> dict[str, Tensor]:
        """One step of gradient descent on a batch."""
        self._model.train()
        image, label = self._data.rows(self._batches.rows(number))
        generator = generator_at(self._options.seed, self.name, number)
        noise = standard_noise(image.new_empty(len(image), self._options.latent_dim), generator)
        with fast_precision(image.device):
            likelihood, posterior = self._model(image, label, noise)
        terms = negative_elbo(
            likelihood,
            image,
            posterior,
            beta=self._options.beta * self._warmed_up(number),
            no_kl=self._options.no_kl,
            no_reconstruction=self._options.no_reconstruction,
        )
        for group in self._optimizer.param_groups:
            group["lr"] = one_cycle(number, self.steps, self._options.learning_rate)
        self._optimizer.zero_grad(set_to_none=True)
        terms.loss.backward()  # type: ignore[no-untyped-call]  # torch has no type here
        nn.utils.clip_grad_norm_(self._model.parameters(), 200.0)
        self._optimizer.step()
        return {
            "reconstruction": terms.reconstruction.detach(),
            "kl": terms.kl.detach(),
            "total": terms.negative_elbo.detach(),
        }

    def _warmed_up(self, number: int) -> float:
        steps = self._options.kl_warmup * self.steps
        return 1.0 if number >= steps else number / steps

    def end_epoch(self) -> Numbers:
        """The same terms on images that are held out."""
        found = held_out_elbo(self._model, self._held_out, self._options.seed)
        return {f"validation_{name}": value for name, value in found.items()}


@torch.no_grad()
def held_out_elbo(model: CVAE, data: TrainingData, seed: int) -> Numbers:
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
        terms = negative_elbo(likelihood, image, posterior)
        sums += len(rows) * torch.stack([terms.reconstruction, terms.kl]).double().cpu()
    reconstruction, kl = (sums / len(data)).tolist()
    return {"reconstruction": reconstruction, "kl": kl, "total": reconstruction + kl}


@torch.no_grad()
def fit_prior(model: CVAE, data: TrainingData, seed: int) -> None:
    """Fit the model's prior of each class: one normal to the class's posterior samples.

    A class with fewer images than dimensions keeps a share of N(0, I) in its covariance.
    """
    model.eval()
    samples = []
    for start in range(0, len(data), EVALUATION_BATCH):
        image, label = data.rows(torch.arange(start, min(start + EVALUATION_BATCH, len(data))))
        generator = generator_at(seed, "prior", start)
        noise = standard_noise(image.new_empty(len(image), model.config.latent_dim), generator)
        samples.append(model.encode(image, label).sample(noise).double().cpu())
    latents, labels = torch.cat(samples), data.labels.cpu()
    identity = torch.eye(model.config.latent_dim, dtype=torch.float64)
    for number in range(model.config.class_count):
        own = latents[labels == number]
        if len(own) == 0:
            continue
        mean = own.mean(dim=0)
        covariance = (own - mean).T @ (own - mean) / len(own)
        # Shrunk towards N(0, I) as if that had been seen once a dimension.
        share = model.config.latent_dim / (model.config.latent_dim + len(own))
        scale = torch.linalg.cholesky((1 - share) * covariance + (share + 1e-6) * identity)
        model.prior_mean[number] = mean.to(model.prior_mean)
        model.prior_scale[number] = scale.to(model.prior_scale)


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
