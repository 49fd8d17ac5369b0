from __future__ import annotations

import io
import zipfile

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from reading import opened, read

from datagen.datasets import npz
from datagen.errors import InvalidFile

PIXELS = np.random.default_rng(4).integers(0, 256, (6, 5, 4), dtype=np.uint8)
LABELS = np.array([2, 0, 1, 2, 0, 0])


@pytest.mark.parametrize(
    ("keys", "splits"),
    [
        (("images", "labels"), ["train"]),
        (("x", "y"), ["train"]),
        (("x_train", "y_train"), ["train"]),
        (("train_images", "train_labels"), ["train"]),
    ],
)
def test_arrays_are_found_by_their_usual_names(tmp_path, keys, splits):
    np.savez(tmp_path / "a.npz", **dict(zip(keys, (PIXELS, LABELS), strict=True)))

    found = read(tmp_path / "a.npz")
    assert list(found) == splits
    assert np.array_equal(found["train"].images, PIXELS[:, None])
    assert found["train"].labels.tolist() == LABELS.tolist()
    assert found["train"].class_names == ("0", "1", "2")


def test_splits_keep_what_came_with_them(tmp_path):
    arrays = {
        "train_images": PIXELS[:3], "train_labels": LABELS[:3, None],
        "val_images": PIXELS[3:4], "val_labels": LABELS[3:4, None],
        "test_images": PIXELS[4:], "test_labels": LABELS[4:, None],
    }  # fmt: skip
    np.savez_compressed(tmp_path / "medical.npz", **arrays)

    found = read(tmp_path)
    assert {split: len(images) for split, images in found.items()} == {
        "train": 3,
        "validation": 1,
        "test": 2,
    }
    assert np.array_equal(found["test"].images, PIXELS[4:, None])


@given(
    count=st.integers(1, 5),
    height=st.integers(5, 9),
    width=st.integers(5, 9),
    channels=st.sampled_from([None, 1, 3]),
    first=st.booleans(),
)
def test_every_order_of_axes_is_read(tmp_path_factory, count, height, width, channels, first):
    shape = (count, height, width) if channels is None else (count, height, width, channels)
    values = np.random.default_rng(0).integers(0, 256, shape, dtype=np.uint8)
    given_values = values.transpose(0, 3, 1, 2) if first and channels else values
    path = tmp_path_factory.mktemp("npz") / "a.npz"
    np.savez(path, images=given_values, labels=np.zeros(count, int))

    expected = values[:, None] if channels is None else values.transpose(0, 3, 1, 2)
    assert np.array_equal(read(path)["train"].images, expected)


@pytest.mark.parametrize(
    ("values", "expected", "note"),
    [
        (PIXELS > 99, np.where(PIXELS > 99, 255, 0), None),
        (PIXELS.astype(np.int64), PIXELS, None),
        (
            PIXELS.astype(np.uint16) * 257,
            PIXELS,
            "16-bit values in uint16, scaled by 65535: 6 images",
        ),
        (PIXELS / 255.0, PIXELS, "0 to 1"),
        (PIXELS.astype(np.float32), PIXELS, "Fractions in float32"),
    ],
)
def test_values_of_other_types_become_grey_values(tmp_path, values, expected, note):
    np.savez(tmp_path / "a.npz", images=values, labels=LABELS)

    found = opened(tmp_path / "a.npz")
    assert np.array_equal(found.splits["train"].images[:, 0], expected)
    assert note is None or any(note in sentence for sentence in found.report.notes)


def test_transparency_is_laid_over_white_and_noted(tmp_path):
    clear = np.zeros((2, 5, 5, 4), dtype=np.uint8)
    np.savez(tmp_path / "a.npz", images=clear, labels=[0, 1])

    found = opened(tmp_path / "a.npz")
    assert found.splits["train"].images.min() == 255
    assert any("transparency" in note for note in found.report.notes)


def test_classes_are_named_in_the_order_given(tmp_path):
    np.savez(tmp_path / "a.npz", images=PIXELS, labels=LABELS, class_names=["zoo", "ant", "cat"])

    found = read(tmp_path / "a.npz")["train"]
    assert found.class_names == ("zoo", "ant", "cat")
    assert found.labels.tolist() == LABELS.tolist()


def test_labels_may_be_names(tmp_path):
    np.savez(tmp_path / "a.npz", images=PIXELS[:2], labels=np.array(["dog", "cat"]))

    assert read(tmp_path / "a.npz")["train"].class_names == ("cat", "dog")


@pytest.mark.parametrize(
    ("labels", "names"),
    [
        ([b"b", "ü".encode()], ["b", "ü"]),
        ([1.0, 0.0], ["0", "1"]),
        ([True, False], ["0", "1"]),
        ([10, 9], ["9", "10"]),
        ([-1, -2], ["-2", "-1"]),
    ],
)
def test_label_of_any_type_that_names_a_class_is_read(tmp_path, labels, names):
    np.savez(tmp_path / "a.npz", images=PIXELS[:2], labels=labels)

    assert list(read(tmp_path)["train"].class_names) == names


@pytest.mark.parametrize("none", [np.zeros((0, 5, 4), np.uint8), np.array([])])
def test_empty_split_is_no_split(tmp_path, none):
    arrays = {"x_train": PIXELS, "y_train": LABELS, "x_val": none, "y_val": np.array([])}
    np.savez(tmp_path / "a.npz", **arrays, x_test=PIXELS[:0], y_test=LABELS[:0])

    assert list(read(tmp_path)) == ["train"]


@pytest.mark.parametrize(
    ("arrays", "told"),
    [
        ({"pixels": PIXELS}, "holds the arrays pixels; expected are x_train"),
        ({"x_test": PIXELS, "y_test": LABELS}, "no x_train"),
        ({"images": PIXELS, "labels": LABELS[:4]}, "6 images and there are 4 labels"),
        ({"images": PIXELS[0], "labels": LABELS}, r"has the shape \(5, 4\)"),
        ({"images": np.zeros((6, 5, 4, 7), np.uint8), "labels": LABELS}, "1, 3 or 4 channels"),
        ({"images": PIXELS, "labels": np.eye(6)}, "one label an image"),
        ({"images": PIXELS, "labels": LABELS + 0.5}, r"labels\[0\] is .*5, not a whole number"),
        ({"images": PIXELS, "labels": [0, 1, 2, np.nan, 0, 1]}, r"labels\[3\] is not a number"),
        ({"images": PIXELS, "labels": ["a", "", "b", "c", "d", "e"]}, r"labels\[1\] is empty text"),
        ({"images": PIXELS[:2], "labels": [b"a", b"\xff"]}, r"labels\[1\] is no UTF-8 text"),
        ({"images": PIXELS, "labels": np.zeros(6, complex)}, "one label an image"),
        ({"images": PIXELS.astype(int) * 9, "labels": LABELS}, "values from"),
        ({"images": np.full((6, 5, 4), np.nan), "labels": LABELS}, "a.npz: images has .*NaN"),
        (
            {"images": PIXELS, "labels": LABELS, "class_names": ["a", "b"]},
            r"2, and 2 classes are named",
        ),
        ({"images": PIXELS, "labels": [0, 1, -1, 0, 0, 0], "class_names": ["a", "b"]}, "no label"),
        ({"images": PIXELS, "labels": LABELS, "class_names": [b"a", b"\xff", b"c"]}, "no UTF-8"),
        ({"images": PIXELS, "labels": LABELS, "class_names": ["a", "a", "b"]}, "twice"),
        ({"images": np.zeros((0, 5, 4), np.uint8), "labels": LABELS[:0]}, "no image"),
        ({"images": np.zeros((0, 5, 4), np.uint8), "labels": LABELS}, r"has the shape \(0,"),
        ({"images": np.uint8(3), "labels": LABELS}, r"has the shape \(\)"),
    ],
)
def test_arrays_that_cannot_be_used_are_explained(tmp_path, arrays, told):
    np.savez(tmp_path / "a.npz", **arrays)

    with pytest.raises(InvalidFile, match=told):
        read(tmp_path)


def test_pickled_objects_are_refused(tmp_path):
    np.savez(tmp_path / "a.npz", images=np.array([{"a": 1}], dtype=object), labels=[0])

    with pytest.raises(InvalidFile, match="Python objects"):
        read(tmp_path)


def test_header_that_promises_more_than_there_is_is_refused(tmp_path):
    out = io.BytesIO()
    np.save(out, PIXELS)
    lying = out.getvalue().replace(b"(6, 5, 4)", b"(9, 9, 4)")
    with zipfile.ZipFile(tmp_path / "a.npz", "w") as archive:
        archive.writestr("images.npy", lying)
        labels = io.BytesIO()
        np.save(labels, np.zeros(9, int))
        archive.writestr("labels.npy", labels.getvalue())

    with pytest.raises(InvalidFile, match="ends after 0 of 9 images"):
        read(tmp_path)


@pytest.mark.parametrize("cut", [10, 200])
def test_truncated_file_is_refused(tmp_path, cut):
    np.savez(tmp_path / "a.npz", images=PIXELS, labels=LABELS)
    whole = (tmp_path / "a.npz").read_bytes()
    (tmp_path / "a.npz").write_bytes(whole[:-cut])

    with pytest.raises(InvalidFile):
        read(tmp_path)


def test_labels_beyond_the_limit_are_refused_by_their_header(tmp_path, monkeypatch):
    np.savez(tmp_path / "a.npz", images=PIXELS, labels=LABELS)
    monkeypatch.setattr(npz, "MAX_LABEL_BYTES", LABELS.nbytes - 1)

    with pytest.raises(InvalidFile, match=f"labels takes {LABELS.nbytes} bytes, which is too much"):
        read(tmp_path / "a.npz")

    monkeypatch.setattr(npz, "MAX_LABEL_BYTES", LABELS.nbytes)
    assert read(tmp_path / "a.npz")["train"].labels.tolist() == LABELS.tolist()
