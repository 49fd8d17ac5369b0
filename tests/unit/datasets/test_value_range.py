from __future__ import annotations

import numpy as np
import pytest
from images_made import deep_png, saved, tiff
from layouts import lay
from PIL import Image
from reading import opened

from datagen.errors import InvalidFile

GREY = np.stack([np.full((4, 4), value) for value in (10, 50, 100, 150, 200, 250)])
LABELS = np.arange(6) % 2


def npz(path, values, **splits):
    """An NPZ of one array, or of three splits."""
    arrays = {"x_train": values, "y_train": LABELS[: len(values)]} if splits else {}
    for name, own in splits.items():
        arrays |= {f"x_{name}": own, f"y_{name}": LABELS[: len(own)]}
    np.savez(path / "a.npz", **(arrays or {"images": values, "labels": LABELS[: len(values)]}))
    return opened(path / "a.npz")


def levels(found, split="train"):
    return found.splits[split].images[:, 0, 0, 0].tolist()


@pytest.mark.parametrize(
    ("values", "expected", "note"),
    [
        (GREY.astype(np.uint16), [10, 50, 100, 150, 200, 250], "8-bit values in uint16, taken as"),
        (GREY.astype(np.int32), [10, 50, 100, 150, 200, 250], "8-bit values in int32, taken as"),
        (GREY.astype(np.uint64), [10, 50, 100, 150, 200, 250], "8-bit values in uint64, taken as"),
        ((GREY * 4).astype(np.uint16), None, "10-bit values in uint16, scaled by 1023"),
        ((GREY * 16).astype(np.uint16), None, "12-bit values in uint16, scaled by 4095"),
        ((GREY * 64).astype(np.uint16), None, "14-bit values in uint16, scaled by 16383"),
        ((GREY * 257).astype(np.uint16), None, "16-bit values in uint16, scaled by 65535"),
        ((GREY * 16).astype(np.int16), None, "12-bit values in int16, scaled by 4095"),
        ((GREY * 128).astype(np.int16), None, "15-bit values in int16, scaled by 32767"),
        ((GREY * 16).astype(">u2"), None, "12-bit values in uint16, scaled by 4095"),
        ((GREY > 10).astype(np.uint8), [0] + [255] * 5, "Only 0 and 1 in uint8, scaled by 1"),
        ((GREY > 10).astype(np.int64), [0] + [255] * 5, "0 to 1 in int64, scaled by 1"),
        ((GREY / 255).astype(np.float32), [10, 50, 100, 150, 200, 250], "0 to 1 in float32"),
        ((GREY / 255).astype(np.float16), [10, 50, 100, 150, 200, 250], "0 to 1 in float16"),
        (GREY.astype(np.float64), [10, 50, 100, 150, 200, 250], "Fractions in float64, rounded"),
    ],
)
def test_white_is_found_from_type_and_values_and_noted(tmp_path, values, expected, note):
    found = npz(tmp_path, values)

    white = float(note.rsplit("scaled by ", 1)[-1]) if expected is None else 0
    assert levels(found) == (expected or np.rint(values[:, 0, 0] * (255 / white)).tolist())
    assert any(note in sentence for sentence in found.report.notes)


def test_true_is_white(tmp_path):
    assert levels(npz(tmp_path, GREY > 99)) == [0, 0, 255, 255, 255, 255]


@pytest.mark.parametrize("dtype", [np.uint16, np.float32, np.uint8])
def test_dark_split_is_scaled_as_the_others_and_noted(tmp_path, dtype):
    factor = {np.uint16: 257, np.float32: 1, np.uint8: 1}[dtype]
    dark = np.ones((2, 4, 4), dtype)

    found = npz(tmp_path, (GREY * factor).astype(dtype), test=dark, val=dark[:1])
    assert levels(found) == [10, 50, 100, 150, 200, 250]
    assert levels(found, "test") == [round(1 / factor)] * 2
    told = [note for note in found.report.notes if "of test have no value above 1," in note]
    assert len(told) == (dtype != np.uint8)


def test_split_that_is_bright_alone_gives_the_range_to_all(tmp_path):
    found = npz(tmp_path, GREY.astype(np.uint16), test=(GREY * 16).astype(np.uint16))

    assert levels(found, "test") == np.rint(GREY[:, 0, 0] * 16 * (255 / 4095)).tolist()
    assert levels(found) == np.rint(GREY[:, 0, 0] * (255 / 4095)).tolist()


@pytest.mark.parametrize(
    ("train", "test"),
    [
        (GREY / 255, GREY.astype(float)),
        (GREY.astype(np.uint16), (GREY * 257).astype(np.uint16)),
    ],
)
def test_training_images_that_others_would_make_black_are_refused(tmp_path, train, test):
    with pytest.raises(InvalidFile, match=r"to train on have no value above .*x_test has"):
        npz(tmp_path, train, test=test)


@pytest.mark.parametrize(
    ("values", "told"),
    [
        (GREY.astype(np.int16) - 100, "a.npz: images has values from -90 to 150 in int16"),
        (GREY.astype(np.int8), "values from -106 to 100 in int8"),
        (GREY / 120 - 1, "values from -0.916667 to 1.08333 in float64"),
        (GREY * 300.0, "values from 3000 to 75000 in float64"),
        (GREY.astype(np.int32) * 16, "values from 160 to 4000 in int32"),
        (GREY.astype(np.uint32) * 500, "values from 5000 to 125000 in uint32"),
        (np.where(GREY > 99, np.nan, 0.5), "a.npz: images has .*NaN"),
        (np.where(GREY > 99, np.inf, 0.5), "a.npz: images has .*inf"),
    ],
)
def test_values_without_a_white_are_refused_with_their_range(tmp_path, values, told):
    with pytest.raises(InvalidFile, match=told):
        npz(tmp_path, values)


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16, np.float32])
@pytest.mark.parametrize("white", [255, 1])
def test_opacity_of_arrays_has_a_range_of_its_own(tmp_path, dtype, white):
    values = np.zeros((2, 4, 4, 4), dtype)
    values[..., :3], values[1, ..., :3], values[..., 3] = 0, white, white
    values[0, 0, 0, 3] = 0

    found = npz(tmp_path, values)
    assert found.splits["train"].images[0, :, 0, 0].tolist() == [255] * 3
    assert found.splits["train"].images[0, :, 1, 1].tolist() == [0] * 3
    assert levels(found)[1] == 255
    assert any("transparency" in note for note in found.report.notes)


def test_pictures_of_16_bits_are_scaled_together_and_those_of_8_stay(tmp_path):
    deep = [np.full((4, 4, 3), value, np.uint16) for value in (0, 100, 4000)]
    files = {f"train/a/{number}.png": deep_png(image) for number, image in enumerate(deep)}
    files |= {
        "train/b/0.tif": tiff(np.full((4, 4, 1), 2000, np.uint16), 1),
        "test/a/0.png": deep_png(np.full((4, 4, 1), 200, np.uint16)),
        "test/b/0.png": saved(Image.new("L", (4, 4), 200), "PNG"),
    }

    found = opened(lay(tmp_path, **files))
    assert levels(found) == [0, 6, 249, 125]
    assert levels(found, "test") == [12, 200]
    assert any("12-bit values in uint16, scaled by 4095: 5 images" in n for n in found.report.notes)
    assert found.splits["train"].image_shape == (3, 4, 4)


def test_colour_of_16_bits_is_rounded_and_not_cut(tmp_path):
    values = np.zeros((1, 2, 3), np.uint16)
    values[0, 0], values[0, 1] = (65535, 250, 40_000), (1000, 254, 128)

    found = opened(lay(tmp_path, **{"a/0.png": deep_png(values)}))
    expected = np.rint(values / 257).transpose(2, 0, 1)
    assert found.splits["train"].images[0].tolist() == expected.tolist()


def test_fractions_in_a_tiff_are_scaled(tmp_path):
    values = np.linspace(0, 1, 16, dtype=np.float32).reshape(4, 4, 1)

    found = opened(lay(tmp_path, **{"a/0.tif": tiff(values, 1)}))
    assert found.splits["train"].images.ravel().tolist() == np.rint(values * 255).ravel().tolist()


def test_picture_with_a_value_that_is_no_number_is_left_out_when_asked(tmp_path):
    good, bad = np.full((2, 4, 4, 1), 0.5, np.float32)
    bad[0, 0] = np.nan
    files = {"a/good.tif": tiff(good, 1), "a/bad.tif": tiff(bad, 1)}

    with pytest.raises(InvalidFile, match=r"a/bad\.tif has values that are no numbers"):
        opened(lay(tmp_path, **files))
    found = opened(tmp_path, on_error="skip")
    assert (len(found.splits["train"]), found.report.skipped_count) == (1, 1)


@pytest.mark.parametrize("late", [0, 3, 600])
def test_masks_of_0_and_1_are_stretched_unless_one_image_is_brighter(tmp_path, late):
    mask = saved(Image.fromarray(np.eye(4, dtype=np.uint8)), "PNG")
    files = {f"a/{number:03d}.png": mask for number in range(max(late, 2))}
    if late:
        files["b/0.png"] = saved(Image.new("L", (4, 4), 9), "PNG")

    found = opened(lay(tmp_path, **files))
    assert found.splits["train"].images[0, 0, 0].tolist() == [1 if late else 255, 0, 0, 0]


def test_masks_are_resized_before_they_are_scaled(tmp_path):
    ramp = np.repeat([[0, 1]], 16, axis=1).repeat(32, axis=0).astype(np.uint8)

    found = opened(lay(tmp_path, **{"a/0.png": saved(Image.fromarray(ramp), "PNG")}), size=5)
    row = found.splits["train"].images[0, 0, 2].tolist()
    assert row[0] < 10
    assert row[-1] > 245
    assert 100 < row[2] < 155


@pytest.mark.parametrize("pad", [False, True])
def test_deep_images_are_resized_before_they_are_scaled(tmp_path, pad):
    ramp = np.linspace(0, 4095, 64).reshape(1, 64, 1).repeat(64, axis=0).astype(np.uint16)

    found = opened(lay(tmp_path, **{"a/0.png": deep_png(ramp)}), size=8, pad=pad)
    row = found.splits["train"].images[0, 0, 4].astype(int)
    assert np.all(np.abs(row - (np.arange(8) + 0.5) * 255 / 8) < 3)


def test_colour_that_comes_late_is_no_matter_to_those_that_wait(tmp_path):
    files = {
        "a/0.png": deep_png(np.full((4, 4, 1), 65535, np.uint16)),
        "b/0.png": saved(Image.new("RGB", (4, 4), (1, 2, 3)), "PNG"),
    }

    images = opened(lay(tmp_path, **files)).splits["train"].images
    assert images[:, :, 0, 0].tolist() == [[255] * 3, [1, 2, 3]]
