from __future__ import annotations

import io

import numpy as np
import pytest
from PIL import Image

from datagen import plots
from datagen.plots import Row

GREY = np.full((3, 1, 5, 4), 120, dtype=np.uint8)
COLOUR = np.full((2, 3, 5, 4), 120, dtype=np.uint8)


def figures():
    yield plots.lines([("a $b$", {"one": ([1, 2], [3, 4]), "two": ([1], [2])})], "t", "x", [1.5])
    yield plots.bars([1.0, 0.0], ["z0", "z1"], [False, True], "a title", "nats")
    points = np.random.default_rng(0).normal(size=(60, 2))
    names = [f"class {number} with a long name" for number in range(25)]
    yield plots.scatter(points, np.arange(60) % 25, names, "points", ("z0", "z1"))
    yield plots.image_rows([Row(GREY, "grey", "r = 1"), Row(GREY[:1])], "rows", ["a", "b", "c"])
    yield plots.image_rows([Row(COLOUR, "$x_1$")], "colour")
    yield plots.image_panels([("a", COLOUR[None]), ("b", COLOUR[None])], "panels", "a note")


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize("number", range(6))
def test_every_plot_is_a_picture_and_the_same_each_time(number):
    one, two = (list(figures())[number] for _ in range(2))

    png = plots.render(one, "png")
    with Image.open(io.BytesIO(png)) as image:
        assert min(image.size) > 100
    assert png == plots.render(two, "png")
    svg = plots.render(list(figures())[number], "svg")
    assert svg.startswith(b"<?xml")
    assert svg == plots.render(list(figures())[number], "svg")


def test_images_keep_their_pixels_between_paper():
    tiled = plots._tiled([GREY, GREY[:1]])

    assert tiled.shape == (2 * 7, 3 * 6, 3)
    assert (tiled[:5, :4] == 120).all()
    assert (tiled[5, :] == plots._PAPER).all()
    assert (tiled[7:12, 6:] == plots._PAPER).all()


def test_long_titles_take_more_lines_and_not_more_width():
    short = plots.bars([1.0], ["a"], [False], "short", "y")
    long = plots.bars([1.0], ["a"], [False], "a title of many words " * 12, "y")

    assert long.get_size_inches()[0] == short.get_size_inches()[0]
    assert long.get_size_inches()[1] > short.get_size_inches()[1]
