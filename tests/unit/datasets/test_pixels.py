from __future__ import annotations

import io

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image
from reading import opened

from datagen.datasets.pixels import PADDED, RESIZED, fitted


@given(
    height=st.integers(1, 20),
    width=st.integers(1, 20),
    size=st.integers(1, 20),
    channels=st.sampled_from([1, 3]),
    pad=st.booleans(),
)
def test_images_come_to_the_wanted_size_whatever_they_were(height, width, size, channels, pad):
    pixels = np.full((channels, height, width), 90, dtype=np.uint8)

    found, changes = fitted(pixels, size, pad=pad)

    assert found.shape == (channels, size, size)
    # One colour stays that colour, edges included.
    assert set(found.ravel().tolist()) == {90}
    assert bool(changes) == ((height, width) != (size, size))


def test_padding_keeps_small_images_as_they_are_in_the_middle():
    pixels = np.random.default_rng(0).integers(0, 256, (1, 4, 6), dtype=np.uint8)
    pixels[:, [0, -1]], pixels[:, :, [0, -1]] = 7, 7

    found, changes = fitted(pixels, 10, pad=True)

    assert changes == {PADDED}
    assert np.array_equal(found[:, 3:7, 2:8], pixels)
    assert found[0, 0, 0] == found[0, -1, -1] == 7


def test_padding_shrinks_large_images_in_their_proportions():
    pixels = np.zeros((1, 10, 20), dtype=np.uint8)
    pixels[:, 2:8, 2:18] = 200

    found, _ = fitted(pixels, 10, pad=True)

    bright = np.argwhere(found[0] > 100)
    assert np.ptp(bright[:, 0]) + 1 == 3
    assert np.ptp(bright[:, 1]) + 1 == 8


def test_squeezing_fills_the_square():
    pixels = np.full((3, 10, 20), 200, dtype=np.uint8)

    found, changes = fitted(pixels, 8, pad=False)

    assert changes == {RESIZED}
    assert found.min() == 200


@pytest.mark.parametrize(("pad", "note"), [(False, "another size:"), (True, "filled up")])
def test_mixed_sizes_are_brought_to_one_and_noted(tmp_path, pad, note):
    for number, size in enumerate(((4, 3), (8, 9), (6, 6))):
        out = io.BytesIO()
        Image.new("L", size, 10 * number).save(out, "PNG")
        (tmp_path / "a").mkdir(exist_ok=True)
        (tmp_path / "a" / f"{number}.png").write_bytes(out.getvalue())

    found = opened(tmp_path, size=6, pad=pad)

    assert found.splits["train"].image_shape == (1, 6, 6)
    assert any(sentence.endswith(": 2.") and note in sentence for sentence in found.report.notes)
