"""Fitting: the stage that maximises the ELBO."""

from __future__ import annotations

import copy
import math
from dataclasses import replace
from typing import Any, Protocol

import torch
from torch import Tensor, nn

from datagen.model.autoencoders import Autoencoder
from datagen.model.bending import random_transforms, transformed, transforms_of_some
from datagen.model.data import Batches, TrainingData, generator_at
from datagen.model.devices import fast_precision
from datagen.model.networks import standard_noise
from datagen.model.objective import Objective, kl_weight, negative_elbo
from datagen.model.optimizers import Optimizers
from datagen.model.pieces import Pieces
from datagen.model.training import Numbers, one_cycle, trapezoid
from datagen.model.training_options import TrainingOptions

# Share of the steps before the learning rate begins to fall, with Muon.
HOLD = 0.5
LARGEST_GRADIENT = 200.0


class Perceptual(Protocol):
    """How far reconstructions are from their images in what a network sees of both."""

    def __call__(self, image: Tensor, reconstruction: Tensor, step: int) -> Tensor:
        """Distances (B,) of images (B, C, H, W) to reconstructions, at a step of the training."""


class Fit:
    """Maximise the ELBO: AdamW, one cycle of the learning rate, the KL warmed up.

    With `perceptual`, its distance is minimised beside the bound; what is reported and what
    decides is the bound alone.

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
        perceptual: Perceptual | None = None,
    ) -> None:
        self._perceptual = perceptual
        self._model, self._data, self._held_out, self._options = model, data, held_out, options
        self.batch_size = min(options.batch_size, len(data))
        labels = data.all_labels if options.balanced else None
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
        # The flow is fitted to the finished posteriors, by a stage of its own.
        learning = [
            weight for name, weight in model.named_parameters() if not name.startswith("flow.")
        ]
        self._optimizers = Optimizers(model, learning, options.optimizer, options.learning_rate)
        self.optimizers = self._optimizers.by_name
        self._pieces = Pieces()

    def prepare(self) -> None:
        """Nothing: the state holds all."""

    def step(self, number: int) -> dict[str, Tensor]:
        """One step of gradient descent on a batch."""
        self._model.train()
        image, label = self._data.rows(self._batches.rows(number))
        generator = generator_at(self._options.seed, self.name, number)
        noise = standard_noise(image.new_empty(len(image), self._options.latent_dim), generator)
        if self._options.label_dropout:
            left_out = torch.rand(len(label), generator=generator) < self._options.label_dropout
            label = label.masked_fill(left_out.to(label.device), self._model.config.class_count)
        transform = None
        if self._options.augment == "affine":
            # A conditioned model generates untransformed images: it must have seen such ones, too.
            is_conditioned = self._model.config.transform_condition
            choose = transforms_of_some if is_conditioned else random_transforms
            transform = choose(len(image), generator)
            image = transformed(image, transform)
            transform = transform.to(image.device)

        def work(rows: Tensor, share: float) -> dict[str, Tensor]:
            own = rows.to(image.device)
            changed = None if transform is None else transform[own]
            terms = self._objective(number, image[own], label[own], noise[own], changed)
            (share * terms.loss).backward()  # type: ignore[no-untyped-call]  # torch has no type here
            return {
                "reconstruction": terms.reconstruction,
                "kl": terms.kl,
                "total": terms.negative_elbo,
            }

        terms = self._pieces.run(len(image), work, self._optimizers.forget_gradients)
        nn.utils.clip_grad_norm_(self._model.parameters(), LARGEST_GRADIENT)
        self._optimizers.step(self._learning_rate(number))
        if self._current is not self._model:
            # The first weights, which have learnt little, are forgotten sooner.
            decay = min(self._options.average, (1 + number) / (10 + number))
            follow(self._current, self._model, decay)
        return terms

    def _learning_rate(self, number: int) -> float:
        peak = self._options.learning_rate
        if self._options.optimizer == "muon":
            return trapezoid(number, self.steps, peak, HOLD)
        return one_cycle(number, self.steps, peak)

    def _objective(
        self,
        number: int,
        image: Tensor,
        label: Tensor,
        noise: Tensor,
        transform: Tensor | None,
    ) -> Objective:
        options = self._options
        with fast_precision(image.device):
            likelihood, posterior = self._model(image, label, noise, transform)
        weight = kl_weight(options.kl_schedule, number, self.steps, options.kl_warmup)
        terms = negative_elbo(
            likelihood,
            image,
            posterior,
            self._model.prior_of(label),
            beta=options.beta * weight,
            free_bits=options.free_bits,
            no_kl=options.no_kl,
            no_reconstruction=options.no_reconstruction,
        )
        if self._perceptual is None or options.no_reconstruction:
            return terms
        apart = self._perceptual(image, likelihood.mean, number).mean()
        # In nats, as many as there are values: so it counts the same whatever the size of images.
        values = image[0].numel()
        return replace(terms, loss=terms.loss + options.feature_weight * values * apart)

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
    for rows in data.pieces():
        image, label = data.rows(rows)
        generator = generator_at(seed, "evaluate", int(rows[0]))
        noise = standard_noise(image.new_empty(len(image), model.config.latent_dim), generator)
        likelihood, posterior = model(image, label, noise)
        terms = negative_elbo(likelihood, image, posterior, model.prior_of(label))
        sums += len(rows) * torch.stack([terms.reconstruction, terms.kl]).double().cpu()
    reconstruction, kl = (sums / len(data)).tolist()
    return {"reconstruction": reconstruction, "kl": kl, "total": reconstruction + kl}
