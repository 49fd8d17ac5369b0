from __future__ import annotations

import gzip
import json

import pytest
from layouts import every_way, picture, tar_of, write
from reading import opened, read

from datagen.errors import InvalidFile


def shard(path, samples):
    """A tar of samples: for each its files by their endings."""
    data = tar_of(
        {
            f"{number:04}.{ending}": data if isinstance(data, bytes) else str(data).encode()
            for number, parts in enumerate(samples)
            for ending, data in {"png": picture(number * 9), **parts}.items()
        }
    )
    write(path, gzip.compress(data) if path.name.endswith("gz") else data)


def labels(source):
    train = read(source)["train"]
    return [train.class_names[number] for number in train.labels.tolist()]


@pytest.mark.parametrize("values", [[0, 1, 2], [1, 2, 1], [2, 2, 2]])
def test_numbers_are_places_where_a_list_of_numbers_came(tmp_path, values):
    shard(tmp_path / "a.tar", [{"cls": value} for value in values])
    (tmp_path / "classes.txt").write_text("1\n2\n3\n")

    assert labels(tmp_path) == [str(value + 1) for value in values]


def test_names_are_names_where_a_list_of_names_came(tmp_path):
    shard(tmp_path / "a.tar", [{"cls": value} for value in ("7", "3", "7")])
    (tmp_path / "classes.txt").write_text("3\n7\n")

    assert labels(tmp_path) == ["7", "3", "7"]


def test_number_that_is_neither_place_nor_name_is_refused(tmp_path):
    shard(tmp_path / "a.tar", [{"cls": value} for value in ("0", "5")])
    (tmp_path / "classes.txt").write_text("cat\ndog\n")

    with pytest.raises(InvalidFile, match=r"neither one of the 2\s+classes"):
        read(tmp_path)


def test_names_beside_the_numbers_are_the_classes(tmp_path):
    samples = [
        {"cls": number, "json": json.dumps({"label_name": name})}
        for number, name in ((1, "0"), (0, "1"), (1, "0"))
    ]
    shard(tmp_path / "a.tar", samples)

    assert read(tmp_path)["train"].class_names == ("1", "0")
    assert labels(tmp_path) == ["0", "1", "0"]


def test_json_goes_before_a_caption(tmp_path):
    samples = [
        {"txt": f"a photo, {n}", "json": json.dumps({"label": "ab"[n % 2]})} for n in range(4)
    ]
    shard(tmp_path / "a.tar", samples)

    assert labels(tmp_path) == ["a", "b", "a", "b"]


@pytest.mark.parametrize(("count", "words"), [(30, 30), (30, 4)])
def test_texts_that_differ_for_more_than_a_tenth_are_captions(tmp_path, count, words):
    shard(tmp_path / "a.tar", [{"txt": f"a photo of {n % words}"} for n in range(count)])

    with pytest.raises(InvalidFile, match="captions, not labels"):
        read(tmp_path)


def test_few_texts_are_labels(tmp_path):
    shard(tmp_path / "a.tar", [{"txt": f"kind {n % 3}"} for n in range(30)])

    assert labels(tmp_path)[:3] == ["kind 0", "kind 1", "kind 2"]


@pytest.mark.parametrize("name", ["train-0.tar.gz", "train-0.tgz", "train-0.tar"])
def test_shards_may_be_gzipped(tmp_path, name):
    shard(tmp_path / "in" / name, [{"cls": "a"}, {"cls": "b"}])

    assert labels(tmp_path / "in") == ["a", "b"]
    assert labels(tmp_path / "in" / name) == ["a", "b"]


@pytest.mark.parametrize("ending", ["cls", "json", "txt"])
@pytest.mark.parametrize("folder", ["", "imgs/", "train/"])
def test_loose_files_of_samples_are_read_in_every_way(tmp_path, ending, folder):
    source = tmp_path / "in"
    for number in range(4):
        label = "ab"[number % 2]
        text = json.dumps({"label": label}) if ending == "json" else str(number % 2)
        write(source / f"{folder}{number}.png", picture(number * 9))
        write(source / f"{folder}{number}.{ending}", text)

    result, _ = every_way(source, tmp_path / "ways")

    assert result["kind"] == "webdataset"
    assert result["train"] == (["a", "b"] * 2 if ending == "json" else ["0", "1"] * 2)


def test_class_folders_with_other_json_beside_pictures_stay_class_folders(tmp_path):
    source = tmp_path / "in"
    for name in ("cat/0", "dog/1"):
        write(source / f"{name}.png", picture(ord(name[-1])))
        write(source / f"{name}.json", json.dumps({"taken": 2020}))

    result, notes = every_way(source, tmp_path / "ways")
    assert (result["kind"], result["train"]) == ("imagefolder", ["cat", "dog"])
    assert any("1 .json" in note for note in notes)


@pytest.mark.parametrize(
    ("value", "told"),
    [([1], "is a list"), (0.5, "is 0.5"), ({"a": 1}, "is an object"), (" ", "empty")],
)
def test_labels_in_json_that_are_none_are_refused_by_sample(tmp_path, value, told):
    shard(tmp_path / "a.tar", [{"json": json.dumps({"label": value})}, {"json": '{"label": 1}'}])

    with pytest.raises(InvalidFile, match=r"0000\.json has a label that") as raised:
        opened(tmp_path)
    assert told in raised.value.detail
