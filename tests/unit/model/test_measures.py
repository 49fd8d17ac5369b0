from __future__ import annotations

import numpy as np
import pytest

from datagen.model.measures import (
    COLOUR_PICTURES,
    GREY_PICTURES,
    correlations,
    measured_pictures,
    measured_strokes,
)


def line(*, lean=0.0, wide=3, high=20, side=28, level=255):
    """A standing line whose top leans to the right by so many pixels a pixel of height."""
    image = np.zeros((1, side, side), dtype=np.uint8)
    for row in range((side - high) // 2, (side + high) // 2):
        middle = side / 2 + lean * (side / 2 - row)
        start = round(middle) - wide // 2
        image[0, row, start : start + wide] = level
    return image


def of(*images):
    found = measured_strokes(np.stack(images))
    return [{name: values[row] for name, values in found.items()} for row in range(len(images))]


def test_slant_is_how_far_the_top_leans_for_each_pixel_of_height():
    left, upright, right = of(line(lean=-0.4), line(), line(lean=0.4))

    assert left["slant"] == pytest.approx(-0.4, abs=0.05)
    assert upright["slant"] == pytest.approx(0.0, abs=0.01)
    assert right["slant"] == pytest.approx(0.4, abs=0.05)


def test_verticality_tells_standing_from_lying():
    standing = line()
    lying, square = standing.transpose(0, 2, 1), line(wide=20)
    found = [one["verticality"] for one in of(standing, lying, square)]

    assert found[0] > 0.9
    assert found[1] < -0.9
    assert found[2] == pytest.approx(0.0, abs=0.01)


@pytest.mark.parametrize("wide", [1, 3, 6])
def test_stroke_width_is_that_of_a_long_line(wide):
    assert of(line(wide=wide, high=26))[0]["stroke width"] == pytest.approx(wide, rel=0.25)


def test_area_and_brightness_are_shares_of_the_image():
    bright, dim = of(line(), line(level=100))

    assert bright["area"] == pytest.approx(60 / 784)
    assert bright["brightness"] == pytest.approx(60 / 784)
    assert dim["area"] == 0
    assert dim["brightness"] == pytest.approx(60 / 784 * 100 / 255)


def test_dark_strokes_on_bright_paper_are_measured_alike():
    plain = line(lean=0.3)
    found, turned = of(plain, 255 - plain)

    for name in ("slant", "verticality", "stroke width", "area"):
        assert found[name] == pytest.approx(turned[name])


def test_empty_and_full_images_are_no_trouble():
    blank = np.zeros((2, 3, 5, 4), dtype=np.uint8)
    blank[1] = 255

    for found in (
        measured_strokes(blank),
        measured_pictures(blank),
        measured_pictures(blank[:, :1]),
    ):
        assert np.isfinite(list(found.values())).all()


def test_pictures_are_measured_by_light_and_colour():
    red = np.zeros((3, 8, 8), dtype=np.uint8)
    red[0] = 255
    striped = np.zeros((3, 8, 8), dtype=np.uint8)
    striped[:, :, ::2] = 255
    halves = np.zeros((3, 8, 8), dtype=np.uint8)
    halves[:, :, :4] = 255
    found = measured_pictures(np.stack([red, striped, halves, 255 - red]))

    assert tuple(found) == COLOUR_PICTURES
    assert found["brightness"] == pytest.approx([1 / 3, 1 / 2, 1 / 2, 2 / 3])
    assert found["contrast"] == pytest.approx([0, 1 / 2, 1 / 2, 0])
    # Of 112 pairs of neighbours, 56 and 8 differ.
    assert found["detail"] == pytest.approx([0, 56 / 112, 8 / 112, 0])
    assert found["saturation"] == pytest.approx([1, 0, 0, 1])
    assert found["warmth"] == pytest.approx([1, 0, 0, -1])


def test_grey_pictures_have_no_colour_to_measure():
    picture = np.arange(64, dtype=np.uint8).reshape(1, 1, 8, 8)

    assert tuple(measured_pictures(picture)) == GREY_PICTURES


def test_pictures_of_one_pixel_have_no_detail():
    assert measured_pictures(np.full((1, 3, 1, 1), 7, dtype=np.uint8))["detail"] == [0]


def test_correlation_is_within_groups_alone():
    values = np.tile(np.linspace(-1, 1, 9), 3)
    groups = np.repeat(np.arange(3), 9)
    rising = values * 2 + groups * 100
    falling = -values
    constant = groups.astype(float)

    found = correlations(
        values, {"rising": rising, "falling": falling, "constant": constant}, groups
    )
    assert found == pytest.approx({"rising": 1.0, "falling": -1.0, "constant": 0.0})
