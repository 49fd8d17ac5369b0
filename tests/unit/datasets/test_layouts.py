"""What a layout is read as, and what is refused: the same in every way in which it is given."""

from __future__ import annotations

import json
import unicodedata

import pytest
from layouts import every_way, lay, picture, write

CLASSES = ["cat/0.png", "cat/1.png", "dog/2.png", "dog/3.png"]
TWO = {"kind": "imagefolder", "classes": ["cat", "dog"], "train": ["cat", "cat", "dog", "dog"]}


def under(folder, *names):
    return [f"{folder}/{name}" for name in names]


@pytest.mark.parametrize("name", ["README", "README.md", "LICENSE", "notes.txt", "data.yaml"])
@pytest.mark.parametrize("around", ["", "photos/", "a/b/"])
def test_documents_beside_the_only_folder_change_nothing(tmp_path, around, name):
    source = lay(tmp_path / "in", *(around + file for file in CLASSES))
    write(source / name, "hello")

    result, notes = every_way(source, tmp_path / "ways")

    assert result == TWO
    assert not any(name in note for note in notes)


def test_document_beside_the_only_archive_changes_nothing(tmp_path):
    from layouts import as_zip  # noqa: PLC0415

    inner = lay(tmp_path / "inner", *CLASSES)
    source = tmp_path / "in"
    source.mkdir()
    as_zip(inner, source)
    write(source / "README.md", "hello")

    assert every_way(source, tmp_path / "ways")[0] == TWO


@pytest.mark.parametrize(
    ("train", "test"),
    [
        ("train", "test"),
        ("Train", "TEST"),
        ("training_set", "test_set"),
        ("train2017", "test2017"),
        ("01_train", "02_test"),
        ("train_data", "test_data"),
        ("TrainingSet", "TestSet"),
        ("seg_train/seg_train", "seg_test/seg_test"),
        ("train/train", "test/test"),
        ("train/images", "test/images"),
        ("trainset/data", "testset/data"),
    ],
)
def test_folders_that_mean_splits_are_splits(tmp_path, train, test):
    source = lay(tmp_path / "in", *under(train, *CLASSES), *under(test, "dog/9.png"))

    result, _ = every_way(source, tmp_path / "ways")

    assert result == TWO | {"test": ["dog"]}


@pytest.mark.parametrize(
    "folders",
    [
        ["train", "test"],
        ["train"],
        ["seg_train", "seg_test"],
        ["train_images", "test_images"],
        ["images/train", "images/val"],
        ["train/images", "valid/images"],
        ["data"],
        ["images"],
        ["img"],
    ],
)
def test_pictures_that_no_folder_names_the_class_of_are_refused(tmp_path, folders):
    files = [f"{folder}/{number}{at}.png" for at, folder in enumerate(folders) for number in "123"]
    source = lay(tmp_path / "in", *files)

    result, _ = every_way(source, tmp_path / "ways")

    assert "have no labels" in result
    assert "class folders are read" in result


def test_folder_of_pictures_among_classes_is_refused_when_it_is_called_images(tmp_path):
    source = lay(tmp_path / "in", *CLASSES, "images/1.png", "images/2.png")

    assert "'images' have no labels" in every_way(source, tmp_path / "ways")[0]


def test_split_without_class_folders_beside_one_with_them_is_left_out_with_a_note(tmp_path):
    source = lay(tmp_path / "in", *under("train", *CLASSES), "test/8.png", "test/9.png")

    result, notes = every_way(source, tmp_path / "ways")

    assert result == TWO
    assert any("'test' holds 2 pictures and no class folders" in note for note in notes)


def test_classes_named_like_splits_beside_other_classes_are_noted(tmp_path):
    source = lay(tmp_path / "in", "train/0.png", "bus/1.png", "car/2.png")

    result, notes = every_way(source, tmp_path / "ways")

    assert result["classes"] == ["bus", "car", "train"]
    assert any("were read as classes: 'train'" in note for note in notes)


def test_names_between_split_and_class_are_refused(tmp_path):
    source = lay(tmp_path / "in", "train-clean/0.png", "test-clean/1.png")

    assert "named like splits, and like classes too" in every_way(source, tmp_path / "ways")[0]


@pytest.mark.parametrize("annotations", ["Annotation", "Annotations", "lists"])
def test_classes_beside_annotations_are_found(tmp_path, annotations):
    source = lay(tmp_path / "in", *under("Images", *CLASSES))
    for name in ("cat", "dog"):
        write(source / annotations / name / "0", "<annotation/>")

    assert every_way(source, tmp_path / "ways")[0] == TWO


def test_folder_with_files_and_no_picture_is_no_class_and_an_empty_one_is(tmp_path):
    source = lay(tmp_path / "in", *CLASSES)
    write(source / "boxes" / "1.xml", "<annotation/>")

    result, notes = every_way(source, tmp_path / "ways")
    assert result == TWO
    assert any("'boxes' holds 1 files and no picture" in note for note in notes)


@pytest.mark.parametrize(
    ("files", "told"),
    [
        (
            ["animals/cat/1.png", "animals/dog/2.png", "plants/rose/3.png"],
            "'animals' has no picture",
        ),
        (
            ["train/animals/cat/1.png", "train/animals/dog/2.png", "train/x/1.png"],
            "'animals' has no",
        ),
        (["cat/train/1.png", "cat/test/2.png", "dog/train/3.png"], "'cat' holds the splits"),
        (
            ["train/cat/1.png", "cat/2.png"],
            "Beside the splits 'train' are other folders: 'cat'",
        ),
        (["train/cat/1.png", "train/2.png"], "either a class or a split"),
        (["val/cat/1.png", "test/cat/2.png"], "no folder `train`"),
        (["train/cat/1.png", "training_set/cat/2.png"], "two are the same split"),
    ],
)
def test_trees_that_could_mean_several_things_are_refused(tmp_path, files, told):
    source = lay(tmp_path / "in", *files)

    assert told in every_way(source, tmp_path / "ways")[0]


@pytest.mark.parametrize(
    ("files", "told"),
    [
        ({"labels/0.txt": "0 0.5 0.5 0.1 0.1", "data.yaml": "nc: 1"}, "YOLO"),
        ({"annotations/0.xml": "<annotation/>"}, "boxes of objects"),
        ({"masks/0.png": picture(9)}, "masks"),
        (
            {"instances.json": json.dumps({"images": [], "annotations": [], "categories": []})},
            "COCO",
        ),
    ],
)
def test_layouts_of_other_tasks_are_refused_by_name(tmp_path, files, told):
    source = lay(tmp_path / "in", "images/0.png", "images/1.png")
    for name, content in files.items():
        write(source / name, content)

    result, _ = every_way(source, tmp_path / "ways")
    assert "have no labels" in result
    assert told in result


def test_tiny_imagenets_validation_annotations_are_followed(tmp_path):
    train = [
        f"train/{name}/images/{name}_{number}.png" for name in ("n01", "n02") for number in "12"
    ]
    validation = [f"val/images/val_{number}.png" for number in range(3)]
    source = lay(tmp_path / "in", *train, *validation, "test/images/test_0.png")
    lines = [f"val_{number}.png\tn0{2 - number % 2}\t0\t0\t1\t1\n" for number in range(3)]
    write(source / "val" / "val_annotations.txt", "".join(lines))
    write(source / "wnids.txt", "n01\nn02\n")

    result, notes = every_way(source, tmp_path / "ways")

    assert result["classes"] == ["n01", "n02"]
    assert sorted(result["validation"]) == ["n01", "n02", "n02"]
    assert "test" not in result
    assert any("'test' holds 1 pictures" in note for note in notes)


@pytest.mark.parametrize("line", ["val_0.png\tn09\n", "gone.png\tn01\n", "val_0.png n01\n"])
def test_annotations_that_do_not_fit_are_refused_by_line(tmp_path, line):
    source = lay(tmp_path / "in", "train/n01/0.png", "train/n02/1.png", "val/images/val_0.png")
    write(source / "val" / "val_annotations.txt", line)

    assert "val_annotations.txt line 1" in every_way(source, tmp_path / "ways")[0]


@pytest.mark.parametrize(
    "leftover",
    [
        "@eaDir", "$RECYCLE.BIN", "System Volume Information", "__pycache__", ".git", "lost+found",
        "#recycle", "__MACOSX", ".ipynb_checkpoints", "@Recycle",
    ],
)  # fmt: skip
def test_what_systems_leave_behind_is_left_out_with_all_below_it(tmp_path, leftover):
    source = lay(tmp_path / "in", *CLASSES)
    for at in ("", "cat/", "dog/"):
        write(source / at / leftover / "deep" / "thumb.png", picture(250))
    write(source / "cat" / "Thumbs.db", "x")

    result, notes = every_way(source, tmp_path / "ways")

    assert result == TWO
    assert not any(leftover in note for note in notes)


@pytest.mark.parametrize("ending", ["jfif", "jpe", "JPG", "mpo"])
def test_all_endings_of_jpeg_are_read(tmp_path, ending):
    source = lay(tmp_path / "in", "dog/0.png")
    write(source / "cat" / f"1.{ending}", picture(9, "JPEG"))

    assert every_way(source, tmp_path / "ways")[0]["train"] == ["cat", "dog"]


def test_pictures_without_an_ending_are_read_and_other_files_counted(tmp_path):
    source = lay(tmp_path / "in", "dog/0.png", "cat/1", "cat/photo two")
    write(source / "cat" / "x.npy", b"\x93NUMPY")
    write(source / "cat" / "clip.mp4", b"x")

    result, notes = every_way(source, tmp_path / "ways")

    assert result["train"] == ["cat", "cat", "dog"]
    assert any(
        "'cat' that are no pictures and were left out: 1 .mp4, 1 .npy" in note for note in notes
    )


def test_pictures_beside_the_class_folders_are_counted(tmp_path):
    source = lay(tmp_path / "in", *CLASSES, "cover.png")

    result, notes = every_way(source, tmp_path / "ways")

    assert result == TWO
    assert any("no label and were left out: 1, such as 'cover.png'" in note for note in notes)


def test_names_in_both_forms_of_unicode_are_one_class(tmp_path):
    files = [
        f"{split}/{unicodedata.normalize(form, name)}/{number}.png"
        for split, form in (("train", "NFC"), ("test", "NFD"))
        for name in ("Äpfel", "Birnen")
        for number in range(2)
    ]

    result, _ = every_way(lay(tmp_path / "in", *files), tmp_path / "ways")

    assert result["classes"] == ["Birnen", "Äpfel"]
    assert len(result["test"]) == 4


def test_table_finds_files_whose_names_are_in_the_other_form(tmp_path):
    source = lay(
        tmp_path / "in", *(unicodedata.normalize("NFD", f"ü{number}.png") for number in "12")
    )
    write(source / "labels.csv", "file,label\nü1.png,a\nü2.png,b\n")

    assert every_way(source, tmp_path / "ways")[0]["train"] == ["a", "b"]


@pytest.mark.parametrize("names", [["Cat", "cat"], ["cat", "cat "], ["Cat ", "cat"]])
def test_classes_that_differ_in_little_are_noted(tmp_path, names):
    source = lay(tmp_path / "in", *(f"{name}/{at}.png" for at, name in enumerate(names)))

    result, notes = every_way(source, tmp_path / "ways")

    assert len(result["classes"]) == 2
    assert any("differ only in case, or in white space" in note for note in notes)


def test_linked_folders_of_pictures_are_read_and_circles_end(tmp_path):
    source = lay(tmp_path / "in", "cat/0.png", "dog/1.png")
    elsewhere = lay(tmp_path / "elsewhere", "a.png", "b/c.png")
    (source / "bird").symlink_to(elsewhere)
    (elsewhere / "b" / "round").symlink_to(elsewhere)

    from layouts import as_folder, as_packed, contents  # noqa: PLC0415
    from reading import opened  # noqa: PLC0415

    for give in (as_folder, as_packed):
        result = contents(opened(give(source, tmp_path)))
        assert result["train"] == ["bird", "bird", "cat", "dog"]


def test_several_archives_are_named(tmp_path):
    source = tmp_path / "in"
    for name in ("train.zip", "test.zip"):
        write(source / name, b"PK\x05\x06" + b"\0" * 18)

    assert "the archives 'test.zip' and 'train.zip'" in every_way(source, tmp_path / "ways")[0]


def test_two_kinds_of_dataset_in_one_folder_are_refused(tmp_path):
    import numpy as np  # noqa: PLC0415

    source = tmp_path / "in"
    source.mkdir()
    np.savez(source / "a.npz", images=np.zeros((2, 4, 4), np.uint8), labels=np.arange(2))
    write(source / "0.png", picture(1))
    write(source / "0.cls", "1")

    result, _ = every_way(source, tmp_path / "ways")
    assert "each of which could be the dataset" in result


def test_camel_case_between_split_and_class_is_refused(tmp_path):
    source = lay(tmp_path / "in", "trainA/0.png", "testA/1.png", "trainB/2.png")

    assert "named like splits, and like classes too" in every_way(source, tmp_path / "ways")[0]


def test_folder_of_predictions_beside_splits_is_left_out_with_a_note(tmp_path):
    source = lay(
        tmp_path / "in", *under("seg_train/seg_train", *CLASSES), "seg_pred/seg_pred/9.png"
    )

    result, notes = every_way(source, tmp_path / "ways")
    assert result == TWO
    assert any("'seg_pred' holds 1 pictures without labels" in note for note in notes)


@pytest.mark.parametrize("file", ["labels.xlsx", "obj/0.txt"])
def test_lone_folder_whose_labels_lie_elsewhere_is_no_class(tmp_path, file):
    source = lay(tmp_path / "in", "obj/0.png")
    write(source / file, "0 0.5 0.5 0.1 0.1")

    assert "have no labels" in every_way(source, tmp_path / "ways")[0]


def test_tables_that_were_not_used_are_named_where_labels_are_missing(tmp_path):
    source = lay(tmp_path / "in", "images/0.png", "images/1.png")
    write(source / "prices.csv", "item,price\nx,3\n")

    assert (
        "prices.csv was not read: it has the columns 'item', 'price'"
        in every_way(source, tmp_path / "ways")[0]
    )
