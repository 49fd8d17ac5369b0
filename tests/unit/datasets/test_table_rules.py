"""What tables beside pictures may look like, in every way in which they are given."""

from __future__ import annotations

import json

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from layouts import every_way, lay, picture, write
from reading import opened

from datagen.errors import InvalidFile

FILES = [f"{number}.png" for number in range(4)]
LABELS = ["dog", "cat", "dog", "ant"]


def table(head, rows, dash=","):
    return "\n".join(dash.join(map(str, row)) for row in [head, *rows]) + "\n"


@pytest.mark.parametrize(
    "file",
    [
        "file", "filename", "file_name", "filepath", "filepaths", "image", "image_id", "id",
        "image name", "path", "Image Name", "FILEPATHS", "File-Name",
    ],
)  # fmt: skip
@pytest.mark.parametrize(
    "label", ["label", "labels", "Class", "class_name", "category", "breed", "target", "choice"]
)
def test_common_columns_are_known_in_any_case(tmp_path, file, label):
    source = lay(tmp_path / "in", *FILES)
    write(source / "table.csv", table([file, label], zip(FILES, LABELS, strict=True)))

    train = opened(source).splits["train"]
    assert [train.class_names[number] for number in train.labels] == LABELS


@pytest.mark.parametrize("column", ["split", "Split", "set", "subset", "partition", "data set"])
def test_split_columns_are_known_in_any_case(tmp_path, column):
    source = lay(tmp_path / "in", *FILES)
    splits = ["Train", "validation", "TEST", "training"]
    rows = zip(FILES, LABELS, splits, strict=True)
    write(source / "table.csv", table(["file", "label", column], rows))

    result, _ = every_way(source, tmp_path / "ways")
    assert (len(result["train"]), len(result["validation"]), len(result["test"])) == (2, 1, 1)


def test_files_in_folders_of_splits_keep_their_split(tmp_path):
    files = ["train/0.png", "train/1.png", "Test/0.png"]
    source = lay(tmp_path / "in", *files)
    write(source / "metadata.csv", table(["file_name", "label"], zip(files, "aba", strict=True)))

    result, _ = every_way(source, tmp_path / "ways")
    assert (result["train"], result["test"]) == (["a", "b"], ["a"])


def test_table_for_each_split_is_read(tmp_path):
    source = lay(tmp_path / "in", "images/0.png", "images/1.png", "images/2.png")
    write(source / "train.csv", table(["id", "breed"], [("0", "pug"), ("1", "beagle")]))
    write(source / "test_labels.csv", table(["id", "breed"], [("2", "pug")]))

    result, _ = every_way(source, tmp_path / "ways")
    assert (result["train"], result["test"]) == (["pug", "beagle"], ["pug"])


@pytest.mark.parametrize("at", ["", "images/", "annotations/"])
@pytest.mark.parametrize("name", ["{}.png", "{}"])
def test_names_are_found_in_the_only_folder_of_pictures(tmp_path, at, name):
    source = lay(tmp_path / "in", *(f"images/{file}" for file in FILES))
    rows = [(name.format(number), label) for number, label in enumerate(LABELS)]
    write(source / at / "labels.csv", table(["id", "breed"], rows))

    assert every_way(source, tmp_path / "ways")[0]["train"] == LABELS


@pytest.mark.parametrize(
    ("head", "told"),
    [
        (["image_id", "label"], "names no picture that is there ('0.png' for example)"),
        (["picture", "label"], "none of which is known as a column of file names"),
        (["image_id", "species"], "none of which is known as a column of labels"),
    ],
)
def test_table_that_cannot_be_used_is_refused_with_its_columns(tmp_path, head, told):
    source = lay(tmp_path / "in", "train_images/0.png", "train_images/1.png", "test_images/2.png")
    write(source / "train.csv", table(head, [("0.png", "a"), ("1.png", "b")]))

    result, _ = every_way(source, tmp_path / "ways")

    assert all(repr(name) in result for name in head)
    assert "train.csv" in result
    assert told in result


def test_table_that_names_pictures_wins_over_folders_and_others_are_noted(tmp_path):
    source = lay(tmp_path / "in", "a/0.png", "b/1.png")
    write(source / "labels.csv", table(["path", "label"], [("a/0.png", "x"), ("b/1.png", "y")]))
    write(source / "prices.csv", table(["item", "price"], [("x", 3)]))

    result, notes = every_way(source, tmp_path / "ways")

    assert (result["kind"], result["train"]) == ("table", ["x", "y"])
    said = "The table prices.csv was not read: it has the columns 'item', 'price', none of which is"
    assert any(note.startswith(said) for note in notes)


def test_windows_names_are_read(tmp_path):
    source = lay(tmp_path / "in", "img/a/0.png", "img/b/1.png")
    write(
        source / "labels.csv",
        table(["path", "label"], [("img\\a\\0.png", "x"), ("img\\b\\1.png", "y")]),
    )

    assert every_way(source, tmp_path / "ways")[0]["train"] == ["x", "y"]


def test_one_hot_columns_are_classes(tmp_path):
    for split in ("train", "valid"):
        for number in range(2):
            value = 40 * number + 100 * (split == "train")
            write(tmp_path / "in" / split / f"{split}{number}.png", picture(value))
        rows = [(f"{split}0.png", 0, 1), (f"{split}1.png", 1, 0)]
        write(tmp_path / "in" / split / "_classes.csv", table(["filename", " cat", " dog"], rows))

    result, _ = every_way(tmp_path / "in", tmp_path / "ways")
    assert result["classes"] == ["cat", "dog"]
    assert (result["train"], result["validation"]) == (["dog", "cat"], ["dog", "cat"])


def test_row_of_two_classes_is_refused(tmp_path):
    source = lay(tmp_path / "in", "0.png", "1.png")
    write(
        source / "_classes.csv",
        table(["filename", "cat", "dog"], [("0.png", 1, 1), ("1.png", 1, 0)]),
    )

    assert (
        "line 2 gives 0.png a label that has 2 classes" in every_way(source, tmp_path / "ways")[0]
    )


def task(number, *choices, kind="choices"):
    result = [{"type": kind, "value": {kind: list(choices)}}] if choices else []
    image = f"/data/upload/1/{number}.png"
    return {"id": number, "data": {"image": image}, "annotations": [{"result": result}]}


def test_label_studios_choices_are_labels(tmp_path):
    source = lay(tmp_path / "in", *(f"images/{file}" for file in FILES))
    tasks = [task(number, label) for number, label in enumerate(LABELS)]
    write(source / "project-1.json", json.dumps(tasks))

    assert every_way(source, tmp_path / "ways")[0]["train"] == LABELS


@pytest.mark.parametrize(
    ("wrong", "told"),
    [
        (task(0, "a", "b"), "task 1 of Label Studio has the choices a, b"),
        (task(0, [1, 2], kind="rectanglelabels"), "of the type 'rectanglelabels'"),
        (task(0), "line 1 gives 0.png no label"),
        (task(0) | {"annotations": [{"result": "a"}]}, "of the type 'unknown'"),
        (task(0) | {"annotations": [{"result": 7}]}, "of the type 'unknown'"),
        (task(0) | {"annotations": ["a"]}, "line 1 gives 0.png no label"),
    ],
)
def test_label_studios_other_results_are_refused(tmp_path, wrong, told):
    source = lay(tmp_path / "in", "0.png", "1.png")
    write(source / "project.json", json.dumps([wrong, task(1, "a")]))

    assert told in every_way(source, tmp_path / "ways")[0]


@pytest.mark.parametrize(
    ("values", "told"),
    [
        ([0.5, 1.0], "is 0.5, not a whole number"),
        ([float("nan"), 1.0], "is not a number"),
        ([["a"], ["b"]], "is a list"),
        ([{"x": 1}, {"x": 2}], "is an object"),
        ([" ", "a"], "no label"),
    ],
)
@pytest.mark.parametrize("kind", ["jsonl", "parquet"])
def test_labels_that_are_none_are_refused_by_row(tmp_path, values, told, kind):
    source = lay(tmp_path / "in", "0.png", "1.png")
    rows = [{"file": f"{number}.png", "label": value} for number, value in enumerate(values)]
    if kind == "parquet":
        pq.write_table(pa.Table.from_pylist(rows), source / "labels.parquet")
    else:
        write(source / "labels.jsonl", "\n".join(map(json.dumps, rows)))

    with pytest.raises(InvalidFile, match=r"line 1 .*label") as raised:
        opened(source)
    assert told in raised.value.detail


# Whatever JSON can hold, in any column.
CELLS = [None, True, 3, 1.5, "", "\0", "0.png", "../0.png", [], ["0.png"], {}, {"a": [1]}]


@pytest.mark.parametrize("column", ["file_name", "label", "split", "something"])
@pytest.mark.parametrize("cell", CELLS, ids=repr)
def test_cell_of_any_type_is_read_or_refused(tmp_path, column, cell):
    source = lay(tmp_path / "in", *FILES)
    rows = [
        {"file_name": f, "label": a} | {column: cell} for f, a in zip(FILES, LABELS, strict=True)
    ]
    write(source / "metadata.jsonl", "\n".join(map(json.dumps, rows)))

    if column == "something" or (column == "split" and cell in (None, "")):
        assert len(opened(source).splits["train"]) == len(FILES)
    elif column == "label" and cell in (True, 3, "0.png", "../0.png"):
        name = "1" if cell is True else str(cell)
        assert opened(source).splits["train"].class_names == (name,)
    else:
        with pytest.raises(InvalidFile, match=r"metadata\.jsonl|The class"):
            opened(source)


@pytest.mark.parametrize("values", [["1.0", "2.0", "10.0", "1"], [1, 2.0, 10, 1.0]])
def test_whole_numbers_are_classes_whatever_holds_them(tmp_path, values):
    source = lay(tmp_path / "in", *FILES)
    if isinstance(values[0], str):
        write(source / "t.csv", table(["file", "label"], zip(FILES, values, strict=True)))
    else:
        rows = [{"file": f, "label": v} for f, v in zip(FILES, values, strict=True)]
        write(source / "t.jsonl", "\n".join(map(json.dumps, rows)))

    result, _ = every_way(source, tmp_path / "ways")
    assert (result["classes"], result["train"]) == (["1", "2", "10"], ["1", "2", "10", "1"])


def test_fraction_in_a_csv_is_refused_by_line(tmp_path):
    source = lay(tmp_path / "in", *FILES)
    write(source / "t.csv", table(["file", "label"], zip(FILES, [1, 0.5, 1, 1], strict=True)))

    assert "line 3 gives 1.png a label that is 0.5" in every_way(source, tmp_path / "ways")[0]


def test_column_without_a_name_is_no_split(tmp_path):
    source = lay(tmp_path / "in", *FILES)
    rows = [(number, *row) for number, row in enumerate(zip(FILES, LABELS, strict=True))]
    write(source / "t.csv", table(["", "Filename", "Label"], rows))

    assert every_way(source, tmp_path / "ways")[0]["train"] == LABELS


def test_table_of_names_that_lie_in_several_folders_is_refused(tmp_path):
    files = [f"images_part_{number % 2}/ISIC_{number}.jpg" for number in range(4)]
    source = lay(tmp_path / "in", *files)
    rows = [(f"ISIC_{number}", label) for number, label in enumerate(LABELS)]
    write(source / "metadata.csv", table(["image_id", "dx"], rows))

    result, _ = every_way(source, tmp_path / "ways")
    assert "metadata.csv has the columns 'image_id', 'dx'" in result


def test_labels_to_be_filled_in_are_not_read(tmp_path):
    source = lay(tmp_path / "in", *(f"images/{file}" for file in FILES))
    write(source / "train.csv", table(["id", "label"], zip(FILES, LABELS, strict=True)))
    write(source / "sample_submission.csv", table(["id", "label"], [("0.png", 0)]))

    result, notes = every_way(source, tmp_path / "ways")
    assert result["train"] == LABELS
    assert any("sample_submission.csv" in note and "was not read" in note for note in notes)


def test_picture_with_two_labels_is_refused_by_line(tmp_path):
    source = lay(tmp_path / "in", "0.png", "1.png")
    rows = [("0.png", "a"), ("1.png", "b"), ("0.png", "b")]
    write(source / "t.csv", table(["file", "label"], rows))

    result, _ = every_way(source, tmp_path / "ways")
    assert "t.csv line 4 gives 0.png the label 'b', and an earlier line 'a'" in result


def test_nan_in_a_csv_is_refused_by_line(tmp_path):
    source = lay(tmp_path / "in", *FILES)
    write(
        source / "t.csv", table(["file", "label"], zip(FILES, ["a", "NaN", "b", "a"], strict=True))
    )

    assert "line 3 gives 1.png a label that is not a number" in every_way(source, tmp_path / "w")[0]


def test_other_columns_of_splits_are_noted(tmp_path):
    source = lay(tmp_path / "in", *FILES)
    rows = zip(FILES, LABELS, [0, 0, 1, 0], strict=True)
    write(source / "t.csv", table(["file", "label", "is_valid"], rows))

    assert any(
        "'is_valid', which was not read" in note for note in every_way(source, tmp_path / "w")[1]
    )


def test_table_with_a_blank_first_line_and_spaces_after_commas_is_read(tmp_path):
    source = lay(tmp_path / "in", *FILES)
    lines = [f'"{file}", "{label}"' for file, label in zip(FILES, LABELS, strict=True)]
    write(source / "t.csv", "\n".join(["", '"file", "label"', *lines]) + "\n")

    assert every_way(source, tmp_path / "w")[0]["train"] == LABELS


def test_table_with_a_heading_alone_is_refused_with_its_columns(tmp_path):
    source = lay(tmp_path / "in", "images/0.png", "images/1.png")
    write(source / "labels.csv", "filename,label\n")

    assert "the columns 'filename', 'label'" in every_way(source, tmp_path / "ways")[0]


@pytest.mark.parametrize("encoding", ["utf-16", "utf-8-sig"])
def test_unicode_of_spreadsheets_is_read(tmp_path, encoding):
    source = lay(tmp_path / "in", *FILES)
    text = table(["file", "label"], zip(FILES, ["dög", "cät", "dög", "ant"], strict=True))
    write(source / "t.csv", text.encode(encoding))

    assert every_way(source, tmp_path / "ways")[0]["classes"] == ["ant", "cät", "dög"]


def test_other_encodings_are_refused_with_a_remedy(tmp_path):
    source = lay(tmp_path / "in", *FILES)
    write(source / "t.csv", "file,label\n0.png,dög\n".encode("latin-1"))

    assert "t.csv cannot be read as a table" in every_way(source, tmp_path / "ways")[0]
    assert "save it as UTF-8" in every_way(source, tmp_path / "again")[0]


def test_rows_of_a_parquet_table_are_numbered_through(tmp_path):
    source = lay(tmp_path / "in", "0.png", "1.png")
    count = 70_000
    files = ["0.png"] * (count - 1) + ["gone.png"]
    pq.write_table(pa.table({"file": files, "label": ["a"] * count}), source / "t.parquet")

    with pytest.raises(InvalidFile, match=f"line {count} names gone.png"):
        opened(source)
