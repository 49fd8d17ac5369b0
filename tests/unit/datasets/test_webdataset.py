from __future__ import annotations

import io
import json

import pytest
from layouts import tar_of, write
from PIL import Image
from reading import opened, read

from datagen.errors import InvalidFile


def picture(value: int = 7) -> bytes:
    out = io.BytesIO()
    Image.new("L", (4, 3), value).save(out, "PNG")
    return out.getvalue()


def shard(path, members):
    write(path, tar_of(dict(members)))


def samples(start, labels, ending="cls"):
    for number, label in enumerate(labels, start=start):
        key = f"{number:08d}"
        yield f"{key}.png", picture(number)
        text = json.dumps({"label": label, "seed": 3}) if ending == "json" else str(label)
        yield f"{key}.{ending}", text.encode()


@pytest.mark.parametrize("ending", ["cls", "json", "txt"])
def test_samples_are_read_with_their_labels(tmp_path, ending):
    shard(tmp_path / "000000.tar", samples(0, [2, 0, 1], ending))
    shard(tmp_path / "000001.tar", samples(3, [2], ending))

    found = opened(tmp_path)
    train = found.splits["train"]
    assert found.report.source == "webdataset"
    assert train.labels.tolist() == [2, 0, 1, 2]
    assert train.images[:, 0, 0, 0].tolist() == [0, 1, 2, 3]


@pytest.mark.parametrize("name", ["{}-000000.tar", "{}/{}-000000.tar", "{}/000000.tar"])
def test_splits_are_known_by_file_or_folder(tmp_path, name):
    shard(tmp_path / name.format("train", "train"), samples(0, [0, 1]))
    shard(tmp_path / name.format("test", "test"), samples(2, [1]))

    assert {split: len(images) for split, images in read(tmp_path).items()} == {
        "train": 2,
        "test": 1,
    }


def test_list_of_classes_gives_their_names_and_order(tmp_path):
    shard(tmp_path / "x.tar", samples(0, [1, 0, 1]))
    (tmp_path / "classes.txt").write_text("zoo\nant\nbee\n")

    train = read(tmp_path)["train"]
    assert train.class_names == ("zoo", "ant", "bee")
    assert train.labels.tolist() == [1, 0, 1]


def test_one_tar_given_as_the_source_is_the_same(tmp_path):
    shard(tmp_path / "x.tar", samples(0, [1, 0, 1]))

    found = opened(tmp_path / "x.tar")
    assert found.report.source == "webdataset"
    assert found.splits["train"].labels.tolist() == [1, 0, 1]


@pytest.mark.parametrize(
    ("members", "told"),
    [
        ([("a.png", picture())], "The pictures have no labels"),
        (
            [("a.png", picture()), ("a.cls", b"1"), ("b.png", picture())],
            r"b has no label: no \.cls",
        ),
        ([("a.png", picture()), ("a.cls", b" ")], r"a\.cls holds no label"),
        ([("a.png", picture()), ("a.json", b"{")], r"a\.json is not JSON"),
        ([("a.png", picture()), ("a.json", b"{}")], r"a\.json names no label"),
        ([("a.cls", b"1")], "has no picture"),
        ([("a.png", picture()), ("a.jpg", picture()), ("a.cls", b"1")], r"pictures \.jpg, \.png"),
        ([("a.png", b"broken"), ("a.cls", b"1")], r"a\.png is not a picture"),
        ([("../a.png", picture()), ("../a.cls", b"1")], "without '..'"),
    ],
)
def test_samples_that_cannot_be_used_are_named(tmp_path, members, told):
    shard(tmp_path / "x.tar", members)

    with pytest.raises(InvalidFile, match=told):
        read(tmp_path)


def test_truncated_shard_is_refused(tmp_path):
    shard(tmp_path / "x.tar", samples(0, range(9)))
    whole = (tmp_path / "x.tar").read_bytes()
    (tmp_path / "x.tar").write_bytes(whole[: len(whole) // 2])

    with pytest.raises(InvalidFile, match=r"(damaged|breaks off)"):
        read(tmp_path)
