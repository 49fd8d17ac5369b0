"""The bound is one: below the log-likelihood, which tiny models let us compute another way."""

from __future__ import annotations

import math

import pytest
import torch
from tiny import striped_data

from datagen.model.autoencoders import make_generator
from datagen.model.config import GeneratorConfig
from datagen.model.data import TrainingData
from datagen.model.distributions import DiagonalGaussian
from datagen.model.fit import Fit
from datagen.model.objective import negative_elbo
from datagen.model.state import TrainingState
from datagen.model.training import Watch, run_stage
from datagen.model.training_options import TrainingOptions

SHAPE = (1, 4, 3)
IMAGES = 6


@pytest.fixture(scope="module", params=["vae", "cvae"])
def fitted(request):
    """A model of one latent dimension, trained for a moment, with some images."""
    torch.manual_seed(3)
    config = GeneratorConfig(
        family=request.param, image_shape=SHAPE, class_count=3, latent_dim=1, width=8,
        encoder_width=8, blocks=1, stride=2,
    )  # fmt: skip
    model = make_generator(config)
    data = striped_data(96, shape=SHAPE)
    options = TrainingOptions(family=request.param, latent_dim=1, epochs=40, batch_size=32, seed=1)
    run_stage(Fit(model, data, striped_data(0, shape=SHAPE), options), TrainingState(), Watch())
    images = TrainingData(data.images[:IMAGES], data.labels[:IMAGES])
    return model.eval(), *images.rows(torch.arange(IMAGES))


@torch.no_grad()
def log_weights(model, image, label, draws, seed=0):
    """log p(x, z | y) - log q(z | x, y) of latents drawn from q, (draws, B)."""
    noise = torch.randn(draws, len(image), 1, generator=torch.Generator().manual_seed(seed))
    posterior = model.encode(image, label)
    prior = DiagonalGaussian(torch.zeros(len(image), 1), torch.zeros(len(image), 1))
    found = []
    for part in noise:
        latent = posterior.sample(part)
        pixels = model.likelihood(latent, label).log_prob(image)
        found.append(pixels + prior.log_prob(latent) - posterior.log_prob(latent))
    return torch.stack(found).double()


def importance(weights):
    """log p(x) from weights (draws, B), (B,)."""
    return torch.logsumexp(weights, dim=0) - math.log(len(weights))


@torch.no_grad()
def by_quadrature(model, image, label):
    """log p(x | y) as an integral over the one dimension, by trapezia, (B,)."""
    grid = torch.linspace(-9, 9, 6001)
    prior = DiagonalGaussian(torch.zeros(len(grid), 1), torch.zeros(len(grid), 1))
    found = []
    for number in range(len(image)):
        own = label[number].expand(len(grid))
        likelihood = model.likelihood(grid[:, None], own)
        joint = likelihood.log_prob(image[number].expand(len(grid), -1, -1, -1))
        joint = (joint + prior.log_prob(grid[:, None])).double()
        found.append(torch.logsumexp(joint, dim=0) + math.log(float(grid[1] - grid[0])))
    return torch.stack(found)


def test_importance_sampling_agrees_with_the_integral(fitted):
    model, image, label = fitted
    found = importance(log_weights(model, image, label, 2000))

    torch.testing.assert_close(found, by_quadrature(model, image, label), atol=0.05, rtol=0)


def test_elbo_is_below_the_log_likelihood_and_not_by_nothing(fitted):
    model, image, label = fitted
    with torch.no_grad():
        posterior = model.encode(image, label)
        bounds = []
        for seed in range(400):
            noise = torch.randn(len(image), 1, generator=torch.Generator().manual_seed(seed))
            pixels = model.likelihood(posterior.sample(noise), label)
            bounds.append(-float(negative_elbo(pixels, image, posterior).negative_elbo))
    elbo = sum(bounds) / len(bounds)
    likelihood = float(by_quadrature(model, image, label).mean())

    # The gap is KL(q || p(z | x, y)), and q is no perfect posterior.
    assert elbo < likelihood
    assert likelihood - elbo < 3.0


def test_more_importance_samples_make_the_bound_tighter(fitted):
    model, image, label = fitted
    weights = log_weights(model, image, label, 4096)
    bounds = [
        float(importance(weights.view(-1, count, IMAGES).transpose(0, 1)).mean())
        for count in (1, 4, 16, 64, 256)
    ]

    assert bounds == sorted(bounds)
    exact = float(by_quadrature(model, image, label).mean())
    assert bounds[-1] == pytest.approx(exact, abs=0.1)
