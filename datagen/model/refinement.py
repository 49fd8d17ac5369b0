"""Adversarial fine-tuning of the decoder: sharp images, with the ELBO kept in the loss.

A discriminator with projection (Miyato and Koyama, 2018), spectral norm (Miyato et al., 2018) and
the hinge loss learns to tell generated images from real ones of the same label. The encoder stays
as it is, so that posterior and fitted prior keep their meaning.
"""

from __future__ import annotations

import copy
import math
from typing import Any

import torch
import torch.nn.functional as F  # noqa: N812 - the field's own abbreviation
from torch import Tensor, nn
from torch.nn.utils.parametrizations import spectral_norm

from datagen.model.autoencoders import Autoencoder
from datagen.model.bending import random_transforms, transformed
from datagen.model.config import GeneratorConfig
from datagen.model.data import Batches, TrainingData, generator_at
from datagen.model.devices import fast_precision
from datagen.model.distributions import DiagonalGaussian
from datagen.model.examples import WIDENING
from datagen.model.fit import follow, held_out_elbo
from datagen.model.fitting import density_of, posteriors
from datagen.model.networks import standard_noise
from datagen.model.objective import negative_elbo
from datagen.model.pieces import Pieces
from datagen.model.priors import ClassPrior
from datagen.model.training import Numbers
from datagen.model.training_options import TrainingOptions

GENERATOR_RATE = 4e-4
DISCRIMINATOR_RATE = 8e-4
BETAS = (0.0, 0.99)
ELBO_WEIGHT = 0.01
AVERAGE = 0.995


class Discriminator(nn.Module):
    """Real or generated, given the label; for any H x W x C."""

    def __init__(self, config: GeneratorConfig, width: int = 32) -> None:
        super().__init__()
        channels, height, side = config.image_shape
        self.features = nn.Sequential(
            spectral_norm(nn.Conv2d(channels, width, 4, 2, 1)),
            nn.LeakyReLU(0.1),
            spectral_norm(nn.Conv2d(width, 2 * width, 4, 2, 1)),
            nn.LeakyReLU(0.1),
            spectral_norm(nn.Conv2d(2 * width, 4 * width, 3, 2, 1)),
            nn.LeakyReLU(0.1),
            nn.Flatten(),
        )
        # At least 8 pixels a side survive the two halvings by 4 x 4 kernels.
        self.padding = (0, max(0, 8 - side), 0, max(0, 8 - height))
        with torch.no_grad():
            size = self.features(F.pad(torch.zeros(1, *config.image_shape), self.padding)).shape[1]
        self.score = spectral_norm(nn.Linear(size, 1))
        self.label = spectral_norm(nn.Embedding(config.class_count, size))

    def forward(self, image: Tensor, label: Tensor) -> Tensor:
        """Images (B, C, H, W) with labels (B,) to scores (B,); higher is more real."""
        hidden = self.features(F.pad(image, self.padding))  # (B, size)
        scores: Tensor = self.score(hidden)[:, 0] + (self.label(label) * hidden).sum(dim=1)
        return scores


def elbo_weight(model: Autoencoder) -> float:
    """Weight of the reconstruction beside the game.

    Sharp likelihoods count a difference of pixels by their variance, and their nats would leave the
    discriminator nothing to say; they are weighed down to the size that Bernoulli's have.
    """
    if model.config.likelihood == "bernoulli":
        return ELBO_WEIGHT
    variance = (2.0 * model.log_scale.detach()).exp().mean()
    if model.config.likelihood == "discretized_logistic":
        variance = variance * math.pi**2 / 3.0
    if model.config.likelihood == "laplace":
        variance = variance * 2.0
    return ELBO_WEIGHT * 4.0 * float(variance)


class Refinement:
    """Train decoder and discriminator against each other; keep the decoder's moving average."""

    name = "refine"

    def __init__(
        self,
        model: Autoencoder,
        data: TrainingData,
        held_out: TrainingData,
        options: TrainingOptions,
    ) -> None:
        self._model, self._data, self._held_out, self._options = model, data, held_out, options
        self.batch_size = min(options.batch_size, len(data))
        labels = data.all_labels if options.balanced else None
        self._batches = Batches(len(data), self.batch_size, options.seed, self.name, labels)
        self.steps_per_epoch = self._batches.per_epoch
        self.steps = options.refine_epochs * self.steps_per_epoch
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(options.seed + 1)
            discriminator = Discriminator(model.config)
        self._discriminator = discriminator.to(data.device).to(memory_format=torch.channels_last)
        self.average = copy.deepcopy(model)
        self.modules: dict[str, nn.Module] = {
            "generator": model,
            "average": self.average,
            "discriminator": self._discriminator,
        }
        self._parameters = list(model.decoder.parameters())
        self._own = torch.optim.Adam(self._parameters, GENERATOR_RATE, BETAS)
        self._other = torch.optim.Adam(self._discriminator.parameters(), DISCRIMINATOR_RATE, BETAS)
        self.optimizers: dict[str, torch.optim.Optimizer] = {
            "decoder": self._own,
            "discriminator": self._other,
        }
        self._pieces = Pieces()
        self._fitted: ClassPrior | None = None
        self._elbo_weight = elbo_weight(model)

    def prepare(self) -> None:
        """Fit the density, where latents are drawn from it."""
        if self._options.refine_sampler == "density":
            self._density()

    def step(self, number: int) -> dict[str, Tensor]:
        """One step of the discriminator, one of the decoder."""
        self._model.train()
        self._discriminator.train()
        share = max(0.05, 1.0 - number / self.steps)
        self._own.param_groups[0]["lr"] = share * GENERATOR_RATE
        self._other.param_groups[0]["lr"] = share * DISCRIMINATOR_RATE
        image, label = self._data.rows(self._batches.rows(number))
        generator = generator_at(self._options.seed, self.name, number)
        shape = image.new_empty(len(image), self._options.latent_dim)
        noise = standard_noise(shape, generator)
        # Where the model tells transforms apart, the game is about images as they are.
        if self._options.augment == "affine" and not self._model.config.transform_condition:
            image = transformed(image, random_transforms(len(image), generator))
        latent = self.draw(image, label, generator)

        def teach(rows: Tensor, share: float) -> dict[str, Tensor]:
            own = rows.to(image.device)
            return self._teach(image[own], label[own], latent[own], share)

        def learn(rows: Tensor, share: float) -> dict[str, Tensor]:
            own = rows.to(image.device)
            return self._learn(image[own], label[own], latent[own], noise[own], share)

        self._pieces.run(len(image), teach, lambda: self._other.zero_grad(set_to_none=True))
        self._other.step()
        terms = self._pieces.run(len(image), learn, lambda: self._own.zero_grad(set_to_none=True))
        self._own.step()
        follow(self.average.decoder, self._model.decoder, AVERAGE)
        return terms

    @torch.no_grad()
    def draw(self, image: Tensor, label: Tensor, generator: torch.Generator) -> Tensor:
        """Latents (B, d) of labels (B,), drawn as `refine_sampler` says.

        `neighbour` draws round the posteriors of the images (B, C, H, W); the others do without.
        """
        noise = standard_noise(image.new_empty(len(image), self._options.latent_dim), generator)
        if self._options.refine_sampler == "neighbour":
            found = self._model.encode(image, label)
            if not isinstance(found, DiagonalGaussian):
                return found.mean + WIDENING * noise
            return found.mean + (found.logvar.exp() + WIDENING**2).sqrt() * noise
        if self._options.refine_sampler == "density":
            choice = torch.rand(len(label), generator=generator).to(label.device)
            return self._density().draw(label, noise, choice)
        return self._model.draw(label, noise)

    def _density(self) -> ClassPrior:
        """The density of the posterior samples, which the refinement does not change."""
        if self._fitted is None:
            model, seed = self._model, self._options.seed
            found = posteriors(model, self._data, seed)
            held_out = posteriors(model, self._held_out, seed, are_held_out=True)
            self._fitted = density_of(model.config, found, held_out, seed)[0]
            self._fitted.to(self._data.device)
            model.train()
        return self._fitted

    def _made(self, label: Tensor, latent: Tensor) -> Tensor:
        """Generated images of labels (B,), from latents (B, d)."""
        with fast_precision(label.device):
            return self._model.likelihood(latent, label).mean

    def _teach(
        self, image: Tensor, label: Tensor, latent: Tensor, share: float
    ) -> dict[str, Tensor]:
        """Gradients of the discriminator: the hinge loss of real and generated images."""
        with torch.no_grad():
            made = self._made(label, latent)
        real, false = self._discriminator(
            torch.cat([image, made]), torch.cat([label, label])
        ).chunk(2)
        loss = F.relu(1.0 - real).mean() + F.relu(1.0 + false).mean()
        (share * loss).backward()  # type: ignore[no-untyped-call]  # torch has no type here
        return {}

    def _learn(
        self, image: Tensor, label: Tensor, latent: Tensor, noise: Tensor, share: float
    ) -> dict[str, Tensor]:
        """Gradients of the decoder: what deceives the discriminator, and a little of the ELBO."""
        deceived = -self._discriminator(self._made(label, latent), label).mean()
        with torch.no_grad():
            posterior = self._model.encode(image, label)
        likelihood = self._model.likelihood(posterior.sample(noise), label)
        terms = negative_elbo(likelihood, image, posterior, self._model.prior_of(label))
        (share * (deceived + self._elbo_weight * terms.reconstruction)).backward()
        return {
            "reconstruction": terms.reconstruction,
            "kl": terms.kl,
            "total": terms.negative_elbo,
            "adversarial": deceived,
        }

    def end_epoch(self, history: list[dict[str, Any]]) -> Numbers:
        """The ELBO's terms of the averaged decoder on images that are held out."""
        del history
        found = held_out_elbo(self.average, self._held_out, self._options.seed)
        return {f"validation_{name}": value for name, value in found.items()}

    def is_done(self, history: list[dict[str, Any]]) -> bool:
        """Never before its last step: the schedule of its learning rates is for all of them."""
        del history
        return False
