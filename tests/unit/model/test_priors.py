from __future__ import annotations

import pytest
import torch

from datagen.model.priors import ClassPrior


@pytest.fixture
def prior():
    random = torch.Generator().manual_seed(2)
    made = ClassPrior(classes=2, components=3, dims=4)
    made.mean.copy_(torch.randn(2, 3, 4, generator=random) * 3)
    scale = torch.tril(torch.randn(2, 3, 4, 4, generator=random))
    made.scale.copy_(scale + 2 * torch.eye(4))
    made.share.copy_(torch.tensor([[0.5, 0.3, 0.2], [0.8, 0.1, 0.1]]))
    return made


def test_density_agrees_with_torch_distributions(prior):
    latent = torch.randn(50, 4, generator=torch.Generator().manual_seed(1))
    label = torch.arange(50) % 2
    expected = torch.empty(50)
    for row in range(2):
        mixture = torch.distributions.MixtureSameFamily(
            torch.distributions.Categorical(prior.share[row]),
            torch.distributions.MultivariateNormal(
                prior.mean[row], scale_tril=scale_with_positive_diagonal(prior.scale[row])
            ),
        )
        expected[label == row] = mixture.log_prob(latent[label == row])

    torch.testing.assert_close(prior.log_prob(latent, label), expected, atol=1e-3, rtol=1e-4)


def scale_with_positive_diagonal(scale):
    return torch.linalg.cholesky(scale @ scale.transpose(1, 2))


def test_draws_have_the_components_means_and_shares(prior):
    count = 30_000
    random = torch.Generator().manual_seed(4)
    choice = torch.rand(count, generator=random)
    drawn = prior.draw(torch.zeros(count, dtype=torch.int64), torch.zeros(count, 4), choice)

    component = torch.cdist(drawn, prior.mean[0]).argmin(dim=1)
    torch.testing.assert_close(component.bincount() / count, prior.share[0], atol=0.02, rtol=0)


def test_one_class_stands_for_all_labels_where_the_networks_see_none():
    alone = ClassPrior(classes=1, components=1, dims=3)
    noise = torch.ones(2, 3)

    assert torch.equal(alone.draw(torch.tensor([0, 9]), noise), noise)
    assert alone.log_prob(noise, torch.tensor([0, 9])).shape == (2,)


def test_begins_as_the_standard_normal():
    fresh = ClassPrior(classes=2, components=4, dims=3)
    latent = torch.randn(9, 3, generator=torch.Generator().manual_seed(1))
    expected = torch.distributions.Normal(0.0, 1.0).log_prob(latent).sum(dim=1)

    found = fresh.log_prob(latent, torch.arange(9) % 2)
    torch.testing.assert_close(found, expected)
