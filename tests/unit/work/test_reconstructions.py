from __future__ import annotations

import numpy as np
import pytest
import torch
from tiny import striped_data, tiny_model

from datagen.work.reconstructions import looked_at, reconstruction_error


def test_reconstruction_error_is_the_mean_difference_to_what_posterior_means_decode_to():
    data, model = striped_data(30), tiny_model()
    image, label = data.rows(torch.arange(30))
    mean = model.encode(image, label).mean
    expected = float((torch.sigmoid(model.decode(mean, label)) - image).abs().mean())

    assert reconstruction_error(model, data, 0) == pytest.approx(expected, abs=2e-3)
    assert reconstruction_error(model, data.subset(torch.arange(0)), 0) is None


def test_images_that_are_looked_at_stand_beside_what_they_decode_to(monkeypatch):
    data, model = striped_data(30), tiny_model()
    monkeypatch.setattr("datagen.work.reconstructions.LOOKED_AT", 10)
    images, pictures = looked_at(model, data, 0)

    assert images.shape == pictures.shape == (10, *data.images.shape[1:])
    apart = np.abs(images.astype(int) - pictures).mean() / 255
    chosen = data.subset(torch.linspace(0, 29, 10).long())
    assert apart == pytest.approx(reconstruction_error(model, chosen, 0), abs=1e-6)
