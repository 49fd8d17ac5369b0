from __future__ import annotations

import math

import pytest
import torch

from datagen.model.distributions import (
    Bernoulli,
    DiagonalGaussian,
    DiscretizedLogistic,
    Gaussian,
    Laplace,
    Point,
)


@pytest.fixture
def random():
    return torch.Generator().manual_seed(5)


@pytest.fixture
def posterior(random):
    mean = torch.randn(4, 3, generator=random, dtype=torch.float64)
    return DiagonalGaussian(mean, torch.randn(4, 3, generator=random, dtype=torch.float64))


def log_density(value, mean, logvar):
    return -0.5 * ((value - mean) ** 2 / logvar.exp() + logvar + math.log(2 * math.pi)).sum(dim=-1)


def test_closed_form_kl_agrees_with_monte_carlo(posterior, random):
    noise = torch.randn(200_000, 4, 3, generator=random, dtype=torch.float64)
    latent = posterior.sample(noise)
    zero = torch.zeros(3, dtype=torch.float64)
    ratio = log_density(latent, posterior.mean, posterior.logvar) - log_density(latent, zero, zero)
    error = ratio.std(dim=0) / math.sqrt(len(noise))

    assert posterior.kl().shape == (4,)
    assert ((ratio.mean(dim=0) - posterior.kl()).abs() < 5 * error).all()


def test_kl_agrees_with_torch_distributions(posterior):
    own = torch.distributions.Normal(posterior.mean, (0.5 * posterior.logvar).exp())
    expected = torch.distributions.kl_divergence(own, torch.distributions.Normal(0.0, 1.0))

    torch.testing.assert_close(posterior.kl(), expected.sum(dim=1))


def test_kl_of_the_prior_is_zero():
    assert DiagonalGaussian(torch.zeros(2, 5), torch.zeros(2, 5)).kl().tolist() == [0, 0]


def test_samples_have_the_posteriors_mean_and_spread(posterior, random):
    drawn = posterior.sample(torch.randn(100_000, 4, 3, generator=random, dtype=torch.float64))

    torch.testing.assert_close(drawn.mean(dim=0), posterior.mean, atol=0.05, rtol=0)
    torch.testing.assert_close(drawn.var(dim=0), posterior.logvar.exp(), atol=0, rtol=0.05)


def test_sample_without_noise_is_the_mode(posterior):
    assert torch.equal(posterior.sample(torch.zeros(4, 3, dtype=torch.float64)), posterior.mode)


def test_gradients_pass_through_the_reparameterization(random):
    mean = torch.randn(2, 3, generator=random, dtype=torch.float64, requires_grad=True)
    logvar = torch.randn(2, 3, generator=random, dtype=torch.float64, requires_grad=True)
    noise = torch.randn(2, 3, generator=random, dtype=torch.float64)

    DiagonalGaussian(mean, logvar).sample(noise).sum().backward()

    torch.testing.assert_close(mean.grad, torch.ones_like(noise))
    torch.testing.assert_close(logvar.grad, 0.5 * (0.5 * logvar.detach()).exp() * noise)


def test_gradients_of_sample_and_kl_agree_with_finite_differences(posterior, random):
    noise = torch.randn(4, 3, generator=random, dtype=torch.float64)

    def value(mean, logvar):
        own = DiagonalGaussian(mean, logvar)
        return own.sample(noise).square().sum(dim=1) + own.kl()

    assert torch.autograd.gradcheck(
        value, (posterior.mean.requires_grad_(), posterior.logvar.requires_grad_())
    )


def test_bernoulli_sums_the_pixels_log_likelihoods(random):
    logits = torch.randn(3, 2, 4, 5, generator=random)
    image = (torch.rand(3, 2, 4, 5, generator=random) > 0.5).float()
    chance = torch.sigmoid(logits)
    expected = torch.where(image == 1, chance, 1 - chance).log().flatten(1).sum(dim=1)

    torch.testing.assert_close(Bernoulli(logits).log_prob(image), expected)
    torch.testing.assert_close(Bernoulli(logits).mean, chance)


def test_bernoulli_stays_finite_where_the_decoder_is_sure_and_wrong():
    logits = torch.tensor([[[[300.0, -300.0]]]])

    assert Bernoulli(logits).log_prob(torch.tensor([[[[0.0, 1.0]]]])).item() == -600


def test_kl_to_another_normal_agrees_with_torch_distributions(posterior, random):
    mean, logvar = torch.randn(2, 4, 3, generator=random, dtype=torch.float64)
    own = torch.distributions.Normal(posterior.mean, (0.5 * posterior.logvar).exp())
    other = torch.distributions.Normal(mean, (0.5 * logvar).exp())
    expected = torch.distributions.kl_divergence(own, other)

    found = posterior.kl_per_dimension(DiagonalGaussian(mean, logvar))
    torch.testing.assert_close(found, expected)
    torch.testing.assert_close(posterior.kl_per_dimension().sum(dim=1), posterior.kl())


def test_density_of_a_normal_agrees_with_torch_distributions(posterior, random):
    latent = torch.randn(4, 3, generator=random, dtype=torch.float64)
    own = torch.distributions.Normal(posterior.mean, (0.5 * posterior.logvar).exp())

    torch.testing.assert_close(posterior.log_prob(latent), own.log_prob(latent).sum(dim=1))


def test_point_has_nothing_to_draw_and_no_kl():
    point = Point(torch.ones(2, 3))

    assert torch.equal(point.sample(torch.full((2, 3), 9.0)), point.mean)
    assert point.kl().tolist() == [0, 0]


@pytest.mark.parametrize(
    ("likelihood", "expected"),
    [(Gaussian, torch.distributions.Normal), (Laplace, torch.distributions.Laplace)],
)
def test_sharp_pixels_agree_with_torch_distributions(random, likelihood, expected):
    logits, image = torch.randn(3, 2, 4, 5, generator=random), torch.rand(3, 2, 4, 5)
    log_scale = torch.tensor([-1.0, -2.0])
    own = expected(torch.sigmoid(logits), log_scale.exp()[:, None, None])

    found = likelihood(logits, log_scale).log_prob(image)
    torch.testing.assert_close(found, own.log_prob(image).flatten(1).sum(dim=1))


def test_grey_values_of_the_discretized_logistic_have_probabilities_that_sum_to_one():
    values = torch.arange(256.0)[:, None, None, None] / 255
    for mean, log_scale in ((0.5, -2.0), (0.003, -3.0), (0.999, -4.0), (0.3, -5.5)):
        logits = torch.logit(torch.tensor(mean)).expand(256, 1, 1, 1)
        found = DiscretizedLogistic(logits, torch.tensor([log_scale])).log_prob(values)

        assert found.exp().sum().item() == pytest.approx(1.0, abs=2e-3)


def test_discretized_logistic_stays_finite_and_has_gradients_far_out():
    logits = torch.tensor([[[[9.0, -9.0, 0.0]]]], requires_grad=True)
    log_scale = torch.tensor([-7.0], requires_grad=True)
    image = torch.tensor([[[[0.0, 1.0, 0.9]]]])

    found = DiscretizedLogistic(logits, log_scale).log_prob(image)
    found.sum().backward()

    assert found.isfinite().all()
    assert found < -500
    assert logits.grad.isfinite().all()
    assert log_scale.grad.isfinite().all()
