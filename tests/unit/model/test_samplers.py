from __future__ import annotations

import numpy as np
import pytest
import torch
from tiny import tiny_model

from datagen.errors import InvalidRequest
from datagen.model.examples import Examples
from datagen.model.random import normals
from datagen.model.samplers import SAMPLERS, WIDENING, Sampling, draw_latents, truncated


@pytest.fixture(scope="module")
def model():
    return tiny_model(components=4)


@pytest.fixture(scope="module")
def examples():
    random = np.random.default_rng(3)
    labels = np.repeat([0, 1, 2], [40, 30, 1])
    return Examples(
        mean=random.normal(size=(71, 5)).astype(np.float16),
        spread=random.uniform(0.1, 0.5, (71, 5)).astype(np.float16),
        labels=labels,
        rows=np.arange(1000, 1071),
    )


@pytest.fixture
def request_of_many():
    random = np.random.default_rng(0)
    return {
        "index": random.integers(0, 2**40, 700),
        "attempt": random.integers(0, 9, 700),
        "labels": random.integers(0, 3, 700),
    }


def prior_latents(model, seed, index, attempt, labels, temperature):
    sampling = Sampling(temperature=temperature)
    return draw_latents(model, sampling, seed, index, attempt, labels).latents


def picked(request, rows):
    return {name: values[rows] for name, values in request.items()}


def test_latents_follow_the_prior_of_their_label(model):
    index = np.arange(40_000)
    labels = index % 3
    drawn = prior_latents(model, 1, index, np.zeros_like(index), labels, 1.0)

    assert drawn.dtype == np.float32
    for label in range(3):
        own = drawn[labels == label].astype(np.float64)
        scale = model.prior.scale[label, 0].double().numpy()
        np.testing.assert_allclose(own.mean(axis=0), model.prior.mean[label, 0], atol=0.12)
        np.testing.assert_allclose(np.cov(own.T), scale @ scale.T, atol=0.4)


def test_latents_are_what_the_model_draws_from_the_same_noise(model, request_of_many):
    drawn = prior_latents(model, 9, **request_of_many, temperature=1.0)
    noise = normals(9, request_of_many["index"], request_of_many["attempt"], 5)
    expected = model.draw(torch.from_numpy(request_of_many["labels"]), torch.from_numpy(noise))

    np.testing.assert_allclose(drawn, expected.numpy(), atol=1e-5)


@pytest.mark.parametrize("sampler", SAMPLERS)
def test_latents_do_not_depend_on_order_or_company(model, examples, request_of_many, sampler):
    def drawn(request):
        sampling = Sampling(sampler, 1.0, 2.0)
        found = draw_latents(model, sampling, 9, **request, examples=examples)
        return np.concatenate([found.latents, found.sources], axis=1)

    together = drawn(request_of_many)
    order = np.random.default_rng(1).permutation(700)

    np.testing.assert_array_equal(drawn(picked(request_of_many, order)), together[order])
    for rows in (slice(0, 1), slice(5, 68), slice(699, 700)):
        np.testing.assert_array_equal(drawn(picked(request_of_many, rows)), together[rows])


def test_temperature_scales_the_spread_round_the_mean(model, request_of_many):
    mean = model.prior.mean[:, 0].numpy()[request_of_many["labels"]]
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
def test_unusable_temperatures_are_refused(temperature):
    with pytest.raises(InvalidRequest, match="temperature") as refused:
        Sampling(temperature=temperature)

    assert refused.value.field == "temperature"


@pytest.mark.parametrize("truncation", [0.0, -1.0, float("nan")])
def test_unusable_truncations_are_refused(truncation):
    with pytest.raises(InvalidRequest) as refused:
        Sampling(truncation=truncation)

    assert refused.value.field == "truncation"


def test_unknown_sampler_is_refused_and_the_known_ones_named():
    with pytest.raises(InvalidRequest, match="prior, density, neighbour, interpolate"):
        Sampling("postprior")


def test_truncated_normals_stay_within_the_bound_and_keep_their_order():
    noise = np.sort(normals(3, np.arange(4000), np.zeros(4000, np.int64), 1)[:, 0].astype(float))
    cut = truncated(noise, 1.5)

    assert np.abs(cut).max() <= 1.5
    assert np.all(np.diff(cut) >= 0)
    # A normal cut off at 1.5 has a variance of 0.5523.
    assert cut.var() == pytest.approx(0.5523, abs=0.02)


def test_density_chooses_components_by_their_shares(model):
    index = np.arange(20_000)
    labels = np.zeros_like(index)
    model.density.share[0] = torch.tensor([0.1, 0.6, 0.0, 0.3])
    drawn = draw_latents(model, Sampling("density", 0.0), 4, index, labels, labels).latents

    centres = model.density.mean[0].numpy()
    chosen = np.abs(drawn[:, None] - centres).sum(axis=2).argmin(axis=1)
    np.testing.assert_allclose(
        np.bincount(chosen, minlength=4) / 20_000, [0.1, 0.6, 0, 0.3], atol=0.02
    )


def test_neighbour_is_a_widened_posterior_of_a_real_example_of_the_label(model, examples):
    index = np.arange(3000)
    labels, zero = index % 2, np.zeros_like(index)
    exact = draw_latents(model, Sampling("neighbour", 0.0), 4, index, zero, labels, examples)
    drawn = draw_latents(model, Sampling("neighbour"), 4, index, zero, labels, examples)

    number = exact.sources[:, 0] - 1000
    np.testing.assert_array_equal(examples.labels[number], labels)
    np.testing.assert_array_equal(exact.latents, examples.mean[number].astype(np.float32))
    assert len(np.unique(number)) == 70
    wide = np.sqrt(examples.spread[number].astype(float) ** 2 + WIDENING**2)
    assert ((drawn.latents - exact.latents) / wide).std() == pytest.approx(1.0, abs=0.03)
    assert np.all(drawn.sources[:, 1] == -1)


def test_interpolation_lies_between_two_different_examples_of_the_label(model, examples):
    index = np.arange(500)
    labels, zero = index % 2, np.zeros_like(index)
    found = draw_latents(model, Sampling("interpolate", 0.0), 4, index, zero, labels, examples)

    first, second = (examples.mean[found.sources[:, i] - 1000].astype(float) for i in (0, 1))
    assert np.all(found.sources[:, 0] != found.sources[:, 1])
    assert np.all(examples.labels[found.sources - 1000] == labels[:, None])
    low, high = np.minimum(first, second), np.maximum(first, second)
    assert np.all((found.latents >= low - 1e-3) & (found.latents <= high + 1e-3))


def test_label_with_one_example_interpolates_with_itself(model, examples):
    index, labels = np.arange(4), np.full(4, 2)
    found = draw_latents(model, Sampling("interpolate", 0.0), 4, index, index, labels, examples)

    np.testing.assert_array_equal(found.sources, np.full((4, 2), 1070))


def test_samplers_without_what_they_need_are_refused(model, examples):
    zero = np.zeros(1, np.int64)
    few = Examples(
        examples.mean[40:], examples.spread[40:], examples.labels[40:], examples.rows[40:]
    )
    for sampling, own, kept in (
        (Sampling("density"), tiny_model(), examples),
        (Sampling("neighbour"), model, None),
        (Sampling("neighbour"), model, few),
    ):
        with pytest.raises(InvalidRequest) as refused:
            draw_latents(own, sampling, 0, zero, zero, zero, kept)
        assert refused.value.field == "sampler"


@pytest.mark.parametrize("strength", [-0.1, 1.1, float("nan")])
def test_unusable_strengths_are_refused(strength):
    with pytest.raises(InvalidRequest, match="from 0 to 1") as refused:
        Sampling("neighbour", strength=strength)

    assert refused.value.field == "strength"


@pytest.mark.parametrize("flow_width", [0, 16])
def test_strength_goes_from_the_real_image_to_what_has_nothing_to_do_with_it(
    examples, request_of_many, flow_width
):
    model = tiny_model(1, flow_width=flow_width)

    def drawn(sampler, **sampling):
        return draw_latents(
            model, Sampling(sampler, **sampling), 9, **request_of_many, examples=examples
        )

    def distance(strength):
        found = drawn("neighbour", strength=strength)
        real = examples.mean.astype(np.float64)[found.sources[:, 0] - 1000]
        return np.abs(found.latents - real).mean()

    sources = drawn("neighbour", strength=0.5).sources
    assert np.array_equal(sources, drawn("neighbour").sources)
    assert distance(0.0) < 1e-5
    assert distance(0.2) < distance(0.6) < distance(1.0)
    np.testing.assert_allclose(
        drawn("neighbour", strength=1.0).latents, drawn("prior").latents, atol=1e-5
    )
