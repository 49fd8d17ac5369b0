from __future__ import annotations

import numpy as np
import pytest

from datagen.quality.distance import frechet, frechet_distance, kernel, kernel_distance


def normal(count=20_000, dims=4, seed=0):
    return np.random.default_rng(seed).standard_normal((count, dims))


def test_same_features_are_at_no_distance():
    features = normal()

    assert frechet_distance(features, features) == pytest.approx(0.0, abs=1e-9)


def test_shifted_normals_are_apart_by_the_square_of_the_shift():
    assert frechet_distance(normal(), normal() + 3.0) == pytest.approx(4 * 9.0)


def test_scaled_normals_are_apart_by_the_squares_of_the_scales():
    # For one dimension: (s1 - s2)^2, and dimensions add up.
    assert frechet_distance(normal(), 3.0 * normal()) == pytest.approx(4 * 4.0, rel=0.02)


def test_turned_covariances_are_distinguished_by_the_closed_form():
    random = np.random.default_rng(1)
    one = normal(50_000) @ random.standard_normal((4, 4))
    two = normal(50_000, seed=2) @ random.standard_normal((4, 4))
    c1, c2 = np.cov(one, rowvar=False), np.cov(two, rowvar=False)
    values = np.linalg.eigvals(c1 @ c2)
    expected = np.trace(c1) + np.trace(c2) - 2 * np.sqrt(values.real).sum()
    expected += np.square(one.mean(0) - two.mean(0)).sum()

    assert frechet_distance(one, two) == pytest.approx(expected, rel=1e-6)
    assert frechet_distance(two, one) == pytest.approx(expected, rel=1e-6)


def test_features_that_never_change_are_no_trouble():
    flat = normal()
    flat[:, 2] = 1.0

    assert frechet_distance(flat, flat) == pytest.approx(0.0, abs=1e-9)


def test_kernel_distance_of_one_distribution_is_zero_on_average():
    drawn = [
        kernel_distance(normal(200, seed=seed), normal(300, seed=1000 + seed)) for seed in range(60)
    ]

    assert abs(np.mean(drawn)) < 4 * np.std(drawn) / len(drawn) ** 0.5


def test_kernel_distance_is_that_of_its_definition():
    one, two = normal(5), normal(4, seed=1)

    def k(a, b):
        return (a @ b / 4 + 1) ** 3

    within = [
        np.mean([k(s[i], s[j]) for i in range(len(s)) for j in range(len(s)) if i != j])
        for s in (one, two)
    ]
    between = np.mean([k(a, b) for a in one for b in two])

    assert kernel_distance(one, two) == pytest.approx(sum(within) - 2 * between)


@pytest.mark.parametrize("measure", [frechet, kernel])
def test_interval_holds_the_value_and_grows_with_fewer_images(measure):
    many, few = (
        measure(normal(count, seed=1), normal(count, seed=2) + 0.5) for count in (4000, 250)
    )

    for found in (many, few):
        assert found.low <= found.value <= found.high
    assert few.high - few.low > many.high - many.low
    assert measure(normal(900), normal(900, seed=3)) == measure(normal(900), normal(900, seed=3))


def test_interval_tells_a_distance_from_none():
    far = frechet(normal(3000, seed=1), normal(3000, seed=2) + 0.3)
    floor = frechet(normal(3000, seed=1), normal(3000, seed=2))

    assert far.low > floor.high
