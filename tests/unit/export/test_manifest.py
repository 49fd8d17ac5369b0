from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from datagen.errors import InvalidFile
from datagen.export.manifest import read_manifest, verify


@pytest.fixture
def export(drawn: Any, tmp_path: Path) -> Path:
    drawn.write("imagefolder", tmp_path)
    return tmp_path


def test_export_as_written_is_whole(export: Path) -> None:
    assert verify(export) == []


def test_flipped_bit_is_found(export: Path) -> None:
    path = export / "train" / "dog" / "0000000007.png"
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)
    assert verify(export) == ["train/dog/0000000007.png is not as it was written."]


def test_missing_and_extra_files_are_found(export: Path) -> None:
    (export / "train" / "cat" / "0000000000.png").unlink()
    (export / "train" / "cat" / "mine.png").write_bytes(b"x")
    assert verify(export) == [
        "train/cat/0000000000.png is missing.",
        "train/cat/mine.png is not in the manifest.",
    ]


def test_link_is_no_file_of_an_export(export: Path) -> None:
    path = export / "README.md"
    copy = export.parent / f"{export.name}-card"
    path.rename(copy)
    path.symlink_to(copy)
    assert verify(export) == ["README.md is missing."]


@pytest.mark.parametrize("text", ["", "{", "[]", '{"files": []}', "\ud800"])
def test_damaged_manifest_is_an_error(text: str, export: Path) -> None:
    (export / "manifest.json").write_bytes(text.encode(errors="surrogatepass"))
    with pytest.raises(InvalidFile, match=r"manifest\.json is (damaged|no manifest)"):
        verify(export)


def test_folder_without_manifest_is_not_complete(export: Path) -> None:
    (export / "manifest.json").unlink()
    with pytest.raises(InvalidFile, match="not complete"):
        verify(export)


@pytest.mark.parametrize("name", ["../outside", "/etc/hostname", "a\x00b", ""])
def test_manifest_cannot_point_outside_its_folder(name: str, export: Path) -> None:
    manifest = read_manifest(export)
    manifest["files"][name] = {"bytes": 1, "sha256": "00"}
    (export / "manifest.json").write_text(json.dumps(manifest))
    assert verify(export) == [f"{name!r} is no name of a file in an export."]
