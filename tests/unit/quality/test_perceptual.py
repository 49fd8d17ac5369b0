from __future__ import annotations

import pytest
import torch
from tiny import CPU, striped_data, tiny_judge

from datagen.model.training_options import TrainingOptions
from datagen.quality.perceptual import LARGEST_SHIFT, FeatureFit, PerceptualDistance, _shifted


@pytest.fixture(scope="module")
def distance():
    network, data = tiny_judge().requires_grad_(), striped_data(60)
    options = TrainingOptions(feature_epochs=4, batch_size=16)
    fit = FeatureFit(network, data, data.subset(torch.arange(0)), options)
    for number in range(fit.steps):
        fit.step(number)
    return PerceptualDistance.of(network, data, seed=0)


def images(count=6):
    return striped_data(60).rows(torch.arange(count))[0]


def test_image_is_at_no_distance_to_itself(distance):
    assert distance(images(), images(), 0).tolist() == [0.0] * 6


def test_what_looks_like_another_class_is_farther_than_what_looks_like_the_same(distance):
    image, label = striped_data(60).rows(torch.arange(60))
    first, same, other = (
        image[torch.nonzero(mask)[:4, 0]]
        for mask in (label == 0, (label == 0) & (torch.arange(60) > 20), label == 1)
    )
    assert float(distance(first, other, 0).mean()) > float(distance(first, same, 0).mean())


def test_gradients_go_to_the_reconstruction_alone(distance):
    image = images().requires_grad_()
    reconstruction = images().mul(0.5).requires_grad_()
    distance(image, reconstruction, 0).sum().backward()

    assert image.grad is None
    assert float(reconstruction.grad.abs().sum()) > 0
    assert all(not weight.requires_grad for weight in distance.network.parameters())


def test_distance_depends_on_images_and_step_alone(distance):
    image, other = images(), images().flip(-1)
    found = distance(image, other, 3)

    assert torch.equal(found, distance(image, other, 3))
    torch.testing.assert_close(found[:2], distance(image[:2], other[:2], 3), atol=0.01, rtol=0.01)
    assert len({tuple(distance(image, other, step).tolist()) for step in range(8)}) > 1


def test_shift_repeats_the_edge_and_keeps_the_shape():
    image = torch.arange(6.0).view(1, 1, 2, 3)

    assert torch.equal(_shifted(image, 0, 0), image)
    assert _shifted(image, 1, 0)[0, 0].tolist() == [[0, 0, 1], [3, 3, 4]]
    assert _shifted(image, 0, 1)[0, 0].tolist() == [[0, 1, 2], [0, 1, 2]]
    assert _shifted(image, LARGEST_SHIFT, LARGEST_SHIFT).shape == image.shape


def test_layers_that_are_silent_do_not_divide_by_nothing():
    network = tiny_judge()
    for weight in network.parameters():
        weight.data.zero_()
    distance = PerceptualDistance.of(network, striped_data(8), seed=0)

    assert distance(images(), images().flip(-1), 0).isfinite().all()


def test_stage_has_a_name_and_a_length_of_its_own():
    options = TrainingOptions(feature_epochs=3, judge_epochs=9, batch_size=16)
    data = striped_data(32)
    fit = FeatureFit(tiny_judge(), data, data, options)

    assert (fit.name, fit.steps, set(fit.modules)) == ("features", 6, {"features"})
    assert fit.end_epoch([])["validation_accuracy"] <= 1.0
    assert data.device == CPU
