from __future__ import annotations

import io
import json
import zipfile
from pathlib import Path

import pytest
from PIL import Image
from reading import opened, read

from datagen.datasets.packing import pack
from datagen.errors import InvalidFile


def png(value: int) -> bytes:
    out = io.BytesIO()
    Image.new("L", (4, 4), value).save(out, "PNG")
    return out.getvalue()


def name(number: int) -> str:
    return f"0000{number // 3}/img{number:08d}.png"


def files(labels: list | None, count: int | None = None, first: int = 0) -> dict[str, bytes]:
    """The pictures of a dataset and its document; each label is of the next picture."""
    numbers = range(len(labels or []) if count is None else count)
    pairs = None if labels is None else [[name(n), label] for n, label in enumerate(labels)]
    document = json.dumps({"labels": pairs}).encode()
    return {name(number): png(first + number) for number in numbers} | {"dataset.json": document}


def zipped(path: Path, content: dict[str, bytes]) -> Path:
    with zipfile.ZipFile(path, "w") as archive:
        for member, data in content.items():
            archive.writestr(member, data)
    return path


def unpacked(folder: Path, content: dict[str, bytes]) -> Path:
    for member, data in content.items():
        (folder / member).parent.mkdir(parents=True, exist_ok=True)
        (folder / member).write_bytes(data)
    return folder


def test_zips_of_a_folder_are_its_splits(tmp_path):
    zipped(tmp_path / "train.zip", files([1, 0, 2, 1]))
    zipped(tmp_path / "test.zip", files([2], first=100))
    (tmp_path / "classes.txt").write_text("zoo\nant\ncat\n")

    pack(tmp_path, tmp_path / "packed")
    found = read(tmp_path / "packed")

    assert list(found) == ["train", "test"]
    assert found["train"].class_names == ("zoo", "ant", "cat")
    assert found["train"].labels.tolist() == [1, 0, 2, 1]
    assert found["train"].images[:, 0, 0, 0].tolist() == [0, 1, 2, 3]
    assert found["test"].images[:, 0, 0, 0].tolist() == [100]


@pytest.mark.parametrize("shape", ["zip alone", "zip in a folder", "folder", "folder of a split"])
def test_zip_and_folder_are_read_alike(tmp_path, shape):
    content = files([10, 0, 9, 10])
    if shape == "zip alone":
        source = zipped(tmp_path / "digits.zip", content)
    elif shape == "zip in a folder":
        source = zipped(tmp_path / "digits.zip", content).parent
    else:
        source = tmp_path / "in"
        unpacked(source / ("train" if shape == "folder of a split" else ""), content)

    found = opened(source)

    assert found.report.source == "stylegan"
    assert found.splits["train"].class_names == ("0", "9", "10")
    assert found.splits["train"].labels.tolist() == [2, 0, 1, 2]


def test_zip_given_alone_keeps_its_name_and_the_names_beside_it(tmp_path):
    zipped(tmp_path / "train.zip", files([1, 0]))
    zipped(tmp_path / "test.zip", files([1, 1]))
    (tmp_path / "classes.txt").write_text("zoo\nant\n")

    pack(tmp_path / "train.zip", tmp_path / "packed")
    found = read(tmp_path / "packed", shares={"train": 0.5, "test": 0.5})

    assert list(found) == ["train"]
    assert found["train"].class_names == ("zoo", "ant")
    assert found["train"].labels.tolist() == [1, 0]


@pytest.mark.parametrize("form", ["zip", "folder"])
def test_labels_that_are_null_are_noted(tmp_path, form):
    content = files(None, count=2)
    if form == "zip":
        zipped(tmp_path / "a.zip", content)
    else:
        unpacked(tmp_path, content)

    with pytest.raises(InvalidFile, match=r"There are no labels in .*dataset\.json"):
        read(tmp_path)


@pytest.mark.parametrize(
    ("document", "told"),
    [
        ({"labels": [["00000/x.png", 1]]}, "item 0 names '00000/x.png', which does not exist"),
        ({"labels": [[name(0), 1], [name(0), 2]]}, "item 1 names .*, more than once"),
        ({"labels": [[name(0), [0.0, 1.0]]]}, "label of .* is a list"),
        ({"labels": [[name(0), 0.5]]}, "label of .* is 0.5, not a whole number"),
        ({"labels": [[name(0), None]]}, "has no label"),
        ({"labels": [[name(0), 3]]}, "is 3, and 2 classes are named"),
        ({"labels": [name(0)]}, "the name of a file and a label are needed"),
        ({"labels": {name(0): 1}}, "the name of a file and a label are needed"),
        ({"labels": []}, "no image"),
    ],
)
@pytest.mark.parametrize("form", ["zip", "folder"])
def test_labels_that_cannot_be_used_are_explained(tmp_path, form, document, told):
    content = files([0]) | {"dataset.json": json.dumps(document).encode()}
    (tmp_path / "classes.txt").write_text("a\nb\n")
    if form == "zip":
        zipped(tmp_path / "train.zip", content)
    else:
        unpacked(tmp_path, content)

    with pytest.raises(InvalidFile, match=told):
        read(tmp_path)


def test_pictures_without_a_label_are_noted(tmp_path):
    zipped(tmp_path / "train.zip", files([1, 0], count=5))

    found = opened(tmp_path)

    assert len(found.splits["train"]) == 2
    assert any("no label, which were left out: 3, such as" in note for note in found.report.notes)


@pytest.mark.parametrize(
    ("names", "told"),
    [
        (["a.zip", "b.zip"], "a.zip, b.zip each hold images"),
        (["train-32.zip", "train-64.zip"], "each hold images"),
        (["train.zip", "more.zip"], "each hold images"),
    ],
)
def test_zips_that_are_no_splits_of_one_dataset_are_refused(tmp_path, names, told):
    for file in names:
        zipped(tmp_path / file, files([0, 1]))

    with pytest.raises(InvalidFile, match=told):
        read(tmp_path)


def test_other_things_beside_a_zip_are_refused_rather_than_guessed(tmp_path):
    zipped(tmp_path / "train.zip", files([0, 1]))
    zipped(tmp_path / "other.zip", {"cat/1.png": png(1)})
    with pytest.raises(InvalidFile, match=r"train\.zip.*other\.zip"):
        read(tmp_path)

    (tmp_path / "other.zip").unlink()
    unpacked(tmp_path, {"cat/1.png": png(1)})
    with pytest.raises(InvalidFile, match=r"train\.zip.*'cat'"):
        read(tmp_path)


def test_split_without_its_labels_is_noted(tmp_path):
    unpacked(tmp_path / "train", files([0, 1]))
    unpacked(tmp_path / "test", {name(0): png(0)})

    with pytest.raises(InvalidFile, match=r"'test' has no dataset\.json"):
        read(tmp_path)


def test_damaged_member_is_an_error(tmp_path):
    path = zipped(tmp_path / "train.zip", files([0, 1]))
    data = bytearray(path.read_bytes())
    data[data.index(b"IDAT") + 6] ^= 0xFF
    path.write_bytes(data)

    with pytest.raises(InvalidFile, match=r"train\.zip is damaged"):
        read(tmp_path)


def test_picture_that_promises_too_much_is_not_unpacked(tmp_path):
    with zipfile.ZipFile(tmp_path / "train.zip", "w", zipfile.ZIP_DEFLATED) as archive:
        with archive.open(name(0), "w") as member:
            for _ in range(257):
                member.write(bytes(1 << 20))
        archive.writestr("dataset.json", json.dumps({"labels": [[name(0), 0]]}))

    with pytest.raises(InvalidFile, match="too large for a picture"):
        read(tmp_path)


def test_document_of_others_beside_class_folders_changes_nothing(tmp_path):
    unpacked(tmp_path, {"cat/1.png": png(1), "dog/1.png": png(2), "dataset.json": b'{"title": 1}'})

    assert read(tmp_path)["train"].class_names == ("cat", "dog")
