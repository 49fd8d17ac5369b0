from __future__ import annotations

import hashlib
import io
import zipfile
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from datagen.export.sinks import FolderSink, Sink, ZipSink


class Target:
    """A sink, and what a reader finds in it."""

    def __init__(self, sink: Sink, read: Callable[[], dict[str, bytes]]) -> None:
        self.sink = sink
        self.read = read


@pytest.fixture(params=["folder", "zip"])
def target(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Target]:
    if request.param == "folder":
        with FolderSink(tmp_path / "out") as folder:
            yield Target(folder, lambda: _files(tmp_path / "out"))
    else:
        path = tmp_path / "out.zip"
        with path.open("wb") as file, ZipSink(file) as archive:
            yield Target(archive, lambda: _members(archive, file, path))


def _files(root: Path) -> dict[str, bytes]:
    return {
        path.relative_to(root).as_posix(): path.read_bytes()
        for path in root.rglob("*")
        if path.is_file()
    }


def _members(archive: ZipSink, file: io.BufferedWriter, path: Path) -> dict[str, bytes]:
    archive.close()
    file.flush()
    with zipfile.ZipFile(path) as members:
        assert members.testzip() is None
        return {name: members.read(name) for name in members.namelist()}


def test_files_come_back_as_they_were_put(target: Target) -> None:
    target.sink.put("train/ä/0.png", b"first")
    target.sink.put("empty", b"")
    assert target.read() == {"train/ä/0.png": b"first", "empty": b""}


def test_file_may_be_written_in_pieces_while_others_are_put(target: Target) -> None:
    with target.sink.open("train/metadata") as file:
        file.write(b"one ")
        target.sink.put("train/0.png", b"pixels")
        file.write(b"two")
        assert file.tell() == 7
    assert target.read() == {"train/metadata": b"one two", "train/0.png": b"pixels"}


def test_size_and_digest_of_every_file_are_kept(target: Target) -> None:
    target.sink.put("a", b"first")
    with target.sink.open("b/c") as file:
        file.write(b"sec")
        file.write(b"ond")
    assert [entry[:4] for entry in target.sink.entries()] == [
        ("a", 5, hashlib.sha256(b"first").hexdigest(), zlib.crc32(b"first")),
        ("b/c", 6, hashlib.sha256(b"second").hexdigest(), zlib.crc32(b"second")),
    ]


def test_entries_can_be_read_between_files(target: Target) -> None:
    target.sink.put("a", b"1")
    assert [entry.path for entry in target.sink.entries()] == ["a"]
    target.sink.put("b", b"2")
    assert [entry.path for entry in target.sink.entries()] == ["a", "b"]


def test_file_that_was_not_finished_has_no_entry(target: Target) -> None:
    with pytest.raises(ZeroDivisionError), target.sink.open("a") as file:
        file.write(b"1" * (1 // 0))
    assert list(target.sink.entries()) == []


def test_folder_refuses_a_file_that_is_there(tmp_path: Path) -> None:
    with FolderSink(tmp_path) as sink:
        sink.put("a", b"1")
        with pytest.raises(FileExistsError):
            sink.put("a", b"2")
    assert (tmp_path / "a").read_bytes() == b"1"


def test_archive_has_no_dates_and_stores_plain_files() -> None:
    out = io.BytesIO()
    with ZipSink(out) as sink:
        sink.put("a", b"1")
    member = zipfile.ZipFile(out).infolist()[0]
    assert member.date_time == (1980, 1, 1, 0, 0, 0)
    assert member.compress_type == zipfile.ZIP_STORED
    assert member.external_attr >> 16 == 0o100644


def test_archive_of_a_failed_export_does_not_open() -> None:
    out = io.BytesIO()
    with pytest.raises(ZeroDivisionError), ZipSink(out) as sink:
        sink.put("a", b"1" * (1 // 0))
    with pytest.raises(zipfile.BadZipFile):
        zipfile.ZipFile(out)


def test_archive_holds_more_files_than_sixteen_bits_count() -> None:
    out, count = io.BytesIO(), 70_000
    with ZipSink(out) as sink:
        for number in range(count):
            sink.put(f"{number}", b"")
    with zipfile.ZipFile(out) as archive:
        assert len(archive.namelist()) == count


def test_archive_goes_on_beyond_four_gibibytes(tmp_path: Path) -> None:
    path, far = tmp_path / "far.zip", 5 << 30
    with path.open("wb") as file:
        # A hole in the file stands for the members before: it takes no room on the disk.
        file.seek(far)
        with ZipSink(file) as sink:
            sink._position = far
            sink.put("a", b"first")
            with sink.open("b") as member:
                member.write(b"second")
    with zipfile.ZipFile(path) as archive:
        assert (archive.read("a"), archive.read("b")) == (b"first", b"second")
        assert archive.getinfo("b").header_offset > far
