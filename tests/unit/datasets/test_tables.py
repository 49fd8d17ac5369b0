from __future__ import annotations

import io
import json

import numpy as np
import pytest
from PIL import Image
from reading import opened, read

from datagen.datasets import table_rows
from datagen.errors import InvalidFile


def picture(value: int = 7) -> bytes:
    out = io.BytesIO()
    Image.new("L", (4, 3), value).save(out, "PNG")
    return out.getvalue()


@pytest.fixture
def folder(tmp_path):
    """Four pictures, of which the last is in a folder below."""
    for number, name in enumerate(("a.png", "b.png", "c.png", "below/d.png")):
        path = tmp_path / name
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(picture(10 * number))
    return tmp_path


ROWS = [("a.png", "dog"), ("b.png", "cat"), ("c.png", "dog"), ("below/d.png", "ant")]


def table(rows=ROWS, head="file_name,label", dash=","):
    lines = [head, *(dash.join(row) for row in rows)]
    return "\n".join(lines).lstrip() + "\n"


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("labels.csv", table()),
        ("labels.csv", "\ufeff" + table(head="Filename , Class")),
        ("x.csv", table(head="path;category", dash=";")),
        ("x.tsv", table(head="image\tlabel", dash="\t")),
        ("x.csv", table(head="")),
        ("metadata.jsonl", "\n".join(json.dumps({"file_name": f, "label": c}) for f, c in ROWS)),
    ],
)
def test_file_names_and_labels_are_read(folder, name, text):
    (folder / name).write_text(text, encoding="utf-8")

    found = opened(folder)
    train = found.splits["train"]
    assert found.report.source == "table"
    assert train.class_names == ("ant", "cat", "dog")
    assert train.labels.tolist() == [2, 1, 2, 0]
    assert train.images[:, 0, 0, 0].tolist() == [0, 10, 20, 30]


def test_split_column_is_followed(folder):
    rows = [
        (*row, split) for row, split in zip(ROWS, ("train", "val", "TEST", "train"), strict=True)
    ]
    (folder / "labels.csv").write_text(table(rows, head="file,label,split"))

    found = read(folder)
    assert {name: len(images) for name, images in found.items()} == {
        "train": 2,
        "validation": 1,
        "test": 1,
    }


def test_tables_in_folders_named_like_splits_are_read(tmp_path):
    for number, split in enumerate(("train", "test")):
        (tmp_path / split).mkdir()
        (tmp_path / split / "x.png").write_bytes(picture(number))
        (tmp_path / split / "metadata.csv").write_text("file_name,label\nx.png,dog\n")

    assert {name: len(images) for name, images in read(tmp_path).items()} == {"train": 1, "test": 1}


def test_pictures_without_a_row_are_noted(folder):
    (folder / "labels.csv").write_text(table(ROWS[:3]))

    notes = opened(folder).report.notes
    assert any(
        "without a row in labels.csv, which were left out: 1," in note and "d.png" in note
        for note in notes
    )


@pytest.mark.parametrize(
    ("row", "told"),
    [
        ("a.png,", r"labels\.csv line 2 gives a\.png no label"),
        ("a.png", r"labels\.csv line 2 gives a\.png no label"),
        ("gone.png,dog", r"labels\.csv line 2 names gone\.png, which does not exist"),
        ("../a.png,dog", "only names inside are read"),
        ("/etc/passwd,dog", "only names inside are read"),
        ("..\\a.png,dog", "only names inside are read"),
        (",dog", "only names inside are read"),
    ],
)
def test_rows_that_cannot_be_used_are_named_by_line(folder, row, told):
    (folder / "labels.csv").write_text(f"file,label\n{row}\nb.png,cat\n")

    with pytest.raises(InvalidFile, match=told):
        read(folder)
    found = opened(folder, on_error="skip")
    assert len(found.splits["train"]) == found.report.skipped_count == 1


def test_unknown_split_is_named(folder):
    (folder / "labels.csv").write_text("file,label,split\na.png,dog,later\n")

    with pytest.raises(InvalidFile, match="'later'; use train"):
        read(folder)


@pytest.mark.parametrize(
    ("name", "content", "told"),
    [
        ("x.jsonl", b'{"file": "a.png", "label": "x"}\n{"file"', "line 2 is not JSON"),
        ("x.jsonl", b'{"file": "a.png", "label": "x"}\n[]', "not an object"),
        ("x.csv", b"file,label\n\xff\xfe,dog\n", "cannot be read as a table"),
        ("metadata.parquet", b"PAR1 no", "is not a Parquet file"),
    ],
)
def test_damaged_tables_are_named(folder, name, content, told):
    (folder / name).write_bytes(content)

    with pytest.raises(InvalidFile, match=told):
        read(folder)


def test_two_tables_are_one_too_many(folder):
    (folder / "one.csv").write_text(table())
    (folder / "two.csv").write_text(table())

    with pytest.raises(InvalidFile, match=r"one\.csv, two\.csv all name pictures"):
        read(folder)


def test_table_of_something_else_is_left_alone(tmp_path):
    (tmp_path / "dog").mkdir()
    (tmp_path / "dog" / "1.png").write_bytes(picture())
    (tmp_path / "prices.csv").write_text("item,price\nx,3\n")

    assert opened(tmp_path).report.source == "imagefolder"


def test_numbers_are_classes_in_the_order_of_the_numbers(tmp_path):
    rows = []
    for number in range(12):
        (tmp_path / f"{number}.png").write_bytes(picture(number))
        rows.append((f"{number}.png", str(number)))
    (tmp_path / "labels.csv").write_text(table(rows))

    found = read(tmp_path)["train"]
    assert found.class_names == tuple(map(str, range(12)))
    assert np.array_equal(found.labels, np.arange(12))


def test_json_list_beyond_the_limit_is_refused_before_it_is_parsed(folder, monkeypatch):
    text = json.dumps([{"file_name": name, "label": label} for name, label in ROWS])
    (folder / "labels.json").write_text(text)
    monkeypatch.setattr(table_rows, "MAX_JSON_BYTES", len(text) - 1)

    with pytest.raises(InvalidFile, match=rf"JSON lists of up to {len(text) - 1} .*\.jsonl"):
        read(folder)

    monkeypatch.setattr(table_rows, "MAX_JSON_BYTES", len(text))
    assert read(folder)["train"].class_names == ("ant", "cat", "dog")
