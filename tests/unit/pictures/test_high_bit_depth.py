from __future__ import annotations

import struct

import numpy as np
import pytest
from images_made import deep_png, saved, tiff
from PIL import Image

from datagen.errors import InvalidFile
from datagen.pictures.reading import read_picture

DEEP = np.random.default_rng(0).integers(0, 65536, (5, 4, 4), dtype=np.uint16)


def read(data):
    return read_picture(data, "deep")


@pytest.mark.parametrize("channels", [1, 3])
def test_png_of_16_bits_keeps_all_of_them(channels):
    values = DEEP[..., :channels]

    picture = read(deep_png(values))
    assert np.array_equal(picture.pixels, values.transpose(2, 0, 1))
    assert (picture.values, picture.changes) == ("uint16", frozenset())


@pytest.mark.parametrize("channels", [2, 4])
def test_opacity_of_16_bits_is_from_0_to_1(channels):
    values = DEEP[..., :channels]

    picture = read(deep_png(values))
    assert np.array_equal(picture.pixels[:-1], values[..., :-1].transpose(2, 0, 1))
    assert np.allclose(picture.pixels[-1], values[..., -1] / 65535)
    assert picture.changes == {"transparency"}


@pytest.mark.parametrize("channels", [1, 3])
def test_clear_colour_of_16_bits_is_opacity(channels):
    values = DEEP[..., :channels].copy()
    values[0, 0] = values[2, 1] = 777
    clear = (b"tRNS", struct.pack(f">{channels}H", *[777] * channels))

    picture = read(deep_png(values, clear))
    expected = np.ones((5, 4))
    expected[0, 0] = expected[2, 1] = 0
    assert np.array_equal(picture.pixels[-1], expected)


@pytest.mark.parametrize("order", ["<", ">"])
@pytest.mark.parametrize(("channels", "photometric"), [(1, 1), (3, 2)])
@pytest.mark.parametrize("deflated", [False, True])
def test_tiff_of_16_bits_keeps_all_of_them(order, channels, photometric, deflated):
    values = DEEP[..., :channels]

    picture = read(tiff(values, photometric, order, deflated=deflated))
    assert np.array_equal(picture.pixels, values.transpose(2, 0, 1))
    assert picture.values == "uint16"


@pytest.mark.parametrize("deflated", [False, True])
def test_tiff_with_opacity_of_16_bits_multiplied_or_not(deflated):
    values = np.array([[[40000, 20000, 10000, 65535], [3000, 2000, 1000, 32768]]], dtype=np.uint16)

    plain, multiplied = (
        read(tiff(values, 2, t338=kind, deflated=deflated)).pixels for kind in (2, 1)
    )
    assert np.allclose(plain[:3, 0, 1], [3000, 2000, 1000])
    assert np.allclose(multiplied[:3, 0, 1], [6000, 4000, 2000], rtol=1e-3)
    assert np.allclose(plain[3], multiplied[3])


@pytest.mark.parametrize("compression", ["tiff_lzw", "tiff_adobe_deflate"])
def test_compressed_tiff_of_16_grey_bits(compression):
    data = saved(Image.fromarray(DEEP[..., 0]), "TIFF", compression=compression)

    assert np.array_equal(read(data).pixels[0], DEEP[..., 0])


@pytest.mark.parametrize("kind", [np.int16, np.int32, np.uint32, np.float32])
def test_tiff_of_other_types_keeps_its_values(kind):
    values = np.array([[[1], [30000], [7]]], dtype=kind)

    picture = read(tiff(values, 1))
    assert picture.pixels.ravel().tolist() == [1, 30000, 7]
    assert picture.values == np.dtype(kind).name


def test_white_that_is_0_is_white_in_16_bits_and_refused_in_fractions():
    assert read(tiff(np.array([[[0], [65000]]], np.uint16), 0)).pixels.ravel().tolist() == [
        65535,
        535,
    ]
    with pytest.raises(InvalidFile, match="white at 0"):
        read(tiff(np.zeros((1, 2, 1), np.float32), 0))


def test_fourth_channel_that_is_no_opacity_is_left_aside():
    picture = read(tiff(DEEP, 2, t338=0))

    assert np.array_equal(picture.pixels, DEEP[..., :3].transpose(2, 0, 1))


def test_planes_of_16_bits_are_refused_rather_than_read_wrong():
    with pytest.raises(InvalidFile, match="separate planes"):
        read(tiff(DEEP[..., :3], 2, t284=2))
