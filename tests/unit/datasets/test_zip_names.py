from __future__ import annotations

import struct
import zipfile
import zlib

import pytest
from layouts import lay, picture
from reading import opened

from datagen.datasets.reading import ReadOptions
from datagen.errors import InvalidFile, InvalidRequest


def zipped(path, folders, extra=lambda _: b""):
    """A zip of a picture in each folder, whose names are the given bytes without a flag."""
    # zipfile writes no other bytes than ASCII without the flag, so they are put in afterwards.
    plain = [f"{number:0{len(name)}d}" for number, name in enumerate(folders)]
    with zipfile.ZipFile(path, "w") as archive:
        for number, name in enumerate(plain):
            info = zipfile.ZipInfo(f"{name}/1.png")
            info.extra = extra(folders[number] + b"/1.png")
            archive.writestr(info, picture(number * 40))
    data = path.read_bytes()
    for name, raw in zip(plain, folders, strict=True):
        data = data.replace(f"{name}/1.png".encode(), raw + b"/1.png")
    path.write_bytes(data)
    return path


@pytest.mark.parametrize(
    ("encoding", "names", "noted"),
    [
        ("utf-8", ["Äpfel grün", "日本"], False),
        ("cp437", ["Äpfel grün", "Birnen"], True),
        ("cp932", ["りんご", "みかん"], True),
        ("gbk", ["苹果", "橘子"], True),
    ],
)
def test_names_without_a_flag_are_utf8_or_doubted(tmp_path, encoding, names, noted):
    path = zipped(tmp_path / "x.zip", [name.encode(encoding) for name in names])

    found = opened(path)
    classes = found.splits["train"].class_names

    assert any("--zip-encoding" in note for note in found.report.notes) == noted
    assert (set(classes) == set(names)) == (encoding in {"utf-8", "cp437"})
    told = opened(path, zip_encoding=encoding)
    assert set(told.splits["train"].class_names) == set(names)
    assert not any("--zip-encoding" in note for note in told.report.notes)


def test_unicode_path_of_info_zip_is_followed(tmp_path):
    def extra(raw):
        body = struct.pack("<BL", 1, zlib.crc32(raw)) + raw.decode("cp1252").encode()
        return struct.pack("<HH", 0x7075, len(body)) + body

    path = zipped(tmp_path / "x.zip", ["Äpfel".encode("cp1252")], extra)

    found = opened(path)
    assert found.splits["train"].class_names == ("Äpfel",)
    assert not any("--zip-encoding" in note for note in found.report.notes)


def test_encoding_that_does_not_fit_or_is_unknown_is_named(tmp_path):
    path = zipped(tmp_path / "x.zip", [b"\x81\xff"])

    with pytest.raises(InvalidFile, match="not in the encoding cp932"):
        opened(path, zip_encoding="cp932")
    with pytest.raises(InvalidRequest, match="'cp9999', which is not known"):
        ReadOptions(zip_encoding="cp9999")
    with pytest.raises(InvalidRequest, match="'hex', which is not known"):
        ReadOptions(zip_encoding="hex")


def test_names_marked_as_utf8_are_not_decoded_again(tmp_path):
    source = lay(tmp_path / "in", "Äpfel/1.png")
    with zipfile.ZipFile(tmp_path / "x.zip", "w") as archive:
        archive.write(source / "Äpfel" / "1.png", "Äpfel/1.png")

    assert opened(tmp_path / "x.zip", zip_encoding="cp437").splits["train"].class_names == (
        "Äpfel",
    )
