from __future__ import annotations

import io
import os
import struct
import subprocess
import sys
import zlib

import numpy as np
import pytest
from images_made import deep_png, png, saved, tiff
from memory import growth_of
from PIL import Image, ImageOps

from datagen.errors import InvalidFile
from datagen.images import MAX_PIXELS
from datagen.pictures import large, png_bands, shrinking, tiff_bands
from datagen.pictures.large import read_large
from datagen.pictures.opening import opened
from datagen.pictures.reading import read_picture

# Smooth enough that any good filter gives about the same.
ROWS, COLUMNS = np.mgrid[0:300, 0:400]
SMOOTH = np.stack([ROWS * 255 / 299, COLUMNS * 255 / 399, (ROWS + COLUMNS) * 255 / 698], axis=2)
SMOOTH = SMOOTH.astype(np.uint8)


def small(data, side=20, name="big"):
    """What the way of large pictures gives for one that is not."""
    return read_large(opened(data, name), data, name, side)


@pytest.fixture(autouse=True)
def narrow_bands(monkeypatch):
    """Bands so low that a small picture has many of them."""
    monkeypatch.setattr(png_bands, "BAND_BYTES", 12_345)
    monkeypatch.setattr(tiff_bands, "BAND_PIXELS", 4_000)


def meant(pixels, shape):
    """The pixels that a small picture should have."""
    image = Image.fromarray(pixels).resize(shape[:0:-1], Image.Resampling.BOX)
    found = np.asarray(image)
    return found[None] if found.ndim == 2 else found.transpose(2, 0, 1)


def joined(data):
    """The pixels of all bands of a PNG."""
    bands = [read_picture(band, "band").pixels for band in png_bands.png_bands(data, "x")]
    assert len(bands) > 1
    return np.concatenate(bands, axis=1)


def close(picture, pixels, by=2):
    expected = meant(pixels, picture.pixels.shape)
    return np.abs(picture.pixels.astype(int) - expected.astype(int)).max() <= by


@pytest.mark.parametrize("mode", ["RGB", "L"])
@pytest.mark.parametrize("kind", ["PNG", "JPEG", "TIFF"])
def test_large_picture_is_read_small_as_it_is(kind, mode):
    image = Image.fromarray(SMOOTH).convert(mode)

    picture = small(saved(image, kind))
    assert picture.pixels.shape[0] == (3 if mode == "RGB" else 1)
    assert 40 <= picture.pixels.shape[1] <= 80
    assert close(picture, np.asarray(image), by=6 if kind == "JPEG" else 2)
    assert picture.changes == set()


@pytest.mark.parametrize("bits", [1, 2, 4])
@pytest.mark.parametrize("colour", [0, 3])
def test_png_of_few_bits_is_read_in_bands(bits, colour):
    packed = [b"\0" + bytes([number % 256]) * 50 for number in range(301)]
    palette = (b"PLTE", bytes(range(3 << bits)))
    data = png(packed, 400 // bits, bits, colour, *([palette] if colour == 3 else []))

    assert np.array_equal(joined(data), read_picture(data, "x").pixels)


@pytest.mark.parametrize("level", [0, 1, 2, 3, 4])
@pytest.mark.parametrize("channels", [1, 2, 3, 4])
def test_every_filter_of_a_png_is_undone_across_bands(level, channels):
    # Any bytes are rows that some picture has under a filter.
    random = np.random.default_rng(level)
    rows = [
        bytes([level]) + random.integers(0, 8, 90 * channels, dtype=np.uint8).tobytes()
        for _ in range(200)
    ]
    data = png(rows, 90, 8, {1: 0, 2: 4, 3: 2, 4: 6}[channels])

    assert np.array_equal(joined(data), read_picture(data, "x").pixels)


@pytest.mark.parametrize("channels", [1, 2, 3, 4])
def test_deep_png_is_read_in_bands(channels):
    values = np.repeat(ROWS[..., None].astype(np.uint16) * 200, channels, axis=2)
    values[::7, ::3] += 77
    values[..., -1:] = 65535 if channels in {2, 4} else values[..., -1:]

    assert np.array_equal(joined(deep_png(values)), read_picture(deep_png(values), "x").pixels)
    picture = small(deep_png(values))
    own = {1: 1, 2: 1, 3: 3, 4: 3}[channels]
    expected = np.linspace(0, 59_800, picture.pixels.shape[1] + 1)
    middle = (expected[1:] + expected[:-1]) / 2
    assert picture.values == "uint16"
    assert np.abs(picture.pixels[:own].mean(axis=2) - middle).max() < 200
    assert channels in {1, 3} or np.allclose(picture.pixels[-1], 1)


@pytest.mark.parametrize("kind", ["PNG", "JPEG", "TIFF"])
@pytest.mark.parametrize("orientation", [3, 6, 7])
def test_orientation_is_followed(kind, orientation):
    exif = Image.Exif()
    exif[0x0112] = orientation
    data = saved(Image.fromarray(SMOOTH), kind, exif=exif)
    with Image.open(io.BytesIO(data)) as image:
        turned = np.asarray(ImageOps.exif_transpose(image))

    picture = small(data)
    assert picture.changes == {"orientation"}
    assert close(picture, turned, by=6 if kind == "JPEG" else 2)


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"compression": "tiff_lzw"},
        {"compression": "tiff_adobe_deflate", "tiffinfo": {278: 7}},
        {"compression": "packbits"},
        {"compression": "jpeg", "tiffinfo": {278: 16}},
        {"compression": "tiff_lzw", "tiffinfo": {317: 2}},
    ],
)
def test_tiff_is_read_in_bands_however_it_is_compressed(options):
    picture = small(saved(Image.fromarray(SMOOTH), "TIFF", **options))

    assert close(picture, SMOOTH, by=6 if options.get("compression") == "jpeg" else 2)


@pytest.mark.parametrize("order", ["<", ">"])
def test_deep_tiff_is_read_in_bands(order):
    values = np.repeat(ROWS[..., None].astype(np.uint16) * 200, 3, axis=2)

    picture = small(tiff(values, 2, order))
    assert picture.values == "uint16"
    assert np.ptp(picture.pixels) > 58_000


def tiled(pixels, side):
    """A TIFF of tiles, from uint8 (H, W, 3)."""
    height, width = pixels.shape[:2]
    padded = np.pad(pixels, ((0, -height % side), (0, -width % side), (0, 0)))
    tiles = [
        zlib.compress(padded[top : top + side, left : left + side].tobytes())
        for top in range(0, height, side)
        for left in range(0, width, side)
    ]
    starts = np.cumsum([8] + [len(tile) for tile in tiles])
    count, start = len(tiles), int(starts[-1]) + int(starts[-1]) % 2
    end = start + 2 + 12 * 11 + 4
    fields = [(256, 4, 1, width), (257, 4, 1, height), (258, 3, 3, end), (259, 4, 1, 8),
              (262, 4, 1, 2), (277, 4, 1, 3), (284, 4, 1, 1), (322, 4, 1, side),
              (323, 4, 1, side), (324, 4, count, end + 6),
              (325, 4, count, end + 6 + 4 * count)]  # fmt: skip
    directory = struct.pack("<H", 11) + b"".join(struct.pack("<HHLL", *own) for own in fields)
    beyond = struct.pack("<3H", 8, 8, 8) + starts[:-1].astype("<u4").tobytes()
    beyond += np.array([len(tile) for tile in tiles], "<u4").tobytes()
    body = b"".join(tiles)
    return (
        b"II"
        + struct.pack("<HL", 42, start)
        + body
        + bytes(len(body) % 2)
        + directory
        + bytes(4)
        + beyond
    )


@pytest.mark.parametrize("side", [16, 112])
def test_tiles_of_a_tiff_are_read_row_by_row(side):
    data = tiled(SMOOTH, side)

    assert np.array_equal(read_picture(data, "x").pixels, SMOOTH.transpose(2, 0, 1))
    assert close(small(data), SMOOTH)


def test_first_of_several_pictures_is_read_small():
    thumbnail = Image.new("RGB", (8, 8))
    data = saved(Image.fromarray(SMOOTH), "MPO", save_all=True, append_images=[thumbnail])

    picture = small(data)
    assert picture.changes == {"first"}
    assert close(picture, SMOOTH, by=6)


def test_ink_is_read_small_in_the_colours_of_the_whole():
    data = saved(Image.fromarray(SMOOTH).convert("CMYK"), "JPEG")

    whole = read_picture(data, "x").pixels.transpose(1, 2, 0)
    assert close(small(data), whole, by=6)


def test_progressive_jpeg_is_read_small_up_to_a_limit(monkeypatch):
    data = saved(Image.fromarray(SMOOTH), "JPEG", progressive=True)

    assert close(small(data), SMOOTH, by=6)
    monkeypatch.setattr(large, "MAX_COEFFICIENTS", 100_000)
    with pytest.raises(InvalidFile, match=r"progressive JPEG of 400 x 300 pixels.*baseline"):
        small(data)
    assert close(small(saved(Image.fromarray(SMOOTH), "JPEG")), SMOOTH, by=6)


@pytest.mark.parametrize(
    ("size", "side"), [((6000, 4000), 32), ((65_000, 300), 64), ((17_000, 1_000), 1024)]
)
def test_small_picture_is_neither_too_small_nor_too_large(size, side):
    width, height = shrinking.small_size(size, side)

    assert width * height <= MAX_PIXELS
    assert min(width, height) >= 0.99 * min(side, *size)
    assert abs(width / height / (size[0] / size[1]) - 1) < 0.05


@pytest.mark.parametrize("kind", ["BMP", "WEBP", "GIF"])
def test_kinds_that_are_decoded_whole_are_refused_by_name(kind):
    with pytest.raises(InvalidFile, match=rf"big is a {kind} of 40 x 30 .* JPEG, PNG and TIFF"):
        small(saved(Image.new("RGB", (40, 30)), kind))


def test_interlaced_png_is_refused_by_name():
    head = struct.pack(">IIBBBBB", 40, 30, 8, 0, 0, 0, 1)
    data = saved(Image.new("L", (40, 30)), "PNG")
    crc = struct.pack(">I", zlib.crc32(b"IHDR" + head))

    with pytest.raises(InvalidFile, match="interlaced"):
        small(data[:16] + head + crc + data[33:])


@pytest.mark.parametrize("kind", ["PNG", "TIFF"])
def test_truncated_picture_is_refused(kind):
    noise = np.random.default_rng(0).integers(0, 256, (200, 200), dtype=np.uint8)
    data = saved(Image.fromarray(noise), kind)
    # The directory of a TIFF may lie before its pixels or behind them.
    cut = data[: len(data) // 2] if kind == "PNG" else data[:-9000]

    with pytest.raises(InvalidFile, match="big"):
        small(cut)


def test_large_picture_without_a_size_is_refused_with_advice():
    data = png([b"\0" + bytes(9000)] * 3, 9000, 8, 0)

    with pytest.raises(InvalidFile, match=r"9000 x 3 pixels.*give a size, such as 32"):
        read_picture(data, "x.png")
    assert read_picture(data, "x.png", small=2).pixels.max() == 0


@pytest.mark.parametrize("size", [(60_000, 60_000), (70_000, 10)])
def test_bomb_is_refused_before_it_is_decoded(size):
    head = struct.pack(">IIBBBBB", *size, 8, 0, 0, 0, 0)
    good = saved(Image.new("L", (40, 30)), "PNG")
    data = good[:16] + head + struct.pack(">I", zlib.crc32(b"IHDR" + head)) + good[33:]

    with pytest.raises(InvalidFile, match=r"bomb\.png is "):
        read_picture(data, "bomb.png", small=32)


_READER = """
import sys
from pathlib import Path
from datagen.pictures.reading import read_picture

data = Path(sys.argv[1]).read_bytes()
print("ready", flush=True)
sys.stdin.readline()
read_picture(data, "x", small=32)
print("read", flush=True)
sys.stdin.readline()
"""


def test_strip_of_a_picture_takes_no_more_than_its_pixels(monkeypatch):
    monkeypatch.undo()
    data = saved(Image.linear_gradient("L").resize((4, 60_000)), "PNG")

    picture = small(data, 4)
    assert picture.pixels.shape == (1, 60_000, 4)
    assert np.all(np.diff(picture.pixels[0, :, 0].astype(int)) >= 0)


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "TIFF"])
def test_memory_stays_below_that_of_the_largest_whole_picture(tmp_path, kind):
    # 48 megapixels, three times what is decoded whole.
    options = {"TIFF": {"compression": "packbits"}, "PNG": {"compress_level": 1}}.get(kind, {})
    Image.new("RGB", (8000, 6000), (9, 90, 200)).save(tmp_path / "x", kind, **options)

    with subprocess.Popen(
        [sys.executable, "-c", _READER, str(tmp_path / "x")],
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, bufsize=1,
        env=os.environ | {"OMP_NUM_THREADS": "1"},
    ) as reader:  # fmt: skip
        assert reader.stdin is not None
        assert reader.stdout is not None
        assert reader.stdout.readline() == "ready\n"
        with growth_of(reader.pid) as growth:
            reader.stdin.write("\n")
            assert reader.stdout.readline() == "read\n"
        reader.stdin.write("\n")
    assert reader.returncode == 0
    assert growth.bytes < MAX_PIXELS * 4
