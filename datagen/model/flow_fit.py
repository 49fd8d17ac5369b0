"""Fitting the flow: the stage that learns p(z | y) of the finished posteriors."""

from __future__ import annotations

import copy
import math
from typing import Any

import torch
from torch import Tensor, nn

from datagen.model.autoencoders import Autoencoder
from datagen.model.data import TrainingData, balanced_rows, generator_at
from datagen.model.devices import fast_precision
from datagen.model.fit import follow
from datagen.model.fitting import Posteriors, posteriors
from datagen.model.flow import FlowPrior
from datagen.model.training import Numbers, trapezoid
from datagen.model.training_options import FLOW_EPOCH, TrainingOptions

BATCH = 512
LEARNING_RATE = 1e-3
WEIGHT_DECAY = 0.01
HOLD = 0.4
LARGEST_GRADIENT = 1.0
AVERAGE = 0.999
# Of the labels: what is left out teaches the flow what images of any label have in common.
LABEL_DROPOUT = 0.1
# Posteriors that are looked at after every epoch.
MOST_HELD_OUT = 4096
_LEAST_SPREAD = 1e-4


class FlowFit:
    """Flow matching on samples of the posteriors; keeps the average of the weights that is the best
    on held-out images.
    """  # noqa: D205 - one sentence

    name = "flow"

    def __init__(
        self,
        model: Autoencoder,
        data: TrainingData,
        held_out: TrainingData,
        options: TrainingOptions,
    ) -> None:
        assert model.flow is not None  # noqa: S101 - for the type checker
        self._model, self._data, self._held_out, self._options = model, data, held_out, options
        self._flow: FlowPrior = model.flow
        self._average = copy.deepcopy(self._flow)
        self.kept = copy.deepcopy(self._flow) if len(held_out) else self._average
        self.batch_size = BATCH
        self.steps_per_epoch = FLOW_EPOCH
        self.steps = options.flow_epochs * FLOW_EPOCH
        self.modules: dict[str, nn.Module] = {
            "generator": model,
            "flow_average": self._average,
            "flow_best": self.kept,
        }
        self._optimizer = torch.optim.AdamW(
            self._flow.parameters(), LEARNING_RATE, weight_decay=WEIGHT_DECAY, fused=True
        )
        self.optimizers: dict[str, torch.optim.Optimizer] = {"flow": self._optimizer}
        self._found: Posteriors | None = None
        self._judged: Posteriors | None = None

    def prepare(self) -> None:
        """Encode the training images."""
        self._posteriors()

    def step(self, number: int) -> dict[str, Tensor]:
        """One step of flow matching."""
        found = self._posteriors()
        generator = generator_at(self._options.seed, self.name, number)
        rows = self._rows(found, generator)
        noise = torch.randn(BATCH, found.mean.shape[1], generator=generator)
        latent = (found.mean[rows] + found.spread[rows] * noise).float()
        label = found.labels[rows]
        left_out = torch.rand(BATCH, generator=generator) < LABEL_DROPOUT
        device = self._data.device
        row = self._flow.rows(label).masked_fill(left_out, self._flow.null_label).to(device)
        loss = self._loss(self._flow, latent.to(device), row, generator)
        self._optimizer.zero_grad(set_to_none=True)
        loss.backward()  # type: ignore[no-untyped-call]  # torch has no type here
        nn.utils.clip_grad_norm_(self._flow.parameters(), LARGEST_GRADIENT)
        for group in self._optimizer.param_groups:
            group["lr"] = trapezoid(number, self.steps, LEARNING_RATE, HOLD)
        self._optimizer.step()
        follow(self._average, self._flow, min(AVERAGE, (1 + number) / (10 + number)))
        return {"flow_matching": loss.detach()}

    def _rows(self, found: Posteriors, generator: torch.Generator) -> Tensor:
        """Rows of a batch, drawn with replacement; every class equally often where balanced."""
        if not self._options.balanced:
            return torch.randint(0, len(found), (BATCH,), generator=generator)
        return balanced_rows(found.labels, BATCH, generator)

    def _posteriors(self) -> Posteriors:
        """The posteriors of the training images; sets the flow's centre and spread."""
        if self._found is None:
            found = posteriors(self._model, self._data, self._options.seed)
            # Of all posteriors together: a dimension that carries nothing has a mean that hardly
            # moves, and a spread of 1.
            variance = found.mean.var(dim=0, correction=0) + found.spread.square().mean(dim=0)
            spread = variance.sqrt().clamp(min=_LEAST_SPREAD)
            for flow in (self._flow, self._average, self.kept):
                flow.centre.copy_(found.mean.mean(dim=0))
                flow.spread.copy_(spread)
            self._found = found
        return self._found

    def _loss(
        self, flow: FlowPrior, latent: Tensor, row: Tensor, generator: torch.Generator
    ) -> Tensor:
        """Mean squared error of the velocity from noise to latents (B, d), a mean a value."""
        noise = torch.randn(latent.shape, generator=generator).to(latent.device)
        # Times near the middle are the hardest (Esser et al., 2024).
        time = torch.randn(len(latent), generator=generator).sigmoid().to(latent.device)
        target = flow.whitened(latent)
        place = torch.lerp(noise, target, time[:, None])
        with fast_precision(latent.device):
            velocity = flow(place, time, row)
        loss: Tensor = (velocity.float() - (target - noise)).square().mean()
        return loss

    @torch.no_grad()
    def end_epoch(self, history: list[dict[str, Any]]) -> Numbers:
        """The same loss on held-out images; keeps the weights if they are the best."""
        if not len(self._held_out):
            return {}
        if self._judged is None:
            count = len(self._held_out)
            some = torch.linspace(0, count - 1, min(MOST_HELD_OUT, count)).long()
            held_out = self._held_out.subset(some)
            self._judged = posteriors(self._model, held_out, self._options.seed, are_held_out=True)
        judged = self._judged
        device = self._data.device
        generator = generator_at(self._options.seed, "flow-evaluate", 0)
        row = self._flow.rows(judged.labels).to(device)
        latent = judged.samples.float().to(device)
        loss = float(self._loss(self._average, latent, row, generator))
        own = [entry for entry in history if entry["stage"] == self.name]
        best = min((entry["validation_flow_matching"] for entry in own), default=math.inf)
        if loss < best:
            self.kept.load_state_dict(self._average.state_dict())
        return {"validation_flow_matching": loss}

    def is_done(self, history: list[dict[str, Any]]) -> bool:
        """Never before its last step: the schedule of its learning rate is for all of them."""
        del history
        return False
