from __future__ import annotations

import torch
from tiny import striped_data, tiny_model

from datagen.model.autoencoders import CVAE
from datagen.model.config import CVAEConfig


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
    model = CVAE(CVAEConfig(image_shape=(1, 8, 8), class_count=2, latent_dim=3))
    noise = torch.randn(4, 3, generator=torch.Generator().manual_seed(4))

    torch.testing.assert_close(model.draw(torch.tensor([0, 1, 0, 1]), noise), noise)


def test_draw_follows_the_fitted_prior_of_each_label():
    model = tiny_model()
    noise = torch.randn(50_000, 5, generator=torch.Generator().manual_seed(4))
    drawn = model.draw(torch.full((50_000,), 2), noise)
    covariance = model.prior_scale[2] @ model.prior_scale[2].T

    torch.testing.assert_close(drawn.mean(dim=0), model.prior_mean[2], atol=0.06, rtol=0)
    torch.testing.assert_close(drawn.T.cov(), covariance, atol=0.25, rtol=0.02)


def test_draw_at_temperature_zero_is_the_labels_mean():
    model = tiny_model()
    label = torch.tensor([2, 0])

    drawn = model.draw(label, torch.ones(2, 5), temperature=0.0)

    assert torch.equal(drawn, model.prior_mean[label])
