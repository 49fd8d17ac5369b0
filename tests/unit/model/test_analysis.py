from __future__ import annotations

import numpy as np
import pytest
import torch
from scipy.stats import norm
from tiny import CLASSES, CPU, SHAPE, striped_data, tiny_model

from datagen.model import analysis
from datagen.model.decoding import Decoder
from datagen.model.measures import STROKES


@pytest.fixture
def model():
    return tiny_model(latent_dim=3)


@pytest.fixture
def decoder(model):
    return Decoder(model, CPU)


def test_kl_of_each_dimension_is_that_of_the_posteriors(model):
    data = striped_data(30)
    image, label = data.rows(torch.arange(30))
    space = analysis.latent_space(model, data)

    expected = model.encode(image, label)
    assert space.means == pytest.approx(expected.mean.numpy(), abs=1e-5)
    assert space.kl == pytest.approx(expected.kl_per_dimension().mean(dim=0).numpy(), rel=1e-4)


def test_dimension_that_tells_nothing_has_collapsed(model):
    head = model.encoder.head
    with torch.no_grad():
        for row in (1, 3 + 1):  # mean and logvar of the second dimension
            head.weight[row], head.bias[row] = 0.0, 0.0
    space = analysis.latent_space(model, striped_data(30))

    assert space.collapsed.tolist() == [False, True, False]


def test_points_have_no_kl():
    space = analysis.latent_space(tiny_model(family="autoencoder", latent_dim=3), striped_data(30))

    assert not space.kl.any()
    assert (space.variance > 0).all()


def fitted(model, spreads, components=0):
    """Give a model a prior, or a density, of which the spread along each axis is known."""
    kept = model.density if components else model.prior
    kept.scale.copy_(torch.diag(torch.tensor(spreads)).expand_as(kept.scale))
    return analysis.PrincipalDirections.of(model)


@pytest.mark.parametrize("components", [0, 1])
def test_directions_lead_along_what_varies_most_within_the_labels(components):
    model = tiny_model(latent_dim=3, components=components)
    space = fitted(model, [0.5, 3.0, 1.0], components)

    expected = np.array([[0, 3.0, 0], [0, 0, 1.0], [0.5, 0, 0]])
    np.testing.assert_allclose(space.directions, expected, atol=1e-6)
    kept = model.density if components else model.prior
    np.testing.assert_allclose(space.centres, kept.mean[:, 0].numpy(), atol=1e-6)


def test_directions_of_a_mixture_lead_from_component_to_component():
    model = tiny_model(latent_dim=3, components=2)
    model.density.mean.copy_(torch.tensor([[0.0, 0.0, -4.0], [0.0, 0.0, 4.0]]))
    space = fitted(model, [0.5, 0.5, 0.5], components=2)

    np.testing.assert_allclose(space.centres, 0.0, atol=1e-6)
    np.testing.assert_allclose(space.directions[0], [0, 0, 16.25**0.5], atol=1e-5)


@pytest.mark.parametrize("dims", [1, 2])
def test_latents_of_one_or_two_dimensions_keep_their_axes(dims):
    model = tiny_model(latent_dim=dims)
    space = fitted(model, [0.5, 2.0][:dims])

    np.testing.assert_allclose(space.directions, np.diag([0.5, 2.0][:dims]), atol=1e-6)


def test_directions_of_a_standard_normal_are_its_axes():
    space = fitted(tiny_model(latent_dim=3), [1.0, 1.0, 1.0])

    np.testing.assert_allclose(space.directions, np.eye(3), atol=1e-6)


@pytest.mark.parametrize("family", ["cvae", "vae"])
def test_coordinates_lead_to_latents_and_back(family):
    space = analysis.PrincipalDirections.of(tiny_model(family=family, latent_dim=4))
    labels = np.array([0, 2, 1, 2, 0])
    latents = np.random.default_rng(0).normal(size=(5, 4))
    places = space.coordinates(latents, labels)

    np.testing.assert_allclose(space.latents(places, labels), latents, atol=1e-9)
    few = space.latents(places[:, :2], labels)
    np.testing.assert_allclose(space.coordinates(few, labels)[:, :2], places[:, :2], atol=1e-9)
    np.testing.assert_allclose(space.coordinates(few, labels)[:, 2:], 0.0, atol=1e-9)


def test_quantiles_are_even_in_probability():
    steps = norm.cdf(analysis.quantiles(9))

    assert np.diff(steps) == pytest.approx(np.full(8, np.diff(steps)[0]))
    assert steps[4] == pytest.approx(0.5)


def test_grid_holds_the_plane_and_its_middle_is_the_mean(model, decoder):
    space = analysis.PrincipalDirections.of(model)
    grid = analysis.latent_grid(decoder, space, 1, 3)
    high = analysis.quantiles(3)[2]

    assert grid.shape == (3, 3, *SHAPE)
    # The first direction grows to the right, the second upwards: this is the corner up right.
    corner = space.centres[1] + high * (space.directions[0] + space.directions[1])
    latents = np.stack([space.centres[1], corner])
    middle, expected = analysis.decoded(decoder, latents, np.array([1, 1]))
    assert np.array_equal(grid[1, 1], middle)
    assert np.array_equal(grid[0, 2], expected)


def test_strip_changes_one_direction(model, decoder):
    space = analysis.PrincipalDirections.of(model)
    images = analysis.strip(decoder, space, 0, 2, 5)

    assert images.shape == (5, *SHAPE)
    ends = space.centres[0] + analysis.quantiles(5)[[0, 2, 4], None] * space.directions[2]
    assert np.array_equal(images[[0, 2, 4]], analysis.decoded(decoder, ends, np.zeros(3)))


def test_direction_that_brightens_is_found_out(model, decoder):
    with torch.no_grad():
        for part in model.decoder.parameters():
            part.zero_()
        # The first latent alone reaches the pixels, all of them alike.
        model.decoder.latent.weight[:, 0] = 1.0
        model.decoder.unfold.weight[:, :, 1, 1] = 0.1
        model.decoder.latent.bias.fill_(5.0)

    space = analysis.PrincipalDirections(np.zeros((CLASSES, 3)), np.eye(3))
    labels = np.arange(CLASSES)
    found = analysis.what_it_does(model, decoder, space, 0, labels, 2, 7, seed=1)
    assert list(found) == list(STROKES)
    assert found["brightness"] > 0.7
    idle = analysis.what_it_does(model, decoder, space, 1, labels, 2, 7, seed=1)
    assert idle["brightness"] == 0.0


def test_nearest_are_found_in_all_pieces(monkeypatch):
    monkeypatch.setattr("datagen.model.data.EVALUATION_BATCH", 7)
    data = striped_data(50)
    wanted = data.images[[3, 44]].numpy().copy()
    wanted[1, 0, 0, 0] ^= 1

    rows, apart = analysis.nearest(wanted, data)
    assert rows.tolist() == [3, 44]
    assert apart == pytest.approx([0.0, 1 / 255], abs=1e-5)


def test_class_of_which_nothing_was_fitted_does_not_blur_the_directions():
    model = tiny_model(latent_dim=3)
    model.prior.mean[1], model.prior.scale[1] = 0.0, torch.eye(3)
    space = analysis.PrincipalDirections.of(model)
    model.prior.mean, model.prior.scale = model.prior.mean[[0, 2]], model.prior.scale[[0, 2]]
    model.prior.share = model.prior.share[[0, 2]]

    expected = analysis.PrincipalDirections.of(model).directions
    np.testing.assert_allclose(space.directions, expected, atol=1e-9)
