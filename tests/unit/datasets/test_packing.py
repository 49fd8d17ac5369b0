from __future__ import annotations

import os
import tarfile
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from reading import read

from datagen.datasets.archive import unpack_archive
from datagen.datasets.packing import pack
from datagen.datasets.stored import digests_of
from datagen.errors import InvalidFile, StorageFailure


def pictures(root: Path, *names: str) -> Path:
    rng = np.random.default_rng(3)
    for name in names:
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(rng.integers(0, 256, (4, 4), dtype=np.uint8)).save(path)
    return root


def names_in(archive: Path) -> list[str]:
    with tarfile.open(archive, "r:") as tar:
        return tar.getnames()


def test_what_is_packed_opens_as_the_same_dataset(tmp_path):
    source = pictures(tmp_path / "src", "train/a/1.png", "train/b é/2.png", "val/a/3.png")
    (source / "train" / "none").mkdir()
    target = tmp_path / "there"
    target.mkdir()

    pack(source, tmp_path / "x.tar")
    unpack_archive(tmp_path / "x.tar", target)

    here, there = read(source), read(target)
    assert there["train"].class_names == ("a", "b é", "none")
    assert digests_of(there).content == digests_of(here).content


def test_only_files_of_the_dataset_are_packed(tmp_path):
    source = pictures(tmp_path / "src", "a/1.png", "a/.hidden.png")
    (source / "a" / "secret.txt").write_text("x")
    (source / ".env").write_text("x")

    pack(source, tmp_path / "x.tar")

    assert names_in(tmp_path / "x.tar") == ["a", "a/1.png"]


def test_idx_files_are_packed_from_the_folder_that_holds_them(tmp_path):
    raw = tmp_path / "src" / "MNIST" / "raw"
    raw.mkdir(parents=True)
    for name in ("train-images-idx3-ubyte", "train-labels-idx1-ubyte.gz", "notes"):
        (raw / name).write_bytes(b"x")

    pack(tmp_path / "src", tmp_path / "x.tar")

    assert names_in(tmp_path / "x.tar") == [
        "MNIST/raw/train-images-idx3-ubyte",
        "MNIST/raw/train-labels-idx1-ubyte.gz",
    ]


def test_same_files_give_the_same_bytes(tmp_path):
    source = pictures(tmp_path / "src", "a/1.png", "b/1.png")
    pack(source, tmp_path / "x.tar")
    os.utime(source / "a" / "1.png", (1, 1))
    (source / "b" / "1.png").chmod(0o600)

    pack(source, tmp_path / "y.tar")

    assert (tmp_path / "x.tar").read_bytes() == (tmp_path / "y.tar").read_bytes()


def test_linked_pictures_are_packed_as_files(tmp_path):
    source = pictures(tmp_path / "src", "a/1.png")
    (source / "a" / "2.png").symlink_to(source / "a" / "1.png")

    pack(source, tmp_path / "x.tar")

    with tarfile.open(tmp_path / "x.tar") as tar:
        assert tar.getmember("a/2.png").isfile()


@pytest.mark.parametrize("name", ["empty", "file.txt", "nowhere"])
def test_source_that_is_no_dataset_is_refused_by_name(tmp_path, name):
    (tmp_path / "empty").mkdir()
    (tmp_path / "file.txt").touch()

    with pytest.raises(InvalidFile, match=rf"{name} (does not exist|is no dataset)"):
        pack(tmp_path / name, tmp_path / "x.tar")

    assert not (tmp_path / "x.tar").exists()


def test_file_that_vanished_is_named(tmp_path):
    source = pictures(tmp_path / "src", "a/1.png")
    (source / "a" / "2.png").symlink_to(tmp_path / "gone.png")

    with pytest.raises(InvalidFile, match=r"a/2\.png"):
        pack(source, tmp_path / "x.tar")


def test_target_that_cannot_be_written_is_a_storage_failure(tmp_path):
    source = pictures(tmp_path / "src", "a/1.png")

    with pytest.raises(StorageFailure, match="cannot be packed"):
        pack(source, tmp_path / "no" / "x.tar")
