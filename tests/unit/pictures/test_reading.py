from __future__ import annotations

import io
import struct

import numpy as np
import pytest
from images_made import bmp, png, saved, tiff
from PIL import Image, ImageCms, ImageOps

from datagen.errors import InvalidFile
from datagen.pictures.reading import read_picture

RANDOM = np.random.default_rng(0)
COLOURS = RANDOM.integers(0, 256, (6, 5, 3), dtype=np.uint8)


@pytest.mark.parametrize("kind", ["GIF", "WEBP", "PNG"])
def test_animation_is_refused(kind):
    frames = [Image.new("L", (8, 8), value) for value in (0, 255)]
    data = saved(frames[0], kind, save_all=True, append_images=frames[1:])

    with pytest.raises(InvalidFile, match="animated"):
        read_picture(data, "dance.gif")


@pytest.mark.parametrize("data", [b"", b"text", b"\x80\x04K\x01."])
def test_what_is_no_picture_is_refused_by_name(data):
    with pytest.raises(InvalidFile, match=r"notes\.txt"):
        read_picture(data, "notes.txt")


@pytest.mark.parametrize(
    ("mode", "channels", "changes"),
    [
        ("L", 1, set()),
        ("1", 1, {"1-bit"}),
        ("RGB", 3, set()),
        ("P", 3, {"palette"}),
        ("RGBA", 3, {"transparency", "clear"}),
        ("LA", 1, {"transparency", "clear"}),
    ],
)
def test_grey_stays_grey_and_everything_else_becomes_rgb(mode, channels, changes):
    picture = read_picture(saved(Image.new(mode, (5, 4)), "PNG"), "x.png")

    assert picture.pixels.shape == (channels, 4, 5)
    assert picture.changes == changes


def test_transparency_is_laid_over_white():
    half = Image.new("RGBA", (2, 2), (255, 0, 0, 128))

    picture = read_picture(saved(half, "PNG"), "x.png")
    assert picture.pixels[:, 0, 0].tolist() == [255, 127, 127]
    assert picture.changes == {"transparency"}


@pytest.mark.parametrize("kind", ["PNG", "JPEG", "TIFF", "WEBP"])
@pytest.mark.parametrize("orientation", range(1, 9))
def test_orientation_that_a_camera_noted_is_followed(kind, orientation):
    image = Image.fromarray(np.repeat(np.arange(48, dtype=np.uint8).reshape(6, 8, 1) * 5, 3, 2))
    exif = Image.Exif()
    exif[0x0112] = orientation
    data = saved(image, kind, exif=exif)
    with Image.open(io.BytesIO(data)) as again:
        expected = np.asarray(ImageOps.exif_transpose(again)).transpose(2, 0, 1)

    picture = read_picture(data, "x")
    assert np.array_equal(picture.pixels, expected)
    assert picture.changes == ({"orientation"} if orientation > 1 else set())


def test_damaged_note_of_a_camera_does_no_harm_to_the_picture():
    data = saved(Image.fromarray(COLOURS), "PNG", exif=b"Exif\0\0MM\0*\xff\xff\xff\xff")

    assert np.array_equal(read_picture(data, "x.png").pixels, COLOURS.transpose(2, 0, 1))


def test_first_of_several_pictures_in_a_jpeg_is_read():
    first, second = Image.new("RGB", (8, 8), (200, 10, 10)), Image.new("RGB", (4, 4))
    data = saved(first, "MPO", save_all=True, append_images=[second])

    picture = read_picture(data, "IMG_1.JPG")
    assert picture.pixels.shape == (3, 8, 8)
    assert abs(int(picture.pixels[0, 0, 0]) - 200) < 4
    assert picture.changes == {"first"}


def test_jpeg_whose_index_of_pictures_is_damaged_is_read():
    data = saved(
        Image.new("RGB", (8, 8)), "MPO", save_all=True, append_images=[Image.new("L", (8, 8))]
    )
    place = data.index(b"MPF\0")
    data = data[: place + 4] + b"\xff" * 20 + data[place + 24 :]

    assert read_picture(data, "IMG_1.JPG").pixels.shape == (3, 8, 8)


def test_pages_of_a_tiff_are_refused_and_smaller_copies_are_left_aside():
    page = Image.fromarray(COLOURS)
    thumbnail = page.resize((2, 2))
    thumbnail.encoderinfo = {"tiffinfo": {254: 1}}

    copies = saved(page, "TIFF", save_all=True, append_images=[thumbnail])
    picture = read_picture(copies, "x.tif")
    assert np.array_equal(picture.pixels, COLOURS.transpose(2, 0, 1))
    assert picture.changes == {"first"}
    pages = saved(page, "TIFF", save_all=True, append_images=[page, page])
    with pytest.raises(InvalidFile, match=r"x\.tif is a TIFF of 3 pages"):
        read_picture(pages, "x.tif")


def test_bmp_without_its_file_header_is_read():
    picture = read_picture(saved(Image.fromarray(COLOURS), "DIB"), "x.dib")

    assert np.array_equal(picture.pixels, COLOURS.transpose(2, 0, 1))


@pytest.mark.parametrize("headless", [False, True])
def test_alpha_of_a_bmp_that_is_0_throughout_means_nothing(headless):
    values = RANDOM.integers(0, 256, (4, 3, 4), dtype=np.uint8)
    values[..., 3] = 0
    data = bmp(values)[14 if headless else 0 :]

    picture = read_picture(data, "x.bmp")
    assert np.array_equal(picture.pixels, values[..., 2::-1].transpose(2, 0, 1))
    assert picture.changes == {"no-alpha"}


def test_alpha_of_a_bmp_that_says_something_is_heard():
    values = np.full((2, 2, 4), 255, np.uint8)
    values[..., :3] = 0
    values[0, 0, 3] = 0

    assert read_picture(bmp(values), "x.bmp").pixels[:, 0].tolist() == [[255, 0]] * 3


def test_fourth_channel_of_a_tiff_that_does_not_say_what_it_is_means_nothing_when_0():
    values = RANDOM.integers(0, 256, (4, 3, 4), dtype=np.uint8)
    values[..., 3] = 0

    silent, clear = (read_picture(tiff(values, 2, **more), "x.tif") for more in ({}, {"t338": 2}))
    assert np.array_equal(silent.pixels, values[..., :3].transpose(2, 0, 1))
    assert clear.pixels.min() == 255
    assert "clear" in clear.changes


def test_grey_multiplied_with_its_opacity_is_laid_over_white():
    values = np.array([[[100, 128], [0, 0], [50, 255]]], dtype=np.uint8)

    picture = read_picture(tiff(values, 1, t338=1), "x.tif")
    assert picture.pixels.tolist() == [[[227, 255, 50]]]


@pytest.mark.parametrize(("bits", "rows"), [(1, b"\x40"), (2, b"\x10"), (4, b"\x01")])
def test_clear_grey_value_of_few_bits_is_the_one_that_is_meant(bits, rows):
    # Two black pixels or one, then the clear one.
    clear = (b"tRNS", struct.pack(">H", 1))
    width = {1: 2, 2: 2, 4: 2}[bits]

    picture = read_picture(png([b"\0" + rows], width, bits, 0, clear), "x.png")
    assert picture.pixels.ravel().tolist() == [0, 255]
    assert "transparency" in picture.changes


def test_palette_with_transparency_is_laid_over_white():
    palette = (b"PLTE", bytes([10, 20, 30, 40, 50, 60]))
    clear = (b"tRNS", bytes([255, 0]))

    picture = read_picture(png([b"\0\x40"], 2, 1, 3, palette, clear), "x.png")
    assert picture.pixels[:, 0].tolist() == [[10, 255], [20, 255], [30, 255]]


@pytest.mark.parametrize("mode", ["CMYK", "LAB", "YCbCr"])
def test_other_colours_become_rgb(mode):
    kind = "TIFF" if mode != "CMYK" else "JPEG"

    picture = read_picture(saved(Image.new(mode, (5, 4)), kind), "x")
    assert (picture.pixels.shape, picture.changes) == ((3, 4, 5), {"colours"})


def test_ink_of_a_jpeg_is_read_as_adobe_writes_it():
    # All ink: black. Without any: white.
    for ink, grey in ((255, 0), (0, 255)):
        data = saved(Image.new("CMYK", (8, 8), (ink,) * 4), "JPEG")
        assert set(read_picture(data, "x.jpg").pixels.ravel().tolist()) == {grey}


def test_white_that_is_0_is_white():
    one = Image.fromarray(np.array([[0, 255]], dtype=np.uint8)).convert("1")
    data = saved(one, "TIFF", compression="group4", tiffinfo={262: 0})
    assert read_picture(data, "x.tif").pixels.ravel().tolist() == [0, 255]
    grey = np.array([[[0], [200]]], dtype=np.uint8)
    assert read_picture(tiff(grey, 0), "x.tif").pixels.ravel().tolist() == [255, 55]


def test_colour_profile_that_is_not_applied_is_noted():
    profile = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    plain = saved(Image.fromarray(COLOURS), "PNG", icc_profile=profile)
    wide = profile.replace("sRGB".encode("utf-16-be"), "wRGB".encode("utf-16-be"))
    other = saved(Image.fromarray(COLOURS), "PNG", icc_profile=wide.replace(b"sRGB", b"wRGB"))

    assert read_picture(plain, "x.png").changes == set()
    assert read_picture(other, "x.png").changes == {"profile"}


def test_file_of_a_known_kind_with_unknown_pixels_is_named_as_such():
    with pytest.raises(InvalidFile, match=r"x\.tif is a TIFF file .* save it as PNG"):
        read_picture(tiff(np.zeros((2, 2, 1)), 1), "x.tif")
