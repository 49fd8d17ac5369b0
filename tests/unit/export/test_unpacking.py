from __future__ import annotations

import stat
import struct
import warnings
import zipfile
from pathlib import Path
from typing import Any

import pytest

from datagen.errors import InvalidFile, InvalidRequest, StorageFailure
from datagen.export import sinks
from datagen.export.sinks import ZipSink
from datagen.export.unpacking import check_free, unpack
from datagen.export.writing import write_export


@pytest.fixture
def archive(drawn: Any, tmp_path: Path) -> Path:
    path = tmp_path / "export.zip"
    with path.open("wb") as file, ZipSink(file) as sink:
        write_export("imagefolder", drawn.splits(), drawn.info, sink)
    return path


def _zip(
    path: Path, *members: str | zipfile.ZipInfo, compression: int = zipfile.ZIP_STORED
) -> Path:
    with warnings.catch_warnings(), zipfile.ZipFile(path, "w", compression) as archive:
        warnings.simplefilter("ignore", UserWarning)  # zipfile warns of the duplicates wanted here
        for member in members:
            archive.writestr(member, b"data")
    return path


def _names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def test_out_becomes_the_root_of_the_export(archive: Path, drawn: Any, tmp_path: Path) -> None:
    out = tmp_path / "deep" / "out"
    unpack(archive, out)
    assert _names(out) == [
        "README.md",
        "classes.txt",
        "contact-sheet.html",
        "croissant.json",
        "folders.txt",
        "manifest.json",
        "train",
    ]
    assert (out / "train" / "dog" / "0000000004.png").read_bytes() == drawn.files[4]
    assert _names(out.parent) == ["out"]


def test_empty_folder_may_be_there_already(archive: Path, tmp_path: Path) -> None:
    (tmp_path / "out").mkdir()
    unpack(archive, tmp_path / "out")
    assert (tmp_path / "out" / "manifest.json").is_file()


def test_folder_with_files_is_refused_and_left_alone(archive: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    out.mkdir()
    (out / "mine.txt").write_text("x")
    for overwrite in (False, True):
        with pytest.raises(InvalidRequest, match="is not empty; name a folder"):
            unpack(archive, out, overwrite=overwrite)
    assert _names(out) == ["mine.txt"]


def test_file_in_place_of_the_folder_is_refused(tmp_path: Path) -> None:
    (tmp_path / "out").write_text("x")
    with pytest.raises(InvalidRequest, match="is no folder"):
        check_free(tmp_path / "out", overwrite=True)


def test_overwriting_replaces_a_former_export(archive: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    unpack(archive, out)
    (out / "train" / "cat" / "0000000000.png").unlink()
    (out / "train" / "old.txt").write_text("x")
    unpack(archive, out, overwrite=True)
    assert (out / "train" / "cat" / "0000000000.png").exists()
    assert not (out / "train" / "old.txt").exists()
    assert _names(tmp_path) == ["export.zip", "out"]


@pytest.mark.parametrize(
    "name", ["../out.txt", "/etc/x", "a/../../x", "a//x", "./x", "C:\\x", "a\\..\\x", "a\nb"]
)
def test_unsafe_name_is_refused_before_anything_appears(name: str, tmp_path: Path) -> None:
    path = _zip(tmp_path / "bad.zip", "fine.txt", name)
    with pytest.raises(InvalidFile, match="unsafe name"):
        unpack(path, tmp_path / "out")
    assert _names(tmp_path) == ["bad.zip"]


def test_link_is_refused(archive: Path, tmp_path: Path) -> None:
    link = zipfile.ZipInfo("train/link")
    link.external_attr = (stat.S_IFLNK | 0o777) << 16
    with zipfile.ZipFile(archive, "a") as more:
        more.writestr(link, str(tmp_path / "secret"))
    with pytest.raises(InvalidFile, match="train/link is not in the manifest"):
        unpack(archive, tmp_path / "out")
    assert _names(tmp_path) == ["export.zip"]


def test_size_of_a_file_beyond_four_gigabytes_is_read_from_its_zip64_field(
    archive: Path, tmp_path: Path
) -> None:
    # A small file whose header is written like a large one's.
    data = archive.read_bytes()
    at = data.index(b"README.md") - sinks.LOCAL.size
    fields = list(sinks.LOCAL.unpack_from(data, at))
    size, letters = fields[8], fields[9]
    fields[7] = fields[8] = sinks.MAX32
    fields[10] = 20
    head = sinks.LOCAL.pack(*fields) + b"README.md"
    extra = struct.pack("<2H2Q", sinks.ZIP64, 16, size, size)
    rest = data[at + sinks.LOCAL.size + letters :]
    archive.write_bytes(data[:at] + head + extra + rest)
    unpack(archive, tmp_path / "out")
    assert (tmp_path / "out" / "README.md").stat().st_size == size

    archive.write_bytes(data[:at] + head + b"\0" * 20 + rest)
    with pytest.raises(InvalidFile, match="a large file's size is missing"):
        unpack(archive, tmp_path / "other")


def test_compressed_member_is_refused_because_it_could_grow(tmp_path: Path) -> None:
    path = _zip(tmp_path / "bad.zip", "bomb", compression=zipfile.ZIP_DEFLATED)
    with pytest.raises(InvalidFile, match="in a way that no export does"):
        unpack(path, tmp_path / "out")


@pytest.mark.parametrize("members", [("a", "a"), ("a", "a/b"), ("folder/",)])
def test_members_that_collide_are_refused(members: tuple[str, ...], tmp_path: Path) -> None:
    with pytest.raises(InvalidFile):
        unpack(_zip(tmp_path / "bad.zip", *members), tmp_path / "out")
    assert _names(tmp_path) == ["bad.zip"]


def test_truncated_archive_is_refused(archive: Path, tmp_path: Path) -> None:
    data = archive.read_bytes()
    archive.write_bytes(data[: len(data) // 2])
    with pytest.raises(InvalidFile, match="damaged"):
        unpack(archive, tmp_path / "out")
    assert _names(tmp_path) == ["export.zip"]


def test_archive_with_a_flipped_bit_is_refused(archive: Path, drawn: Any, tmp_path: Path) -> None:
    data = archive.read_bytes()
    spoiled = bytearray(drawn.files[4])
    spoiled[-20] ^= 1
    archive.write_bytes(data.replace(drawn.files[4], bytes(spoiled)))
    with pytest.raises(InvalidFile, match="damaged"):
        unpack(archive, tmp_path / "out")


def test_archive_without_one_of_its_files_is_refused(archive: Path, tmp_path: Path) -> None:
    less = tmp_path / "less.zip"
    with zipfile.ZipFile(archive) as whole, zipfile.ZipFile(less, "w") as part:
        for name in whole.namelist():
            if name != "train/cat/0000000002.png":
                part.writestr(name, whole.read(name))
    with pytest.raises(InvalidFile, match=r"damaged: train/cat/0000000002\.png is missing"):
        unpack(less, tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_place_that_cannot_be_written_is_named(archive: Path, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("x")
    with pytest.raises(StorageFailure, match="cannot be unpacked"):
        unpack(archive, tmp_path / "file" / "out")
