from __future__ import annotations

import hashlib
import io
import tarfile
import zipfile
import zlib
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from datagen.errors import InvalidFile
from datagen.export import packed
from datagen.export.packed import Packed, write_files
from datagen.export.sinks import ZipSink
from datagen.export.writing import write_export

LONG = "train/" + "ü" * 120 + ".png"
FILES = {
    "train/a/1.png": b"one",
    LONG: b"x" * 513,
    "empty": b"",
    "train/b/2.png": bytes(range(256)) * 9000,
    "manifest.json": b"{}",
}


def pack(files: dict[str, bytes]) -> Packed:
    archive, listed = io.BytesIO(), io.BytesIO()
    with ZipSink(archive) as sink:
        for path, data in files.items():
            sink.put(path, data)
        write_files(sink.entries(), listed)
    return Packed(io.BytesIO(listed.getvalue()), archive)


@pytest.fixture
def several_groups(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(packed, "ROWS_AT_ONCE", 2)


@pytest.mark.usefixtures("several_groups")
def test_tar_has_every_file_and_the_announced_length() -> None:
    export = pack(FILES)
    data = b"".join(export.read_tar(0, export.tar_bytes))
    assert len(data) == export.tar_bytes
    with tarfile.open(fileobj=io.BytesIO(data)) as tar:
        found = {member.name: tar.extractfile(member).read() for member in tar}  # type: ignore[union-attr]
        assert all(member.mtime == 0 and member.isfile() for member in tar.getmembers())
    assert found == FILES


@given(
    files=st.dictionaries(
        st.text("aü/.", min_size=1, max_size=130), st.binary(max_size=1500), max_size=6
    ),
    data=st.data(),
)
def test_any_stretch_of_the_tar_is_that_of_the_whole(files: dict[str, bytes], data: Any) -> None:
    export = pack(files)
    whole = b"".join(export.read_tar(0, export.tar_bytes))
    start = data.draw(st.integers(0, len(whole) - 1))
    stop = data.draw(st.integers(start + 1, len(whole)))
    assert b"".join(export.read_tar(start, stop)) == whole[start:stop]


@pytest.mark.usefixtures("several_groups")
def test_stretches_of_several_groups_of_files_fit_together() -> None:
    export = pack(FILES)
    whole = b"".join(export.read_tar(0, export.tar_bytes))
    step = 999_983
    parts = [
        b"".join(export.read_tar(start, min(start + step, len(whole))))
        for start in range(0, len(whole), step)
    ]
    assert b"".join(parts) == whole


@pytest.mark.usefixtures("several_groups")
def test_single_files_are_found_and_read() -> None:
    export = pack(FILES)
    for path, data in FILES.items():
        entry = export.find(path)
        assert entry is not None
        assert entry.bytes == len(data)
        assert entry.sha256 == hashlib.sha256(data).hexdigest()
        assert entry.crc32 == zlib.crc32(data)
        assert b"".join(export.read(entry.offset, entry.offset + entry.bytes)) == data
    assert export.find("train/a/3.png") is None
    assert export.find("") is None


def test_offsets_are_those_of_the_zip(draw: Any) -> None:
    drawn = draw({"a": 3, "b": 2})
    archive, listed = io.BytesIO(), io.BytesIO()
    with ZipSink(archive) as sink:
        write_export("imagefolder", drawn.splits(), drawn.info, sink)
        write_files(sink.entries(), listed)
    export = Packed(io.BytesIO(listed.getvalue()), archive)
    with zipfile.ZipFile(archive) as files:
        for member in files.infolist():
            entry = export.find(member.filename)
            assert entry is not None
            assert (entry.bytes, entry.crc32) == (member.file_size, member.CRC)
            read = b"".join(export.read(entry.offset, entry.offset + entry.bytes))
            assert read == files.read(member)


@pytest.mark.parametrize("data", [b"", b"PAR1", b"x" * 100])
def test_damaged_list_is_an_error(data: bytes) -> None:
    with pytest.raises(InvalidFile, match="list of the export's files"):
        Packed(io.BytesIO(data), io.BytesIO())


def test_archive_that_ends_early_is_an_error() -> None:
    export = pack(FILES)
    with pytest.raises(OSError, match="bytes early"):
        list(export.read(0, 10**9))
