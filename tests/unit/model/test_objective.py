from __future__ import annotations

import dataclasses

import pytest
import torch

from datagen.model.distributions import Bernoulli, DiagonalGaussian
from datagen.model.objective import kl_weight, negative_elbo


@pytest.fixture
def parts():
    random = torch.Generator().manual_seed(3)
    likelihood = Bernoulli(torch.randn(6, 1, 4, 4, generator=random, requires_grad=True))
    image = torch.rand(6, 1, 4, 4, generator=random)
    mean = torch.randn(6, 2, generator=random, requires_grad=True)
    logvar = torch.randn(6, 2, generator=random, requires_grad=True)
    return likelihood, image, DiagonalGaussian(mean, logvar)


def test_loss_is_reconstruction_plus_kl_in_batch_means(parts):
    likelihood, image, posterior = parts
    found = negative_elbo(likelihood, image, posterior)

    torch.testing.assert_close(found.reconstruction, -likelihood.log_prob(image).mean())
    torch.testing.assert_close(found.kl, posterior.kl().mean())
    torch.testing.assert_close(found.loss, found.reconstruction + found.kl)
    torch.testing.assert_close(found.negative_elbo, found.loss)


def test_mean_does_not_depend_on_the_batchs_size(parts):
    likelihood, image, posterior = parts
    twice = negative_elbo(
        Bernoulli(likelihood.logits.repeat(2, 1, 1, 1)),
        image.repeat(2, 1, 1, 1),
        DiagonalGaussian(posterior.mean.repeat(2, 1), posterior.logvar.repeat(2, 1)),
    )

    torch.testing.assert_close(twice.loss, negative_elbo(likelihood, image, posterior).loss)


@pytest.mark.parametrize("beta", [0.0, 0.25, 4.0])
def test_beta_weighs_the_kl_and_the_bound_is_reported_without_it(parts, beta):
    found = negative_elbo(*parts, beta=beta)

    torch.testing.assert_close(found.loss, found.reconstruction + beta * found.kl)
    torch.testing.assert_close(found.negative_elbo, found.reconstruction + found.kl)


def test_no_kl_leaves_only_the_reconstruction(parts):
    likelihood, _, posterior = parts
    found = negative_elbo(*parts, no_kl=True)
    found.loss.backward()

    torch.testing.assert_close(found.loss, found.reconstruction)
    assert found.kl > 0
    assert likelihood.logits.grad.abs().sum() > 0
    assert posterior.mean.grad.abs().sum() == 0


def test_no_reconstruction_leaves_only_the_kl(parts):
    likelihood, _, posterior = parts
    found = negative_elbo(*parts, no_reconstruction=True, beta=2.0)
    found.loss.backward()

    torch.testing.assert_close(found.loss, 2 * found.kl)
    assert found.reconstruction > 0
    assert likelihood.logits.grad.abs().sum() == 0
    assert posterior.mean.grad.abs().sum() > 0


def test_result_cannot_be_changed(parts):
    found = negative_elbo(*parts)

    with pytest.raises(dataclasses.FrozenInstanceError):
        found.loss = found.kl


def test_kl_is_taken_to_the_prior_of_the_label(parts):
    likelihood, image, posterior = parts
    own = DiagonalGaussian(posterior.mean.detach(), posterior.logvar.detach())

    assert negative_elbo(likelihood, image, posterior, own).kl.item() == pytest.approx(0, abs=1e-6)


def test_free_bits_are_not_paid_for_and_the_bound_is_reported_whole(parts):
    likelihood, image, posterior = parts
    per_dimension = posterior.kl_per_dimension().detach().mean(dim=0)
    free = float(per_dimension.max()) - 1e-3
    found = negative_elbo(likelihood, image, posterior, free_bits=free)

    paid = float(per_dimension.max()) + free
    torch.testing.assert_close(found.loss.item(), found.reconstruction.item() + paid)
    torch.testing.assert_close(found.kl, posterior.kl().mean())


def test_weight_of_the_kl_follows_its_schedule():
    def weights(schedule):
        return [kl_weight(schedule, step, 80, 0.25) for step in range(80)]

    assert weights("constant") == [1.0] * 80
    linear = weights("linear")
    assert linear[0] == 0
    assert linear[10] == pytest.approx(0.5)
    assert linear[20:] == [1.0] * 60
    cyclical = weights("cyclical")
    assert cyclical[:20] == cyclical[20:40] == cyclical[60:]
    assert cyclical[0] == 0
    assert cyclical[5] == pytest.approx(0.5)
    assert cyclical[10:20] == [1.0] * 10
