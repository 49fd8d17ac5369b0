from __future__ import annotations

import numpy as np
import pytest
import torch
from tiny import CPU, striped_data, tiny_judge, tiny_model

from datagen.work.evaluation import (
    Accuracy,
    best_first,
    gate_for,
    hidden,
    pixel_variance,
    reconstruction_error,
)


def test_pixel_variance_is_the_mean_over_pixels_of_the_variance_over_images():
    images = np.zeros((2, 1, 1, 2), dtype=np.uint8)
    images[1, 0, 0, 0] = 10

    assert pixel_variance(images) == 12.5
    assert pixel_variance(images[:0]) == 0.0


@pytest.mark.parametrize(
    ("values", "held_out", "expected"),
    [
        # Within a standard error of the best, the order that they come in counts.
        ((0.80, 0.82, 0.40), 100, ["prior", "neighbour", "density"]),
        ((0.80, 0.82, 0.40), 9000, ["neighbour", "prior", "density"]),
        ((0.10, 0.20, 0.90), 100, ["density", "neighbour", "prior"]),
        # Nothing is held out.
        ((), 0, ["prior", "neighbour", "density"]),
    ],
)
def test_samplers_come_in_the_order_of_what_they_teach(values, held_out, expected):
    samplers = ["prior", "neighbour", "density"]
    found = {name: Accuracy(value, 0.0) for name, value in zip(samplers, values, strict=False)}
    assert best_first(samplers, found, held_out) == expected


def test_gate_asks_for_a_score_where_every_label_passes_often_enough():
    assert gate_for([0.9, None, 0.25]).min_score == 0.5
    assert gate_for([0.9, None, 0.24]).min_score == 0.0
    assert gate_for([0.9, None, 0.24]).reject_copies


def test_features_do_not_depend_on_how_many_images_are_looked_at(monkeypatch):
    judge = tiny_judge()
    images = np.random.default_rng(0).integers(0, 256, (20, 1, 9, 7), dtype=np.uint8)
    whole = hidden(judge, images, CPU)
    monkeypatch.setattr("datagen.work.evaluation.looked_at_once", lambda _: 6)

    assert whole.shape == (20, judge.config.feature_count)
    np.testing.assert_allclose(hidden(judge, images, CPU), whole, atol=1e-5)


def test_reconstruction_error_is_the_mean_difference_to_what_posterior_means_decode_to():
    data, model = striped_data(30), tiny_model()
    image, label = data.rows(torch.arange(30))
    mean = model.encode(image, label).mean
    expected = float((torch.sigmoid(model.decode(mean, label)) - image).abs().mean())

    assert reconstruction_error(model, data, 0) == pytest.approx(expected, abs=2e-3)
    assert reconstruction_error(model, data.subset(torch.arange(0)), 0) is None
