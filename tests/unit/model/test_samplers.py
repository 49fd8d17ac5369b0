from __future__ import annotations

import numpy as np
import pytest
import torch
from tiny import tiny_model

from datagen.errors import InvalidRequest
from datagen.model.random import normals
from datagen.model.samplers import prior_latents


@pytest.fixture(scope="module")
def model():
    return tiny_model()


@pytest.fixture
def request_of_many():
    random = np.random.default_rng(0)
    return {
        "index": random.integers(0, 2**40, 700),
        "attempt": random.integers(0, 9, 700),
        "labels": random.integers(0, 3, 700),
    }


def picked(request, rows):
    return {name: values[rows] for name, values in request.items()}


def test_latents_follow_the_prior_of_their_label(model):
    index = np.arange(40_000)
    labels = index % 3
    drawn = prior_latents(model, 1, index, np.zeros_like(index), labels, 1.0)

    assert drawn.dtype == np.float32
    for label in range(3):
        own = drawn[labels == label].astype(np.float64)
        scale = model.prior_scale[label].double().numpy()
        np.testing.assert_allclose(own.mean(axis=0), model.prior_mean[label], atol=0.12)
        np.testing.assert_allclose(np.cov(own.T), scale @ scale.T, atol=0.4)


def test_latents_are_what_the_model_draws_from_the_same_noise(model, request_of_many):
    drawn = prior_latents(model, 9, **request_of_many, temperature=0.7)
    noise = normals(9, request_of_many["index"], request_of_many["attempt"], 5)
    expected = model.draw(
        torch.from_numpy(request_of_many["labels"]), torch.from_numpy(noise), temperature=0.7
    )

    np.testing.assert_allclose(drawn, expected.numpy(), atol=1e-5)


def test_latents_do_not_depend_on_order_or_company(model, request_of_many):
    together = prior_latents(model, 9, **request_of_many, temperature=1.0)
    order = np.random.default_rng(1).permutation(700)

    shuffled = prior_latents(model, 9, **picked(request_of_many, order), temperature=1.0)
    np.testing.assert_array_equal(shuffled, together[order])
    for rows in (slice(0, 1), slice(5, 68), slice(699, 700)):
        part = prior_latents(model, 9, **picked(request_of_many, rows), temperature=1.0)
        np.testing.assert_array_equal(part, together[rows])


def test_temperature_scales_the_spread_round_the_mean(model, request_of_many):
    mean = model.prior_mean.numpy()[request_of_many["labels"]]
    full, half, none = (
        prior_latents(model, 9, **request_of_many, temperature=value) for value in (1.0, 0.5, 0.0)
    )

    np.testing.assert_array_equal(none, mean)
    np.testing.assert_allclose(half - mean, 0.5 * (full - mean), atol=1e-5)


def test_another_attempt_draws_another_latent(model, request_of_many):
    first = prior_latents(model, 9, **request_of_many, temperature=1.0)
    request_of_many["attempt"] = request_of_many["attempt"] + 1
    second = prior_latents(model, 9, **request_of_many, temperature=1.0)

    assert not np.any(np.all(first == second, axis=1))


@pytest.mark.parametrize("temperature", [-0.1, float("nan"), float("inf")])
def test_unusable_temperatures_are_refused(model, request_of_many, temperature):
    with pytest.raises(InvalidRequest, match="temperature") as refused:
        prior_latents(model, 9, **request_of_many, temperature=temperature)

    assert refused.value.field == "temperature"
