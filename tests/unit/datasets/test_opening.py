from __future__ import annotations

import resource
import struct
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from PIL import Image
from reading import read

from datagen.datasets.opening import open_dataset
from datagen.datasets.reading import ReadOptions
from datagen.errors import InvalidFile, StorageFailure


def picture(path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("L", (2, 2)).save(path)


@contextmanager
def files_of_at_most(size: int) -> Iterator[None]:
    """No file of this process can grow beyond so many bytes, as where a disk has no room."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


def test_idx_files_are_known_by_their_names(tmp_path):
    raw = tmp_path / "MNIST" / "raw"
    raw.mkdir(parents=True)
    head = struct.pack(">4I", 0x0803, 1, 2, 2)
    (raw / "train-images-idx3-ubyte").write_bytes(head + b"\1\2\3\4")
    (raw / "train-labels-idx1-ubyte").write_bytes(struct.pack(">2I", 0x0801, 1) + b"\0")

    assert read(tmp_path)["train"].images.ravel().tolist() == [1, 2, 3, 4]


def test_tree_is_found_in_the_only_folder(tmp_path):
    for label in ("cat", "dog"):
        picture(tmp_path / "pets" / label / "1.png")

    assert read(tmp_path)["train"].class_names == ("cat", "dog")


@pytest.mark.parametrize("files", [["cat/1.png"], ["cat/1.png", "cat/more/2.png"]])
def test_only_class_is_not_taken_for_a_folder_around(tmp_path, files):
    for name in files:
        picture(tmp_path / name)

    found = read(tmp_path)["train"]

    assert (found.class_names, len(found)) == (("cat",), len(files))


def test_only_split_is_no_class(tmp_path):
    picture(tmp_path / "train" / "cat" / "1.png")

    assert read(tmp_path)["train"].class_names == ("cat",)


@pytest.mark.parametrize("name", ["backup.tar", "features.npz", "train/shard.tar"])
@pytest.mark.parametrize("folder", ["cat", "train/cat"])
def test_class_folders_beside_another_dataset_are_refused_rather_than_guessed(
    tmp_path, name, folder
):
    picture(tmp_path / folder / "1.png")
    (tmp_path / name).parent.mkdir(exist_ok=True)
    (tmp_path / name).touch()

    with pytest.raises(InvalidFile, match=rf"{Path(name).name}.*'cat'.*keep one"):
        read(tmp_path)


def test_folder_without_a_dataset_gets_an_error_that_says_what_is_wanted(tmp_path):
    (tmp_path / "notes.txt").touch()

    with pytest.raises(InvalidFile, match=r"folders of images.*train-images-idx3-ubyte") as told:
        read(tmp_path)

    assert str(tmp_path) not in told.value.detail


def test_disk_without_room_is_an_error_and_nothing_is_left_open(tmp_path):
    for number in range(3):
        picture(tmp_path / "src" / "cat" / f"{number}.png")
    scratch = tmp_path / "scratch"
    scratch.mkdir()

    with (
        files_of_at_most(4),
        pytest.raises(StorageFailure, match=r"no more room while .* \(File too large\)"),
    ):
        open_dataset(tmp_path / "src", ReadOptions(), scratch)
