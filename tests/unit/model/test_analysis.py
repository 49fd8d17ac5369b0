from __future__ import annotations

import numpy as np
import pytest
import torch
from scipy.stats import norm
from tiny import CLASSES, CPU, SHAPE, striped_data, tiny_model

from datagen.model import analysis
from datagen.model.decoding import Decoder
from datagen.model.measures import NAMES


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
    assert list(space.order) == list(np.argsort(-space.kl))


def test_dimension_that_tells_nothing_has_collapsed(model):
    head = model.encoder.head
    with torch.no_grad():
        for row in (1, 3 + 1):  # mean and logvar of the second dimension
            head.weight[row], head.bias[row] = 0.0, 0.0
    space = analysis.latent_space(model, striped_data(30))

    assert space.collapsed.tolist() == [False, True, False]
    assert space.order[-1] == 1


def test_points_have_no_kl_and_are_ordered_by_their_variance():
    space = analysis.latent_space(tiny_model(family="autoencoder", latent_dim=3), striped_data(30))

    assert not space.kl.any()
    assert list(space.order) == list(np.argsort(-space.variance))


def test_quantiles_are_even_in_probability():
    steps = norm.cdf(analysis.quantiles(9))

    assert np.diff(steps) == pytest.approx(np.full(8, np.diff(steps)[0]))
    assert steps[4] == pytest.approx(0.5)


def test_grid_holds_the_plane_and_its_middle_is_the_mean(model, decoder):
    grid = analysis.latent_grid(model, decoder, 1, (2, 0), 3)
    centre, spread = analysis.centre_and_spread(model, 1)
    low, high = analysis.quantiles(3)[[0, 2]]
    corner = centre.copy()
    corner[2] += spread[2] * high
    corner[0] += spread[0] * low

    assert grid.shape == (3, 3, *SHAPE)
    # The first dimension grows to the right, the second upwards: this is the corner down right.
    latents = np.stack([centre, corner])
    middle, expected = analysis.decoded(decoder, latents, np.array([1, 1]))
    assert np.array_equal(grid[1, 1], middle)
    assert np.array_equal(grid[2, 2], expected)


def test_strip_changes_one_dimension(model, decoder):
    images = analysis.strip(model, decoder, 0, 2, 5)
    centre, _ = analysis.centre_and_spread(model, 0)

    assert images.shape == (5, *SHAPE)
    assert np.array_equal(images[2], analysis.decoded(decoder, centre[None], np.zeros(1))[0])


def test_dimension_that_brightens_is_found_out(model, decoder):
    with torch.no_grad():
        for part in model.decoder.parameters():
            part.zero_()
        # The first latent alone reaches the pixels, all of them alike.
        model.decoder.latent.weight[:, 0] = 1.0
        model.decoder.unfold.weight[:, :, 1, 1] = 0.1
        model.decoder.latent.bias.fill_(5.0)

    found = analysis.what_it_does(model, decoder, 0, np.arange(CLASSES), 2, 7, seed=1)
    assert list(found) == list(NAMES)
    assert found["brightness"] > 0.7
    idle = analysis.what_it_does(model, decoder, 1, np.arange(CLASSES), 2, 7, seed=1)
    assert idle["brightness"] == 0.0


def test_nearest_are_found_in_all_pieces(monkeypatch):
    monkeypatch.setattr("datagen.model.data.EVALUATION_BATCH", 7)
    data = striped_data(50)
    wanted = data.images[[3, 44]].numpy().copy()
    wanted[1, 0, 0, 0] ^= 1

    rows, apart = analysis.nearest(wanted, data)
    assert rows.tolist() == [3, 44]
    assert apart == pytest.approx([0.0, 1 / 255], abs=1e-5)
