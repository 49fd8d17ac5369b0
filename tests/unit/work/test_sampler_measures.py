from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import pytest
from tiny import CPU, tiny_judge

from datagen.model.samplers import Sampling
from datagen.work import sampler_measures
from datagen.work.sampler_measures import Measured, gate_for, hidden, pixel_variance


def test_pixel_variance_is_the_mean_over_pixels_of_the_variance_over_images():
    images = np.zeros((2, 1, 1, 2), dtype=np.uint8)
    images[1, 0, 0, 0] = 10

    assert pixel_variance(images) == 12.5
    assert pixel_variance(images[:0]) == 0.0


@pytest.mark.parametrize(
    ("copied", "scores", "expected"),
    [
        (np.zeros(40), np.ones(40), True),
        # All of the second label are copies, and few of the first.
        (np.repeat([0, 1], 20), np.ones(40), False),
        (np.r_[np.zeros(20), np.ones(18), 0, 0], np.ones(40), True),
        (np.ones(40), np.ones(40), False),
        # The judge is sure of none of the second label: the gate asks for no score.
        (np.zeros(40), np.repeat([1.0, 0.2], 20), True),
    ],
)
def test_sampler_is_usable_where_enough_of_every_label_pass_its_gate(copied, scores, expected):
    measured = Measured(
        sampling=Sampling("prior"),
        agreement=[1.0, 0.9],
        variance=[1.0, 1.0],
        copy_rate=float(copied.mean()),
        images=np.zeros((40, 1, 2, 2), dtype=np.uint8),
        labels=np.repeat([0, 1], 20),
        scores=scores,
        copied=copied.astype(bool),
    )
    assert measured.is_usable is expected
    assert (measured.gate.min_score == 0.5) == (scores.min() >= 0.5 or scores[-3] == 1.0)


def test_gate_asks_for_a_score_where_every_label_passes_often_enough():
    assert gate_for([0.9, None, 0.25]).min_score == 0.5
    assert gate_for([0.9, None, 0.24]).min_score == 0.0
    assert gate_for([0.9, None, 0.24]).reject_copies


def test_features_do_not_depend_on_how_many_images_are_looked_at(monkeypatch):
    judge = tiny_judge()
    images = np.random.default_rng(0).integers(0, 256, (20, 1, 9, 7), dtype=np.uint8)
    whole = hidden(judge, images, CPU)
    monkeypatch.setattr("datagen.work.sampler_measures.looked_at_once", lambda _: 6)

    assert whole.shape == (20, judge.config.feature_count)
    np.testing.assert_allclose(hidden(judge, images, CPU), whole, atol=1e-5)


def test_few_images_of_many_labels_are_drawn_together(monkeypatch):
    monkeypatch.setattr(sampler_measures, "MEASURED_PER_CLASS", 100)
    train = SimpleNamespace(image_shape=(1, 8, 8))
    context = SimpleNamespace(train=train, known=list(range(10)))

    assert [len(group) for group in sampler_measures.groups(context, 100)] == [1] * 10
    assert [len(group) for group in sampler_measures.groups(context, 30)] == [3, 3, 3, 1]


@pytest.mark.parametrize(
    ("steps", "labels", "shape", "expected"),
    [
        (300, 10, (1, 8, 8), 480),
        (300, 2, (1, 8, 8), 1000),
        (300, 500, (1, 8, 8), 9),
        (300, 5000, (1, 8, 8), 4),
        (5, 10, (1, 8, 8), 8),
        (300, 2, (3, 1024, 1024), 21),
    ],
)
def test_images_that_are_measured_are_worth_the_steps_of_a_classifier(
    steps, labels, shape, expected
):
    context = SimpleNamespace(
        steps=steps, known=list(range(labels)), train=SimpleNamespace(image_shape=shape)
    )
    assert sampler_measures.measured_per_class(context) == expected
