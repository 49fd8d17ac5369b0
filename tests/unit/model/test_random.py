from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from datagen.model.random import normals, philox, uniforms

# The known answers that ship with Random123, its authors' own library.
KNOWN = [
    (
        "00000000 00000000 00000000 00000000",
        "00000000 00000000",
        "6627e8d5 e169c58d bc57ac4c 9b00dbd8",
    ),
    (
        "ffffffff ffffffff ffffffff ffffffff",
        "ffffffff ffffffff",
        "408f276d 41c83b0e a20bc7c6 6d5451fd",
    ),
    (
        "243f6a88 85a308d3 13198a2e 03707344",
        "a4093822 299f31d0",
        "d16cfe09 94fdcceb 5001e420 24126ea1",
    ),
]


# Drawn when the noise was first written.
PINNED = [
    [-1.2845248, -0.1814561, -0.2422919, 0.8049075, 0.7195010],
    [0.3404344, 0.4499088, -0.3835320, -0.9912013, -0.7492623],
]


def words(text):
    return [int(word, 16) for word in text.split()]


@pytest.mark.parametrize(("counter", "key", "answer"), KNOWN)
def test_philox_gives_the_known_answers(counter, key, answer):
    found = philox(np.array(words(counter), dtype=np.uint64), tuple(words(key)))

    assert found.tolist() == words(answer)


def test_philox_answers_each_counter_of_an_array_alike():
    counters = np.array([words(counter) for counter, _, _ in KNOWN], dtype=np.uint64)

    together = philox(np.stack([counters, counters[::-1]]), (1, 2))

    assert together.shape == (2, 3, 4)
    for row in range(3):
        np.testing.assert_array_equal(together[0, row], philox(counters[row], (1, 2)))
        np.testing.assert_array_equal(together[1, 2 - row], philox(counters[row], (1, 2)))


def test_normals_are_standard_and_independent():
    index = np.arange(40_000)
    drawn = normals(7, index, np.zeros_like(index), 6).astype(np.float64)

    assert drawn.shape == (40_000, 6)
    np.testing.assert_allclose(drawn.mean(axis=0), 0, atol=0.03)
    np.testing.assert_allclose(np.cov(drawn.T), np.eye(6), atol=0.04)
    np.testing.assert_allclose((drawn**4).mean(axis=0), 3, atol=0.2)
    assert abs(np.corrcoef(drawn[:-1, 0], drawn[1:, 0])[0, 1]) < 0.02


def test_normals_are_float32_and_finite():
    drawn = normals(0, np.arange(100), np.zeros(100, dtype=np.int64), 16)

    assert drawn.dtype == np.float32
    assert np.isfinite(drawn).all()


@settings(deadline=None)
@given(
    seed=st.integers(0, 2**64 - 1),
    pairs=st.lists(
        st.tuples(st.integers(0, 2**63 - 1), st.integers(0, 2**16 - 1)), min_size=1, max_size=40
    ),
    count=st.integers(1, 37),
    data=st.data(),
)
def test_normals_of_an_image_depend_on_its_counters_alone(seed, pairs, count, data):
    index, attempt = (np.array(column, dtype=np.int64) for column in zip(*pairs, strict=True))
    together = normals(seed, index, attempt, count)
    order = np.array(data.draw(st.permutations(range(len(pairs)))))

    np.testing.assert_array_equal(
        normals(seed, index[order], attempt[order], count), together[order]
    )
    for row in range(len(pairs)):
        alone = normals(seed, index[row : row + 1], attempt[row : row + 1], count)
        np.testing.assert_array_equal(alone[0], together[row])


def test_first_normals_do_not_depend_on_how_many_are_drawn():
    index, attempt = np.arange(50), np.zeros(50, dtype=np.int64)

    np.testing.assert_array_equal(
        normals(3, index, attempt, 5), normals(3, index, attempt, 64)[:, :5]
    )


def test_seed_index_and_attempt_each_change_the_normals():
    zero, one, high = np.array([0]), np.array([1]), np.array([2**32])
    drawn = [
        normals(0, zero, zero, 8),
        normals(1, zero, zero, 8),
        normals(2**32, zero, zero, 8),
        normals(0, one, zero, 8),
        normals(0, high, zero, 8),
        normals(0, zero, one, 8),
    ]

    assert len({row.tobytes() for row in drawn}) == len(drawn)


def test_normals_stay_what_they_were():
    """Jobs of earlier versions are made again from their seed, so the numbers must not move."""
    drawn = normals(2026, np.array([0, 5_000_000_000]), np.array([0, 3]), 5)

    np.testing.assert_allclose(drawn, PINNED, atol=1e-6)


def test_uniforms_come_from_their_counters_and_do_not_depend_on_normals():
    index = np.arange(5000)
    attempt = np.zeros_like(index)
    drawn = uniforms(7, index, attempt, 3)

    np.testing.assert_array_equal(uniforms(7, index[10:20], attempt[:10], 2), drawn[10:20, :2])
    assert drawn.min() > 0
    assert drawn.max() < 1
    np.testing.assert_allclose(drawn.mean(axis=0), 0.5, atol=0.02)
    np.testing.assert_allclose(drawn.var(axis=0), 1 / 12, atol=0.003)
    noise = normals(7, index, attempt, 3)
    assert np.abs(np.corrcoef(drawn.T, noise.T)[:3, 3:]).max() < 0.05
