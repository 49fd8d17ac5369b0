from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from tiny import tiny_model

from datagen.model.networks import count_parameters, standard_noise
from datagen.model.objective import negative_elbo
from datagen.model.refinement import Discriminator

SHAPES = st.tuples(st.sampled_from([1, 3]), st.integers(1, 40), st.integers(1, 40))


@settings(deadline=None, max_examples=30)
@given(shape=SHAPES, stride=st.integers(1, 6), classes=st.integers(1, 4))
def test_any_height_width_and_channels_pass_forward_and_back(shape, stride, classes):
    model = tiny_model(image_shape=shape, stride=stride, class_count=classes)
    model.train().requires_grad_()
    random = torch.Generator().manual_seed(1)
    image = torch.rand(2, *shape, generator=random)
    label = torch.randint(classes, (2,), generator=random)

    likelihood, posterior = model(image, label, torch.randn(2, 5, generator=random))
    terms = negative_elbo(likelihood, image, posterior)
    terms.loss.backward()

    assert likelihood.logits.shape == image.shape
    assert posterior.mean.shape == posterior.logvar.shape == (2, 5)
    assert terms.loss.isfinite()
    for name, weight in model.named_parameters():
        assert weight.grad is not None, name
        assert weight.grad.isfinite().all(), name


@settings(deadline=None, max_examples=30)
@given(
    shape=SHAPES,
    stride=st.sampled_from([1, 2, 4]),
    levels=st.integers(1, 3),
    detail_width=st.sampled_from([0, 4]),
)
def test_multi_scale_networks_take_any_height_width_and_channels(
    shape, stride, levels, detail_width
):
    model = tiny_model(
        image_shape=shape,
        stride=2 * stride,
        levels=levels,
        detail_width=detail_width,
        transform_condition=True,
    )
    model.train().requires_grad_()
    random = torch.Generator().manual_seed(1)
    image, label = torch.rand(2, *shape, generator=random), torch.tensor([0, 2])
    noise, transform = torch.randn(2, 5, generator=random), torch.rand(2, 5, generator=random)

    likelihood, posterior = model(image, label, noise, transform)
    negative_elbo(likelihood, image, posterior).loss.backward()

    assert likelihood.logits.shape == image.shape
    assert posterior.mean.shape == posterior.logvar.shape == (2, 5)
    for name, weight in model.named_parameters():
        assert weight.grad is not None, name
        assert weight.grad.isfinite().all(), name


@pytest.mark.parametrize("levels", [0, 2])
def test_no_transform_is_a_transform_by_nothing(levels):
    model = tiny_model(levels=levels, stride=2, transform_condition=True)
    image, label = torch.full((2, 1, 9, 7), 0.5), torch.tensor([0, 1])
    plain = model.encode(image, label).mean
    pixels = model.decode(plain, label)

    assert torch.equal(plain, model.encode(image, label, torch.zeros(2, 5)).mean)
    assert not torch.equal(plain, model.encode(image, label, torch.ones(2, 5)).mean)
    assert torch.equal(pixels, model.decode(plain, label, torch.zeros(2, 5)))
    assert not torch.equal(pixels, model.decode(plain, label, torch.ones(2, 5)))


@settings(deadline=None, max_examples=20)
@given(shape=SHAPES)
def test_discriminator_takes_any_height_width_and_channels(shape):
    discriminator = Discriminator(tiny_model(image_shape=shape).config, width=4)

    scores = discriminator(torch.rand(3, *shape), torch.tensor([0, 1, 2]))

    assert scores.shape == (3,)
    assert scores.isfinite().all()


@pytest.mark.parametrize("corner", [(0, 0), (0, -1), (-1, 0), (-1, -1)])
def test_every_corner_reaches_the_latent(corner):
    model = tiny_model(seed=2)
    image, label = torch.full((1, 1, 9, 7), 0.5), torch.tensor([1])
    changed = image.clone()
    changed[0, 0, corner[0], corner[1]] = 1.0

    assert not torch.equal(model.encode(image, label).mean, model.encode(changed, label).mean)


def test_label_reaches_both_latent_and_image():
    model = tiny_model()
    image = torch.full((2, 1, 9, 7), 0.5)
    labels = torch.tensor([0, 1])

    mean = model.encode(image, labels).mean
    logits = model.decode(torch.zeros(2, 5), labels)

    assert not torch.equal(mean[0], mean[1])
    assert not torch.equal(logits[0], logits[1])


def test_more_residual_blocks_have_more_weights():
    few, many = (count_parameters(tiny_model(blocks=blocks)) for blocks in (0, 3))

    assert many > few > 0


def test_standard_noise_comes_from_the_generator_it_is_given():
    before = torch.random.get_rng_state()
    like = torch.empty(4, 3)
    drawn = [standard_noise(like, torch.Generator().manual_seed(8)) for _ in range(2)]

    assert torch.equal(drawn[0], drawn[1])
    assert drawn[0].shape == like.shape
    assert torch.equal(torch.random.get_rng_state(), before)
