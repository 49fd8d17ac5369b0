from __future__ import annotations

import subprocess
import sys

import numpy as np
import pytest

from datagen.quality import prdc as room
from datagen.quality.prdc import nearest_neighbours, prdc


def points(count, seed=0, dims=6):
    return np.random.default_rng(seed).standard_normal((count, dims)).astype(np.float32)


def reference(real, made, k):
    """The definitions, pair by pair."""

    def apart(one, two):
        return np.linalg.norm(one[:, None].astype(float) - two[None].astype(float), axis=2)

    reach = np.sort(apart(real, real), axis=1)[:, k]
    own = np.sort(apart(made, made), axis=1)[:, k]
    between = apart(made, real)
    inside = between <= reach[None]
    return (
        inside.any(axis=1).mean(),
        (between <= own[:, None]).any(axis=0).mean(),
        inside.sum() / (k * len(made)),
        (between.min(axis=0) <= reach).mean(),
    )


@pytest.mark.parametrize("chunk", [1 << 24, 500, 1])
def test_figures_are_those_of_their_definitions_whatever_the_chunks(monkeypatch, chunk):
    monkeypatch.setattr(room, "CHUNK_VALUES", chunk)
    real, made = points(230), points(170, seed=1) * 0.8 + 0.4

    found = prdc(real, made)

    expected = reference(real, made, 5)
    assert (found.precision, found.recall, found.density, found.coverage) == pytest.approx(expected)
    assert 0 < found.precision < 1


def test_identical_sets_are_precise_and_cover():
    same = points(300)

    found = prdc(same, same)

    assert (found.precision, found.recall, found.coverage) == (1.0, 1.0, 1.0)
    assert found.density >= 1.0


def test_disjoint_sets_have_nothing_in_common():
    found = prdc(points(300), points(300, seed=1) + 100)

    assert found == room.Prdc(0.0, 0.0, 0.0, 0.0)


def test_lost_mode_lowers_recall_and_coverage_and_not_precision():
    real = np.concatenate([points(300), points(300, seed=1) + 50])
    made = points(600, seed=2)

    found = prdc(real, made)

    assert found.precision > 0.9
    assert found.recall < 0.55
    assert found.coverage < 0.55


def test_nearest_neighbour_is_found_and_is_not_oneself():
    one = points(200)
    distance, row = nearest_neighbours(one, one)
    apart = np.linalg.norm(one[:, None] - one[None], axis=2) + np.diag(np.full(200, np.inf))

    np.testing.assert_array_equal(row, apart.argmin(axis=1))
    np.testing.assert_allclose(distance, apart.min(axis=1), rtol=1e-4)


def test_fifty_thousand_against_fifty_thousand_take_less_than_a_gigabyte():
    """In a process of its own, on a share of the rows: memory does not grow with the pairs."""
    code = """
import resource
import numpy as np
import torch
from datagen.quality import prdc as room
random = np.random.default_rng(0)
one = random.standard_normal((50_000, 64)).astype(np.float32)
two = random.standard_normal((50_000, 64)).astype(np.float32)
room.prdc(one[:500], two[:500])
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
# The chunks are as large as for all rows; 2,000 of them take a test's time.
for start, apart in room._distances(torch.from_numpy(one[:2000]), torch.from_numpy(two)):
    apart.topk(5, dim=1, largest=False)
    (apart <= 100.0).any(dim=1)
print((resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) / 1024)
"""
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=300
    )

    assert float(done.stdout) < 500
