from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from PIL import Image
from reading import opened, read

from datagen.datasets.packing import pack
from datagen.errors import InvalidFile


def picture(path: Path, value: int) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("L", (4, 4), value).save(path)


def written(folder: Path, labels: Any, classes: Any = None, count: int = 3) -> Path:
    """Pictures 0 to `count` - 1, each in the grey of its number, and the document beside them."""
    for number in range(count):
        picture(folder / "data" / f"{number}.png", number)
    document = {"labels": labels} if classes is None else {"classes": classes, "labels": labels}
    (folder / "labels.json").write_text(json.dumps(document))
    return folder


@pytest.mark.parametrize(
    "labels",
    [
        {"2": 1, "0": 0, "1": 1},
        {"2": {"label": 1, "confidence": 0.5, "attributes": {}}, "0": {"label": 0}, "1": 1.0},
        {"2": "ant", "0": "zoo", "1": "ant"},
        {"2.png": 1, "0.png": 0, "1.png": 1},
    ],
)
def test_labels_of_every_kind_name_their_class(tmp_path, labels):
    found = read(written(tmp_path, labels, ["zoo", "ant", "cat"]))["train"]

    assert found.class_names == ("zoo", "ant", "cat")
    assert found.labels.tolist() == [1, 0, 1]
    assert found.images[:, 0, 0, 0].tolist() == [2, 0, 1]


def test_labels_may_name_classes_that_nothing_lists(tmp_path):
    found = read(written(tmp_path, {"0": "dog", "1": "cat", "2": "dog"}))["train"]

    assert (found.class_names, found.labels.tolist()) == (("cat", "dog"), [1, 0, 1])


def test_splits_are_kept_and_packed_whole(tmp_path):
    written(tmp_path / "in" / "train", {"0": 0, "1": 1, "2": 1}, ["b", "a"])
    picture(tmp_path / "in" / "val" / "data" / "deep" / "9.jpg", 99)
    (tmp_path / "in" / "val" / "labels.json").write_text(
        json.dumps({"labels": {"deep/9": 0}, "classes": ["a", "b"]})
    )

    pack(tmp_path / "in", tmp_path / "packed")
    found = read(tmp_path / "packed")

    assert list(found) == ["train", "validation"]
    assert found["train"].class_names == found["validation"].class_names == ("b", "a")
    # Each split's numbers are places in its own list.
    assert found["validation"].labels.tolist() == [1]


@pytest.mark.parametrize(
    ("labels", "classes", "told"),
    [
        ({"0": [0, 1]}, ["a", "b"], r"labels.json: '0' is a list"),
        ({"0": {"label": [0]}}, ["a", "b"], r"'0' is a list"),
        ({"0": {"polygon": 1}}, ["a", "b"], "an object with fields"),
        ({"0": 2}, ["a", "b"], "is 2, and 2 classes are named"),
        ({"0": None}, ["a", "b"], "has no label"),
        ({"0": "c"}, ["a", "b"], "'c' is not among"),
        ({"9": 0}, ["a", "b"], "'9' has no picture in data"),
        ({"../labels": 0}, ["a", "b"], "has no picture in data"),
        ({"0": 0, "0.png": 1}, ["a", "b"], "a label more than once"),
        ({"0": 0}, ["a", "a"], "twice"),
        ({"0": 0}, {"a": 0}, "no list of names"),
        ({}, ["a", "b"], "no image"),
    ],
)
def test_labels_that_cannot_be_used_are_explained(tmp_path, labels, classes, told):
    with pytest.raises(InvalidFile, match=told):
        read(written(tmp_path, labels, classes))


def test_two_pictures_of_one_name_are_distinguished_by_their_endings(tmp_path):
    written(tmp_path, {"0": 0}, ["a", "b"])
    picture(tmp_path / "data" / "0.bmp", 50)
    with pytest.raises(InvalidFile, match=r"the pictures 0\.bmp, 0\.png"):
        read(tmp_path)

    written(tmp_path, {"0.bmp": 0}, ["a", "b"])
    assert read(tmp_path)["train"].images[0, 0, 0, 0] == 50


def test_pictures_without_a_label_are_noted(tmp_path):
    found = opened(written(tmp_path, {"1": 0}, ["a", "b"]))

    assert len(found.splits["train"]) == 1
    assert any("no label, which were left out: 2, such as 0" in note for note in found.report.notes)


def test_unlabelled_pictures_can_be_skipped(tmp_path):
    found = opened(written(tmp_path, {"0": 0, "1": None, "2": 1}, ["a", "b"]), on_error="skip")

    assert (len(found.splits["train"]), found.report.skipped_count) == (2, 1)


@pytest.mark.parametrize("other", ["test", "valid"])
def test_splits_that_do_not_fit_are_refused(tmp_path, other):
    for split in ("train", "val"):
        written(tmp_path / split, {"0": 0}, ["a", "b"])
    picture(tmp_path / other / "cat" / "1.png", 1)
    if other == "valid":
        written(tmp_path / other, {"0": 0}, ["a", "b"])

    with pytest.raises(InvalidFile, match=r"'test' has no labels\.json|val, valid two are"):
        read(tmp_path)


def test_damaged_document_is_an_error(tmp_path):
    written(tmp_path, {"0": 0}, ["a", "b"])
    (tmp_path / "labels.json").write_text('{"classes": ["a"], "labels": {"0": ')

    with pytest.raises(InvalidFile, match=r"labels\.json is not a readable JSON document"):
        read(tmp_path)


def test_document_of_others_beside_a_class_named_data_changes_nothing(tmp_path):
    for name in ("data", "more"):
        picture(tmp_path / name / "1.png", 1)
    (tmp_path / "labels.json").write_text('{"0": "data"}')

    assert read(tmp_path)["train"].class_names == ("data", "more")
