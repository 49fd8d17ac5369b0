from __future__ import annotations

import numpy as np
import pytest
import torch
from tiny import striped_data, tiny_model

from datagen.errors import Cancelled, InvalidFile
from datagen.model.data import TrainingData
from datagen.model.distributions import DiagonalGaussian
from datagen.model.examples import load_examples, save_examples
from datagen.model.fitting import (
    Posteriors,
    examples_of,
    fit_density,
    fit_mixtures,
    fit_normals,
    fit_prior,
    posteriors,
)
from datagen.model.priors import ClassPrior


def drawn_from(centres, count, seed=0, spread=0.3):
    """Posteriors of two labels: of the first round all centres, of the second round the origin."""
    random = torch.Generator().manual_seed(seed)
    labels = torch.arange(count) % 2
    centre = torch.tensor(centres, dtype=torch.float64)
    mean = centre[torch.randint(len(centres), (count,), generator=random)]
    mean = mean * (labels == 0)[:, None]
    noise = torch.randn(count, mean.shape[1], generator=random, dtype=torch.float64)
    samples = mean + spread * noise
    return Posteriors(mean, torch.full_like(mean, spread), samples, labels, torch.arange(count))


def test_posteriors_are_the_encoders_answers_for_every_image():
    model, data = tiny_model(), striped_data(25)
    found = posteriors(model, data, seed=1)
    image, label = data.rows(torch.arange(25))
    expected = model.encode(image, label)

    assert isinstance(expected, DiagonalGaussian)
    torch.testing.assert_close(found.mean, expected.mean.double())
    torch.testing.assert_close(found.spread, (0.5 * expected.logvar).exp().double())
    assert not torch.equal(found.samples, found.mean)
    assert len(posteriors(model, striped_data(0), seed=1)) == 0


def test_points_have_no_spread():
    found = posteriors(tiny_model(family="autoencoder"), striped_data(9), seed=1)

    assert torch.equal(found.samples, found.mean)
    assert not found.spread.any()


def test_normal_is_the_mean_and_covariance_of_a_classs_samples():
    found, prior = drawn_from([[0.0, 0, 3], [2, 0, 0]], 4000), ClassPrior(2, 1, 3)
    fit_normals(prior, found)

    for number in range(2):
        own = found.samples[found.labels == number]
        share = 3 / (3 + len(own))
        expected = (1 - share) * own.T.cov(correction=0) + share * torch.eye(3)
        scale = prior.scale[number, 0].double()
        torch.testing.assert_close(prior.mean[number, 0].double(), own.mean(0), atol=1e-4, rtol=0)
        torch.testing.assert_close(scale @ scale.T, expected, atol=1e-3, rtol=1e-3)
        assert torch.equal(scale, torch.tril(scale))


@pytest.mark.parametrize("count", [0, 1, 2])
def test_class_with_few_images_can_be_drawn_from(count):
    images = striped_data(20)
    rare = TrainingData(images.images, torch.zeros(20, dtype=torch.int64))
    rare.labels[:count] = 1
    prior = ClassPrior(3, 1, 5)

    fit_normals(prior, posteriors(tiny_model(), rare, seed=1))

    assert prior.scale.isfinite().all()
    assert (torch.linalg.det(prior.scale) > 0).all()
    if count == 0:
        assert torch.equal(prior.scale[1, 0], torch.eye(5))


def test_better_prior_on_held_out_images_is_taken():
    model = tiny_model(latent_dim=3, class_count=2)
    far = drawn_from([[4.0, 0, 0]], 600), drawn_from([[4.0, 0, 0]], 200, seed=1)
    costs = fit_prior(model, *far, None)

    assert next(iter(costs)) == "normal"
    assert costs["normal"] < costs["standard"]
    assert model.prior.mean[0, 0, 0] == pytest.approx(4.0, abs=0.1)


def test_wanted_prior_is_taken_whatever_it_costs():
    model = tiny_model(latent_dim=3, class_count=2)
    far = drawn_from([[4.0, 0, 0]], 600)
    costs = fit_prior(model, far, far, "standard")

    assert next(iter(costs)) == "standard"
    assert costs["normal"] < costs["standard"]
    assert torch.equal(model.prior.mean, torch.zeros(2, 1, 3))


def test_learnt_prior_is_what_training_made_of_it():
    model = tiny_model(latent_dim=3, class_count=2, learnt_prior=True)
    model.prior_mean.weight.copy_(torch.tensor([[4.0, 0, 0], [0, 0, 0]]))
    model.prior_logvar.weight.fill_(-2.0)
    found = drawn_from([[4.0, 0, 0]], 600)
    costs = fit_prior(model, found, found, "learnt")

    assert list(costs) == ["learnt", "normal"]
    torch.testing.assert_close(model.prior.mean[:, 0], model.prior_mean.weight.detach())
    assert model.prior.scale[0, 0, 0, 0] == pytest.approx(np.exp(-1.0))


def test_cost_of_a_prior_is_the_kl_of_the_posteriors():
    model = tiny_model(latent_dim=3, class_count=2)
    found = drawn_from([[1.0, 0, 0]], 40_000, spread=0.5)
    costs = fit_prior(model, found, found, "standard")
    own = DiagonalGaussian(found.mean, 2 * found.spread.log())

    assert costs["standard"] == pytest.approx(float(own.kl().mean()), abs=0.03)


def test_density_takes_the_components_that_held_out_samples_ask_for():
    corners = [[4.0, 0, 0], [-4, 0, 0], [0, 4, 0], [0, -4, 0]]
    model = tiny_model(latent_dim=3, class_count=2)
    costs = fit_density(model, drawn_from(corners, 2000), drawn_from(corners, 600, seed=1), 7)

    assert model.config.components == model.density.component_count == 4
    assert costs[4] < costs[1] - 0.5
    centres = model.density.mean[0].double()
    nearest = torch.cdist(torch.tensor(corners, dtype=torch.float64), centres).min(dim=1).values
    assert nearest.max() < 0.3


def test_class_with_too_few_samples_for_a_mixture_gets_its_normal():
    found = drawn_from([[4.0, 0, 0]], 300)
    few = torch.cat([torch.nonzero(found.labels == 0)[:, 0], torch.tensor([1, 3, 5])])
    rare = Posteriors(
        *(getattr(found, name)[few] for name in ("mean", "spread", "samples", "labels", "numbers"))
    )
    prior, one = ClassPrior(2, 4, 3), ClassPrior(2, 1, 3)
    fit_mixtures(prior, rare, seed=1)
    fit_normals(one, rare)

    assert prior.share[1].tolist() == [1, 0, 0, 0]
    torch.testing.assert_close(prior.mean[1, 0], one.mean[1, 0])
    latent = rare.samples[-3:]
    torch.testing.assert_close(
        prior.log_prob(latent, rare.labels[-3:]), one.log_prob(latent, rare.labels[-3:])
    )


def test_mixtures_are_the_same_for_the_same_seed():
    found = drawn_from([[4.0, 0, 0], [-4, 0, 0]], 800)
    one, two = ClassPrior(2, 4, 3), ClassPrior(2, 4, 3)
    fit_mixtures(one, found, seed=5)
    fit_mixtures(two, found, seed=5)

    assert torch.equal(one.mean, two.mean)
    assert torch.equal(one.scale, two.scale)


def test_examples_are_the_first_of_each_class_and_read_back(tmp_path):
    found = drawn_from([[4.0, 0, 0]], 30)
    kept = examples_of(found, per_class=4)
    path = tmp_path / "examples.safetensors"
    save_examples(path, kept)
    read = load_examples(path, latent_dim=3)

    assert kept.labels.tolist() == [0] * 4 + [1] * 4
    assert kept.rows.tolist() == [0, 2, 4, 6, 1, 3, 5, 7]
    np.testing.assert_array_equal(read.mean, found.mean.numpy()[kept.rows].astype(np.float16))
    assert read.rows.tolist() == kept.rows.tolist()


def test_damaged_examples_are_refused(tmp_path):
    path = tmp_path / "examples.safetensors"
    save_examples(path, examples_of(drawn_from([[4.0, 0, 0]], 30), 5))
    data = path.read_bytes()
    with pytest.raises(InvalidFile, match="do not fit"):
        load_examples(path, latent_dim=4)
    path.write_bytes(data[: len(data) // 2])
    with pytest.raises(InvalidFile, match="damaged"):
        load_examples(path, latent_dim=3)


def test_long_looks_at_images_and_classes_can_be_stopped():
    def check():
        raise Cancelled("told to stop")

    found = drawn_from([[4.0, 0, 0]], 30)
    with pytest.raises(Cancelled):
        posteriors(tiny_model(), striped_data(9), seed=1, check=check)
    with pytest.raises(Cancelled):
        fit_density(tiny_model(latent_dim=3, class_count=2), found, found, 7, check)


def test_held_out_posteriors_have_noise_of_their_own():
    model, data = tiny_model(), striped_data(25)
    learnt, held_out = (posteriors(model, data, seed=1, are_held_out=out) for out in (False, True))

    assert torch.equal(learnt.mean, held_out.mean)
    noise = [(found.samples - found.mean) / found.spread for found in (learnt, held_out)]
    assert abs(float(torch.corrcoef(torch.stack([part.flatten() for part in noise]))[0, 1])) < 0.4


def test_prior_of_few_images_costs_held_out_ones_what_it_does():
    # The KL of a posterior to any prior is positive; with the noise of the training images in their
    # samples the normals that were fitted to it came out negative.
    model = tiny_model(latent_dim=64)
    learnt = posteriors(model, striped_data(120), seed=1)
    held_out = posteriors(model, striped_data(15), seed=1, are_held_out=True)

    assert fit_prior(model, learnt, held_out, None)["normal"] > 0
