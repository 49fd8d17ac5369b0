from __future__ import annotations

import numpy as np
import pytest

from datagen.model.grain import (
    Grain,
    grains_to_try,
    missing_grain,
    missing_texture,
    noise_correlation,
    noise_level,
    with_grain,
)
from datagen.model.random import normals, pixel_normals

COUNT = 40


def pictures(channels=1, noise=0.0, side=32, seed=0):
    """Boxes of any grey with hard edges, under white noise."""
    random = np.random.default_rng(seed)
    images = np.full((COUNT, channels, side, side), 120.0)
    for image in images:
        top, left = random.integers(0, side // 2, 2)
        image[:, top : top + side // 2, left : left + side // 3] = random.integers(0, 256)
    images += random.normal(0.0, 1.0, images.shape) * np.reshape(noise, (-1, 1, 1))
    return images.clip(0, 255).round().astype(np.uint8)


@pytest.mark.parametrize("noise", [3.0, 10.0])
def test_level_of_white_noise_is_found_beside_edges(noise):
    assert noise_level(pictures(noise=noise))[0] == pytest.approx(noise, rel=0.1)


def test_every_channel_has_its_own_level():
    found = noise_level(pictures(channels=3, noise=[2.0, 5.0, 9.0]))
    assert found == pytest.approx([2.0, 5.0, 9.0], rel=0.15)


@pytest.mark.parametrize("shape", [(0, 1, 8, 8), (3, 1, 1, 9), (3, 3, 9, 1)])
def test_images_that_tell_nothing_have_no_noise(shape):
    assert noise_level(np.full(shape, 9, np.uint8)).tolist() == [0.0] * shape[1]


def test_clean_images_have_no_noise_and_get_none():
    images = pictures()
    assert noise_level(images).tolist() == [0.0]
    assert missing_grain(images, images) == Grain()


def test_grain_is_the_noise_that_reconstructions_lack():
    real, smooth = pictures(noise=8.0), pictures()
    (level,) = missing_grain(real, smooth).levels
    assert level == pytest.approx(8.0, rel=0.1)
    assert missing_grain(real, real) == Grain()
    (left,) = missing_grain(real, pictures(noise=5.0, seed=1)).levels
    assert left == pytest.approx(39.0**0.5, rel=0.2)


def test_images_with_grain_have_the_noise_of_real_ones():
    smooth = pictures()
    number = np.arange(COUNT)
    grained = with_grain(smooth, Grain((8.0,)), 3, number, np.zeros_like(number))

    assert noise_level(grained)[0] == pytest.approx(8.0, rel=0.1)
    assert missing_grain(pictures(noise=8.0), grained) == Grain()
    assert with_grain(smooth, Grain(), 3, number, number) is smooth


def test_grain_of_an_image_depends_on_its_own_counters_alone():
    images = pictures(channels=3)
    index, attempt = np.arange(COUNT) + 7, np.arange(COUNT) % 3
    whole = with_grain(images, Grain((5.0, 4.0, 3.0), 0.4), 9, index, attempt)
    for rows in (np.array([5]), np.arange(30)[::-1]):
        part = with_grain(images[rows], Grain((5.0, 4.0, 3.0), 0.4), 9, index[rows], attempt[rows])
        assert np.array_equal(part, whole[rows])
    other = with_grain(images, Grain((5.0, 4.0, 3.0), 0.4), 9, index, attempt + 1)
    assert (other != whole).any(axis=(1, 2, 3)).all()


def test_noise_of_pixels_is_independent_of_that_of_latents():
    index = np.arange(20)
    latents, pixels = (
        draw(3, index, np.zeros_like(index), 256) for draw in (normals, pixel_normals)
    )
    assert abs(np.corrcoef(latents.ravel(), pixels.ravel())[0, 1]) < 0.05


@pytest.mark.parametrize("correlation", [0.0, 0.5, 1.0])
def test_channels_have_as_much_of_their_noise_in_common_as_in_real_images(correlation):
    number = np.arange(COUNT)
    grain = Grain((6.0, 6.0, 6.0), correlation)
    real = with_grain(pictures(channels=3), grain, 3, number, np.zeros_like(number))

    assert noise_correlation(real) == pytest.approx(correlation, abs=0.1)
    found = missing_grain(real, pictures(channels=3))
    assert found.levels == pytest.approx((6.0, 6.0, 6.0), rel=0.1)
    assert found.correlation == pytest.approx(correlation, abs=0.1)


def test_grey_and_clean_images_have_no_correlation():
    assert noise_correlation(pictures(noise=8.0)) == 0.0
    assert noise_correlation(pictures(channels=3)) == 0.0


def lit(count=COUNT, channels=1, shape=(32, 30)):
    """Smooth surfaces that are lit from one side, uint8 (N, C, H, W)."""
    light = np.linspace(60.0, 180.0, shape[0]).round().astype(np.uint8)
    return np.tile(light[:, None], (count, channels, 1, shape[1]))


def textured(count=COUNT, channels=1, shape=(32, 30), seed=0):
    """The same, rough: their noise is alike along a row."""
    white = np.random.default_rng(seed).normal(0.0, 8.0, (count, channels, *shape))
    rough = sum(np.roll(white, shift, axis=-1) for shift in (-1, 0, 1))
    return (lit(count, channels, shape) + rough).clip(0, 255).round().astype(np.uint8)


def along(images, shift, axis):
    """Mean correlation of pixels that are so far apart."""
    centred = images.astype(float) - lit()
    return float((centred * np.roll(centred, shift, axis=axis)).mean() / np.square(centred).mean())


def test_texture_has_the_level_and_the_spectrum_of_what_reconstructions_lack():
    real, smooth = textured(), lit()
    grain = missing_texture(real, smooth)
    number = np.arange(COUNT)
    made = with_grain(smooth, grain, 3, number, np.zeros_like(number))

    spread = [float((images.astype(float) - smooth).std()) for images in (made, real)]
    assert spread[0] == pytest.approx(spread[1], rel=0.05)
    for shift, axis in ((1, -1), (2, -1), (1, -2), (4, -1)):
        assert along(made, shift, axis) == pytest.approx(along(real, shift, axis), abs=0.08)


def test_texture_comes_first_where_more_than_white_noise_is_missing():
    surface, flat = (images.repeat(2, axis=2).repeat(2, axis=3) for images in (textured(), lit()))
    assert missing_texture(surface, flat)
    assert grains_to_try(surface, flat)[0] == missing_texture(surface, flat)

    noisy, smooth = pictures(noise=8.0), pictures()
    assert missing_texture(noisy, smooth)
    assert grains_to_try(noisy, smooth)[0] == missing_grain(noisy, smooth)
    assert grains_to_try(smooth, smooth) == [Grain()]


def test_texture_of_channels_that_are_alike_is_alike():
    real = np.repeat(textured(), 3, axis=1)
    grain = missing_texture(real, lit(channels=3))

    assert grain.correlation == pytest.approx(1.0, abs=0.01)
    assert len(set(grain.levels)) == 1
    apart = textured(channels=3)
    assert missing_texture(apart, lit(channels=3)).correlation < 0.05


@pytest.mark.parametrize("shape", [(1, 1, 1, 1), (2, 3, 2, 5), (3, 1, 8, 40), (2, 3, 33, 9)])
def test_texture_of_any_height_and_width_is_added(shape):
    real = np.random.default_rng(0).integers(0, 256, shape, dtype=np.uint8)
    # Of half the contrast.
    grain = missing_texture(real, real // 2 + 60)
    number = np.arange(len(real))

    assert with_grain(real, grain, 3, number, number).shape == shape


def test_reconstructions_that_lack_nothing_have_no_texture():
    assert missing_texture(textured(), textured()) == Grain()
    assert missing_texture(textured(0), textured(0)) == Grain()


def test_texture_of_an_image_depends_on_its_own_counters_alone():
    images, grain = textured(), missing_texture(textured(), lit())
    index, attempt = np.arange(COUNT) + 7, np.arange(COUNT) % 3
    whole = with_grain(images, grain, 9, index, attempt)
    for rows in (np.array([5]), np.arange(30)[::-1]):
        part = with_grain(images[rows], grain, 9, index[rows], attempt[rows])
        assert np.array_equal(part, whole[rows])


def test_edges_that_reconstructions_lack_are_no_texture():
    real = pictures()
    soft = ((real.astype(int) + np.roll(real, 1, axis=-1) + np.roll(real, 1, axis=-2)) // 3).astype(
        np.uint8
    )
    assert np.abs(real.astype(int) - soft).mean() > 1.0
    assert missing_texture(real, soft) == Grain()


def test_decoder_that_has_learnt_next_to_nothing_lacks_no_texture():
    real = textured()
    mean = np.broadcast_to(real.mean(axis=(2, 3), keepdims=True).astype(np.uint8), real.shape)

    assert missing_texture(real, mean) == Grain()
    assert len(grains_to_try(real, mean)[0].kernel) == 0
