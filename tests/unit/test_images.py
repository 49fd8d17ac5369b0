from __future__ import annotations

import io

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as npst
from PIL import Image

from datagen.errors import InvalidFile, InvalidRequest
from datagen.images import (
    LabelledImages,
    contact_sheet,
    decode_png,
    decode_pngs,
    encode_png,
)


def shapes():
    return st.tuples(
        st.integers(1, 4), st.sampled_from([1, 3]), st.integers(1, 20), st.integers(1, 20)
    )


def saved(image: Image.Image, kind: str, **options) -> bytes:
    out = io.BytesIO()
    image.save(out, kind, **options)
    return out.getvalue()


@given(shapes().flatmap(lambda shape: npst.arrays(np.uint8, shape)))
@settings(deadline=None, max_examples=60)
def test_pixels_survive_encoding_whatever_the_shape(images):
    assert np.array_equal(decode_pngs(encode_png(images)), images)


def test_pillow_reads_the_same_pixels():
    images = np.random.default_rng(1).integers(0, 256, (3, 3, 9, 7), dtype=np.uint8)

    for pixels, data in zip(images, encode_png(images), strict=True):
        with Image.open(io.BytesIO(data)) as image:
            image.verify()
        with Image.open(io.BytesIO(data)) as image:
            assert np.array_equal(np.asarray(image).transpose(2, 0, 1), pixels)


def test_no_images_give_no_files():
    assert encode_png(np.zeros((0, 1, 4, 4), dtype=np.uint8)) == []


def test_same_pixels_give_the_same_bytes_whatever_stands_beside_them():
    images = np.random.default_rng(2).integers(0, 256, (8, 1, 28, 28), dtype=np.uint8)

    assert encode_png(images)[5] == encode_png(images[5:6])[0]


@pytest.mark.parametrize(
    "images",
    [
        np.zeros((2, 1, 4, 4), dtype=np.float32),
        np.zeros((2, 2, 4, 4), dtype=np.uint8),
        np.zeros((4, 4), dtype=np.uint8),
        np.zeros((2, 1, 0, 4), dtype=np.uint8),
    ],
)
def test_arrays_that_are_no_images_are_refused(images):
    with pytest.raises(InvalidRequest):
        encode_png(images)


def test_png_without_some_of_its_pixels_is_refused():
    data = encode_png(np.random.default_rng(3).integers(0, 256, (1, 1, 28, 28), dtype=np.uint8))[0]

    for length in range(0, len(data) - 24, 7):
        with pytest.raises(InvalidFile, match="sample 7"):
            decode_png(data[:length], "sample 7")


def test_flipped_byte_never_passes_unseen():
    images = np.random.default_rng(4).integers(0, 256, (1, 1, 12, 12), dtype=np.uint8)
    data = encode_png(images)[0]

    for position in range(len(data) - 12):
        flipped = bytearray(data)
        flipped[position] ^= 0x10
        try:
            pixels = decode_png(bytes(flipped))
        except InvalidFile:
            continue
        # What still decodes is a PNG of other pixels, or one whose checksum Pillow does not read.
        assert pixels.dtype == np.uint8


def test_picture_with_too_many_pixels_is_refused_before_it_is_decoded():
    bomb = saved(Image.new("L", (9000, 9000)), "PNG")

    with pytest.raises(
        InvalidFile, match="9000 x 9000 pixels; at most 8192 a side and 16,777,216 in all"
    ):
        decode_png(bomb, "bomb.png")


def test_labels_must_fit_their_classes():
    images = np.zeros((2, 1, 4, 4), dtype=np.uint8)

    for labels in ([0, 2], [-1, 0]):
        with pytest.raises(InvalidRequest):
            LabelledImages(images, np.array(labels, dtype=np.int64), ("a", "b"))
    with pytest.raises(InvalidRequest):
        LabelledImages(images, np.array([0], dtype=np.int64), ("a", "b"))
    with pytest.raises(InvalidRequest):
        LabelledImages(images, np.array([0, 0], dtype=np.int64), ("a", "a"))


def test_counts_name_empty_classes_too():
    images = np.zeros((3, 1, 4, 4), dtype=np.uint8)
    labelled = LabelledImages(images, np.array([2, 0, 2], dtype=np.int64), ("a", "b", "c"))

    assert labelled.counts().tolist() == [1, 0, 2]


def test_contact_sheet_shows_one_row_a_label():
    rows = [np.full((3, 1, 8, 8), value, dtype=np.uint8) for value in (10, 200)]

    with Image.open(io.BytesIO(contact_sheet(rows, ["a", "b"], scale=3))) as sheet:
        colours = {pixel for _, pixel in sheet.getcolors(1 << 16)}
    assert {(10, 10, 10), (200, 200, 200)} <= colours


def test_contact_sheet_needs_a_name_a_row():
    with pytest.raises(InvalidRequest):
        contact_sheet([np.zeros((1, 1, 4, 4), dtype=np.uint8)], [])


@pytest.mark.parametrize("shape", [(5, 1, 6, 5), (3, 3, 7, 4), (2, 1, 1, 1), (2, 3, 1, 3)])
def test_own_files_are_decoded_as_any_reader_decodes_them(shape):
    images = np.random.default_rng(1).integers(0, 256, shape, dtype=np.uint8)
    files = encode_png(images)

    assert np.array_equal(decode_pngs(files), images)
    assert np.array_equal(np.stack([decode_png(file) for file in files]), images)


def test_files_of_others_among_own_ones_are_decoded_too():
    images = np.random.default_rng(2).integers(0, 256, (3, 1, 6, 5), dtype=np.uint8)
    files = encode_png(images)
    out = io.BytesIO()
    Image.fromarray(images[1, 0]).save(out, "PNG")

    assert np.array_equal(decode_pngs([files[0], out.getvalue(), files[2]]), images)


@pytest.mark.parametrize("place", [20, 45])
def test_spoilt_own_file_is_refused(place):
    first, second = encode_png(np.full((2, 1, 6, 5), 7, np.uint8))
    spoilt = bytearray(second)
    spoilt[place] ^= 0x55
    with pytest.raises(InvalidFile):
        decode_pngs([first, bytes(spoilt)])
