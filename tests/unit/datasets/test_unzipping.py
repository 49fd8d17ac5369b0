from __future__ import annotations

import io
import stat
import struct
import zipfile

import numpy as np
import pytest
from PIL import Image
from reading import opened, read

from datagen.datasets.archive import unpack_archive
from datagen.errors import InvalidFile


def picture(value: int = 7) -> bytes:
    out = io.BytesIO()
    Image.new("L", (4, 3), value).save(out, "PNG")
    return out.getvalue()


def zipped(path, members, method=zipfile.ZIP_DEFLATED):
    with zipfile.ZipFile(path, "w", method) as archive:
        for name, content in members:
            archive.writestr(name, content)
    return path


@pytest.mark.parametrize("method", [zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED])
def test_zip_of_class_folders_is_a_dataset(tmp_path, method):
    members = [(f"pets/{label}/1.png", picture(n)) for n, label in enumerate(("cat", "dog"))]
    path = zipped(tmp_path / "x.bin", [*members, ("__MACOSX/pets/x.png", b"")], method)

    found = opened(path)
    assert found.report.source == "imagefolder"
    assert found.splits["train"].class_names == ("cat", "dog")


@pytest.mark.parametrize("name", ["../x.png", "/etc/x.png", "a/../../x.png", "a\\b.png", "a\nb"])
def test_names_that_lead_out_are_refused(tmp_path, name):
    path = zipped(tmp_path / "x.zip", [("a/1.png", picture()), (name, picture())])
    (tmp_path / "out").mkdir()

    with pytest.raises(InvalidFile):
        unpack_archive(path, tmp_path / "out")
    assert sorted(found.name for found in tmp_path.iterdir()) == ["out", "x.zip"]


@pytest.mark.parametrize("kind", [stat.S_IFLNK, stat.S_IFIFO, stat.S_IFCHR])
def test_links_and_devices_are_refused(tmp_path, kind):
    info = zipfile.ZipInfo("a/1.png")
    info.external_attr = (kind | 0o777) << 16
    with zipfile.ZipFile(tmp_path / "x.zip", "w") as archive:
        archive.writestr(info, "/etc/passwd")

    with pytest.raises(InvalidFile, match="neither a plain file"):
        read(tmp_path / "x.zip")


def test_a_name_twice_is_refused(tmp_path):
    with pytest.warns(UserWarning, match="Duplicate name"):
        zipped(tmp_path / "x.zip", [("a/1.png", picture()), ("a/1.png", picture())])

    with pytest.raises(InvalidFile, match=r"'a/1\.png' more than once"):
        read(tmp_path / "x.zip")


def test_what_unzips_to_far_more_than_it_takes_is_refused(tmp_path):
    path = zipped(tmp_path / "x.zip", [(f"a/{n}.png", bytes(40 << 20)) for n in range(3)])
    (tmp_path / "out").mkdir()

    with pytest.raises(InvalidFile, match="unzips to more than"):
        unpack_archive(path, tmp_path / "out")
    assert sum(found.stat().st_size for found in tmp_path.rglob("*.png")) <= 64 << 20


def test_limits_of_files_and_bytes_hold(tmp_path):
    path = zipped(tmp_path / "x.zip", [(f"a/{n}.png", picture()) for n in range(5)])
    (tmp_path / "out").mkdir()

    with pytest.raises(InvalidFile, match="more than 4 files"):
        unpack_archive(path, tmp_path / "out", max_entries=4)
    with pytest.raises(InvalidFile, match="more than 100 bytes"):
        unpack_archive(path, tmp_path / "out", max_bytes=100)


def test_directory_that_promises_too_many_files_is_not_read(tmp_path):
    path = zipped(tmp_path / "x.zip", [("a/1.png", picture())])
    whole = bytearray(path.read_bytes())
    end = whole.rfind(b"PK\x05\x06")
    whole[end + 12 : end + 16] = struct.pack("<L", 0xFFFFFFF0)
    path.write_bytes(whole)

    with pytest.raises(InvalidFile, match="or its directory says so"):
        read(path)


def test_encrypted_and_unusual_members_are_refused(tmp_path):
    path = zipped(tmp_path / "x.zip", [("a/1.png", picture())], zipfile.ZIP_STORED)
    whole = path.read_bytes()
    at = whole.index(b"PK\x01\x02")
    encrypted = bytearray(whole)
    encrypted[at + 8] |= 1
    path.write_bytes(encrypted)
    with pytest.raises(InvalidFile, match="encrypted"):
        read(path)

    zipped(path, [("a/1.png", picture())], zipfile.ZIP_LZMA)
    with pytest.raises(InvalidFile, match="method that is not read"):
        read(path)


@pytest.mark.parametrize("place", [0.2, 0.5, 0.95])
def test_flipped_byte_is_an_error_or_changes_no_image(tmp_path, place):
    noise = np.random.default_rng(0).integers(0, 256, (30, 30), dtype=np.uint8)
    out = io.BytesIO()
    Image.fromarray(noise).save(out, "PNG")
    path = zipped(tmp_path / "x.zip", [(f"a/{n}.png", out.getvalue()) for n in range(4)])
    whole = bytearray(path.read_bytes())
    whole[int(len(whole) * place)] ^= 0xFF
    path.write_bytes(whole)

    try:
        found = read(path)["train"].images
    except InvalidFile:
        return
    assert all(np.array_equal(image[0], noise) for image in found)


@pytest.mark.parametrize("keep", [10, 100, 0.5, 0.99])
def test_truncated_zip_is_refused(tmp_path, keep):
    path = zipped(tmp_path / "x.zip", [(f"a/{n}.png", picture()) for n in range(9)])
    whole = path.read_bytes()
    path.write_bytes(whole[: keep if isinstance(keep, int) else int(len(whole) * keep)])

    with pytest.raises(InvalidFile):
        read(path)
