from __future__ import annotations

import gzip
import io
import tarfile
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from datagen.datasets.archive import unpack_archive
from datagen.errors import InvalidFile


def member(name: str, size: int = 0, **fields) -> tarfile.TarInfo:
    info = tarfile.TarInfo(name)
    info.size = size
    for field, value in fields.items():
        setattr(info, field, value)
    return info


def tar(*members: tuple[tarfile.TarInfo, bytes], form: int = tarfile.PAX_FORMAT) -> bytes:
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w", format=form) as archive:
        for info, content in members:
            archive.addfile(info, io.BytesIO(content))
    return out.getvalue()


def plain(*names: str) -> bytes:
    return tar(*((member(name, 3), b"abc") for name in names))


@pytest.fixture
def target(tmp_path) -> Path:
    folder = tmp_path / "target"
    folder.mkdir()
    return folder


def unpack(data: bytes, target: Path, **limits: int) -> list[str]:
    archive = target.parent / "upload.tar"
    archive.write_bytes(data)
    unpack_archive(archive, target, **limits)
    return sorted(path.relative_to(target).as_posix() for path in target.rglob("*"))


@pytest.mark.parametrize("squeeze", [bytes, gzip.compress])
def test_files_and_folders_are_unpacked(target, squeeze):
    long = "d" * 120 + "/é.png"
    data = tar(
        (member("./a/1.png", 3), b"abc"),
        (member(".", type=tarfile.DIRTYPE), b""),
        (member("empty/", type=tarfile.DIRTYPE), b""),
        (member(long, 2), b"xy"),
    )

    assert unpack(squeeze(data), target) == ["a", "a/1.png", "d" * 120, long, "empty"]
    assert (target / "a" / "1.png").read_bytes() == b"abc"


def test_owners_and_modes_are_not_taken(target):
    unpack(tar((member("a", 1, mode=0o6777, uid=1, gid=1), b"x")), target)

    assert (target / "a").stat().st_mode & 0o7000 == 0
    assert (target / "a").stat().st_uid == target.stat().st_uid


@pytest.mark.parametrize(
    "name",
    ["/etc/x", "../x", "a/../../x", "a\\..\\x", "a\nb", "x" * 256, "/".join("a" * 17), "a/" * 600],
)
def test_names_that_lead_elsewhere_are_refused(target, name):
    with pytest.raises(InvalidFile, match="name"):
        unpack(plain(name), target)

    assert [path for path in target.parent.rglob("x") if path.is_file()] == []


@pytest.mark.parametrize(
    "kind", [tarfile.SYMTYPE, tarfile.LNKTYPE, tarfile.CHRTYPE, tarfile.FIFOTYPE, b"S"]
)
def test_what_is_neither_file_nor_folder_is_refused(target, kind):
    link = member("link", type=kind, linkname="/etc")

    with pytest.raises(InvalidFile):
        unpack(tar((link, b""), (member("link/passwd", 1), b"x"), form=tarfile.GNU_FORMAT), target)

    assert list(target.iterdir()) == []


def test_sparse_file_is_refused(target):
    hole = member("hole", 3, pax_headers={"GNU.sparse.map": "0,1", "GNU.sparse.size": "2"})

    with pytest.raises(InvalidFile, match="hole"):
        unpack(tar((hole, b"abc")), target)


@pytest.mark.parametrize("names", [("a", "a"), ("a/b", "a"), ("a", "a/b"), ("a", "./a")])
def test_name_that_comes_twice_is_refused(target, names):
    with pytest.raises(InvalidFile, match="more than once"):
        unpack(plain(*names), target)


def test_too_many_files_are_refused(target):
    with pytest.raises(InvalidFile, match="2 files"):
        unpack(plain("a", "b", "c"), target, max_entries=2)


def test_too_many_bytes_are_refused(target):
    with pytest.raises(InvalidFile, match="more than 5 bytes"):
        unpack(plain("a", "b"), target, max_bytes=5)

    assert not (target / "b").exists()


def test_bomb_is_refused_before_it_is_unpacked(target):
    size = 100 << 20
    bomb = gzip.compress(tar((member("zeros", size), b"\0" * size)), 1)

    with pytest.raises(InvalidFile, match="unzips to more"):
        unpack(bomb, target)

    assert list(target.iterdir()) == []


def test_header_that_would_fill_the_memory_is_refused(target):
    huge = member("a", 1, pax_headers={"comment": "x" * (5 << 20)})

    with pytest.raises(InvalidFile, match="header"):
        unpack(tar((huge, b"x")), target)


@pytest.mark.parametrize(
    "data",
    [b"", b"no tar", b"PK\3\4" + bytes(600), b"\x1f\x8bbroken", gzip.compress(b"no tar")],
    ids=["empty", "text", "zip", "broken gzip", "gzip of text"],
)
def test_what_is_no_tar_is_refused(target, data):
    with pytest.raises(InvalidFile):
        unpack(data, target)


@pytest.mark.parametrize("squeeze", [bytes, gzip.compress])
def test_truncated_tar_is_refused_wherever_it_breaks_off(target, squeeze):
    whole = squeeze(plain("a", "b", "c"))
    end = len(whole) if squeeze is gzip.compress else 6 * 512

    for length in range(0, end, 97):
        for path in target.iterdir():
            path.unlink()
        with pytest.raises(InvalidFile):
            unpack(whole[:length], target)


def test_damaged_header_does_not_pass_for_the_end(target):
    data = bytearray(plain("a", "b", "c"))
    data[1024] ^= 0xFF

    with pytest.raises(InvalidFile, match="byte 1,024 is damaged"):
        unpack(bytes(data), target)


def test_second_archive_behind_the_first_is_not_left_out_silently(target):
    with pytest.raises(InvalidFile, match="damaged"):
        unpack(plain("a") + plain("b"), target)


def test_header_with_a_negative_size_is_refused(target):
    data = bytearray(plain("a", "b"))
    data[124:136] = b"\xff" * 12
    data[148:156] = b" " * 8
    data[148:156] = b"%06o\0 " % sum(data[:512])

    with pytest.raises(InvalidFile):
        unpack(bytes(data), target)


@given(st.lists(st.tuples(st.integers(0, 6 * 512), st.integers(1, 255)), min_size=1, max_size=4))
@settings(deadline=None, max_examples=80)
def test_flipped_bytes_give_files_or_a_refusal(tmp_path_factory, flips):
    target = tmp_path_factory.mktemp("flips") / "target"
    target.mkdir()
    data = bytearray(plain("a/1", "a/2", "b/1"))
    for position, change in flips:
        data[position] ^= change

    try:
        unpack(bytes(data), target)
    except InvalidFile:
        return
    assert all(path.is_relative_to(target) for path in target.rglob("*"))
