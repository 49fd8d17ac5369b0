from __future__ import annotations

import io
import json

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image
from reading import opened, read

from datagen.datasets.stored import digests_of
from datagen.errors import InvalidFile
from datagen.images import encode_png

PIXELS = np.random.default_rng(6).integers(0, 256, (6, 1, 5, 4), dtype=np.uint8)
LABELS = [2, 0, 1, 2, 0, 0]
FEATURES = {"image": {"_type": "Image"}, "label": {"names": ["x", "b", "c"], "_type": "ClassLabel"}}
METADATA = {b"huggingface": json.dumps({"info": {"features": FEATURES}}).encode()}


def table(pixels=PIXELS, labels=LABELS, metadata=METADATA, **more):
    images = [{"bytes": png, "path": None} for png in encode_png(pixels)]
    columns = {"image": images, "label": labels, **more}
    return pa.table(columns).replace_schema_metadata(metadata)


def test_splits_are_known_by_the_files_names(tmp_path):
    (tmp_path / "data").mkdir()
    pq.write_table(
        table(PIXELS[:3], LABELS[:3]), tmp_path / "data" / "train-00000-of-00002.parquet"
    )
    pq.write_table(
        table(PIXELS[3:4], LABELS[3:4]), tmp_path / "data" / "train-00001-of-00002.parquet"
    )
    pq.write_table(table(PIXELS[4:], LABELS[4:]), tmp_path / "data" / "test-00000-of-00001.parquet")

    found = read(tmp_path)
    assert {name: len(images) for name, images in found.items()} == {"train": 4, "test": 2}
    assert np.array_equal(found["train"].images, PIXELS[:4])
    assert found["test"].labels.tolist() == LABELS[4:]
    assert found["train"].class_names == ("x", "b", "c")


def test_folders_named_like_splits_and_a_split_column_are_followed(tmp_path):
    (tmp_path / "validation").mkdir()
    (tmp_path / "train").mkdir()
    pq.write_table(table(PIXELS[:2], LABELS[:2]), tmp_path / "validation" / "0000.parquet")
    pq.write_table(table(PIXELS[2:], LABELS[2:]), tmp_path / "train" / "0000.parquet")
    pq.write_table(
        table(split=["train", "train", "val", "test", "test", "train"]), tmp_path / "data.one"
    )

    assert {name: len(images) for name, images in read(tmp_path).items()} == {
        "train": 4,
        "validation": 2,
    }
    assert {name: len(images) for name, images in read(tmp_path / "data.one").items()} == {
        "train": 3,
        "validation": 1,
        "test": 2,
    }


def test_names_and_plain_bytes_will_do(tmp_path):
    plain = {"img": encode_png(PIXELS), "class": ["dog", "cat", "dog", "ant", "ant", "ant"]}
    pq.write_table(pa.table(plain), tmp_path / "a.parquet")

    found = read(tmp_path)["train"]
    assert found.class_names == ("ant", "cat", "dog")
    assert found.labels.tolist() == [2, 1, 2, 0, 0, 0]


def test_the_datasets_library_writes_what_is_read(tmp_path):
    import datasets  # noqa: PLC0415 - it reads its settings when it is imported

    features = datasets.Features(
        {"image": datasets.Image(), "label": datasets.ClassLabel(names=["x", "b", "c"])}
    )
    rows = {"image": [Image.fromarray(image[0]) for image in PIXELS], "label": LABELS}
    datasets.Dataset.from_dict(rows, features=features).to_parquet(tmp_path / "train.parquet")

    found = read(tmp_path)["train"]
    assert np.array_equal(found.images, PIXELS)
    assert found.class_names == ("x", "b", "c")


@pytest.mark.parametrize("kind", ["parquet", "imagefolder"])
def test_what_is_exported_is_read_back(tmp_path, exported, kind):
    folder, images = exported(kind)

    found = read(folder)
    assert digests_of(found).content == digests_of({"train": images}).content


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({"labels": [0, 1, 2, None, 0, 0]}, r"a\.parquet row 3 has no label"),
        (
            {"labels": [0, 1, 2, 9, 0, 0]},
            r"a\.parquet row 3 has a label that is 9, and 3 classes are named",
        ),
    ],
)
def test_labels_that_mean_nothing_are_named(tmp_path, changes, told):
    pq.write_table(table(**changes), tmp_path / "a.parquet")

    with pytest.raises(InvalidFile, match=told):
        read(tmp_path)


def test_rows_without_a_picture_are_skipped_when_asked(tmp_path):
    rows = table().to_pylist()
    rows[1]["image"] = {"bytes": None, "path": None}
    rows[4]["image"]["bytes"] = rows[4]["image"]["bytes"][:30]
    pq.write_table(pa.Table.from_pylist(rows, schema=table().schema), tmp_path / "a.parquet")

    found = opened(tmp_path, on_error="skip")
    assert len(found.splits["train"]) == 4
    assert [problem["name"] for problem in found.report.skipped] == [
        "a.parquet row 1",
        "a.parquet row 4",
    ]


def test_damaged_file_and_missing_columns_are_errors(tmp_path):
    out = io.BytesIO()
    pq.write_table(table(), out)
    (tmp_path / "a.parquet").write_bytes(out.getvalue()[:-9])
    with pytest.raises(InvalidFile, match=r"a\.parquet is not a Parquet file, or is damaged"):
        read(tmp_path)

    pq.write_table(table().drop_columns("label"), tmp_path / "a.parquet")
    with pytest.raises(InvalidFile, match="columns image; one of them must be named label"):
        read(tmp_path)


@pytest.mark.parametrize(
    ("train", "test"), [("Train", "Test"), ("TRAIN", "VALID"), ("a/train", "a/Val")]
)
def test_folders_of_splits_are_known_in_any_case_and_at_any_depth(tmp_path, train, test):
    for folder, rows in ((train, slice(0, 4)), (test, slice(4, 6))):
        (tmp_path / folder).mkdir(parents=True)
        pq.write_table(table(PIXELS[rows], LABELS[rows]), tmp_path / folder / "0.parquet")

    found = read(tmp_path)
    assert len(found["train"]) == 4
    assert sum(map(len, found.values())) == 6


def with_names(*names):
    features = {"image": {"_type": "Image"}, "label": {"names": names, "_type": "ClassLabel"}}
    return {b"huggingface": json.dumps({"info": {"features": features}}).encode()}


def test_lists_of_classes_that_differ_are_joined_by_name(tmp_path):
    whole = table(PIXELS[:4], [0, 1, 2, 0], with_names("a", "b", "c"))
    part = table(PIXELS[4:], [0, 1], with_names("c", "d"))
    pq.write_table(whole, tmp_path / "train.parquet")
    pq.write_table(part, tmp_path / "test.parquet")

    found = read(tmp_path)
    assert found["train"].class_names == ("a", "b", "c", "d")
    assert found["train"].labels.tolist() == [0, 1, 2, 0]
    assert found["test"].labels.tolist() == [2, 3]


def test_numbers_without_a_list_beside_a_list_are_refused(tmp_path):
    pq.write_table(table(PIXELS[:4], [0, 1, 2, 0]), tmp_path / "train.parquet")
    pq.write_table(table(PIXELS[4:], [0, 1], {}), tmp_path / "test.parquet")

    with pytest.raises(InvalidFile, match=r"test\.parquet has no list of class names"):
        read(tmp_path)


@pytest.mark.parametrize(
    ("labels", "names"),
    [
        ([b"cat", "dög".encode()] * 3, ("cat", "dög")),
        ([1.0, 2.0, 10.0] * 2, ("1", "2", "10")),
        ([True, False] * 3, ("0", "1")),
    ],
)
def test_labels_of_any_type_that_names_a_class_are_read(tmp_path, labels, names):
    pq.write_table(table(labels=labels, metadata={}), tmp_path / "a.parquet")

    assert read(tmp_path)["train"].class_names == names


@pytest.mark.parametrize(
    ("label", "told"),
    [
        ([1], "is a list"),
        ({"x": 1}, "is an object"),
        (b"\xff", "is no UTF-8 text"),
        (float("nan"), "is not a number"),
        (1.5, "is 1.5"),
        ("", "is empty text"),
    ],
)
def test_labels_that_name_no_class_are_refused_by_row(tmp_path, label, told):
    pq.write_table(table(labels=[label] * 6, metadata={}), tmp_path / "a.parquet")

    with pytest.raises(InvalidFile, match=rf"a\.parquet row 0 has a label that {told}"):
        read(tmp_path)


def test_other_columns_that_could_be_the_label_are_noted(tmp_path):
    pq.write_table(table(category=list("xyzxyz")), tmp_path / "a.parquet")

    notes = opened(tmp_path).report.notes
    assert any("column 'label'; not read: 'category'" in note for note in notes)
