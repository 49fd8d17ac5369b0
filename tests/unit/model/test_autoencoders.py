from __future__ import annotations

import pytest
import torch
from tiny import striped_data, tiny_model

from datagen.model.autoencoders import CVAE
from datagen.model.config import GeneratorConfig


def test_forward_is_encode_sample_decode():
    model = tiny_model()
    image, label = striped_data(6).rows(torch.arange(6))
    noise = torch.randn(6, 5, generator=torch.Generator().manual_seed(4))

    likelihood, posterior = model(image, label, noise)

    expected = model.encode(image, label)
    assert torch.equal(posterior.mean, expected.mean)
    assert torch.equal(posterior.logvar, expected.logvar)
    assert torch.equal(likelihood.logits, model.decode(expected.sample(noise), label))


def test_forward_leaves_the_global_random_state_alone():
    model = tiny_model()
    image, label = striped_data(3).rows(torch.arange(3))
    before = torch.random.get_rng_state()

    model(image, label, torch.zeros(3, 5))

    assert torch.equal(torch.random.get_rng_state(), before)


def test_a_new_model_draws_from_the_standard_normal():
    model = CVAE(GeneratorConfig(image_shape=(1, 8, 8), class_count=2, latent_dim=3))
    noise = torch.randn(4, 3, generator=torch.Generator().manual_seed(4))

    torch.testing.assert_close(model.draw(torch.tensor([0, 1, 0, 1]), noise), noise)


def test_draw_follows_the_fitted_prior_of_each_label():
    model = tiny_model()
    noise = torch.randn(50_000, 5, generator=torch.Generator().manual_seed(4))
    drawn = model.draw(torch.full((50_000,), 2), noise)
    covariance = model.prior.scale[2, 0] @ model.prior.scale[2, 0].T

    torch.testing.assert_close(drawn.mean(dim=0), model.prior.mean[2, 0], atol=0.06, rtol=0)
    torch.testing.assert_close(drawn.T.cov(), covariance, atol=0.25, rtol=0.02)


@pytest.mark.parametrize("family", ["autoencoder", "vae", "cvae"])
def test_families_are_the_same_networks_and_differ_in_label_and_latent(family):
    model = tiny_model(family=family)
    image = torch.full((2, 1, 9, 7), 0.5)
    labels, noise = torch.tensor([0, 1]), torch.ones(2, 5)

    posterior = model.encode(image, labels)
    logits = model.decode(torch.zeros(2, 5), labels)

    sees_label, is_variational = family == "cvae", family != "autoencoder"
    assert torch.equal(posterior.mean[0], posterior.mean[1]) != sees_label
    assert torch.equal(logits[0], logits[1]) != sees_label
    assert torch.equal(posterior.sample(noise), posterior.mean) != is_variational
    assert bool((posterior.kl() > 0).all()) == is_variational
    assert len(model.prior.share) == (3 if sees_label else 1)


@pytest.mark.parametrize("likelihood", ["bernoulli", "gaussian", "laplace", "discretized_logistic"])
def test_every_likelihood_trains_all_weights(likelihood):
    model = tiny_model(likelihood=likelihood).train().requires_grad_()
    image, label = striped_data(6).rows(torch.arange(6))

    found, posterior = model(image, label, torch.zeros(6, 5))
    (posterior.kl() - found.log_prob(image)).sum().backward()

    assert found.mean.shape == image.shape
    assert found.mean.min() >= 0
    assert found.mean.max() <= 1
    for name, weight in model.named_parameters():
        assert weight.grad is not None, name
        assert weight.grad.isfinite().all(), name


def test_learnt_prior_is_what_the_label_says():
    model = tiny_model(learnt_prior=True)
    model.prior_mean.weight.copy_(torch.arange(15.0).reshape(3, 5))

    prior = model.prior_of(torch.tensor([2, 0]))

    assert torch.equal(prior.mean[0], torch.arange(10.0, 15.0))
    assert torch.equal(prior.mean[1], torch.arange(5.0))
    assert tiny_model().prior_of(torch.tensor([0])) is None


def test_null_label_is_one_more_than_the_classes():
    model = tiny_model(null_label=True)

    assert model.decode(torch.zeros(1, 5), torch.tensor([3])).isfinite().all()
    assert len(model.prior.share) == 3
