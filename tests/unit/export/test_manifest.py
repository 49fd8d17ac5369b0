from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from datagen.errors import InvalidFile
from datagen.export.manifest import files_count, problems, read_manifest


@pytest.fixture
def export(drawn: Any, tmp_path: Path) -> Path:
    drawn.write("imagefolder", tmp_path)
    return tmp_path


def test_export_as_written_is_whole(export: Path) -> None:
    assert problems(export) == []


def test_flipped_bit_is_found(export: Path) -> None:
    path = export / "train" / "dog" / "0000000007.png"
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)
    assert problems(export) == ["train/dog/0000000007.png is not as it was written."]


def test_missing_and_extra_files_are_found(export: Path) -> None:
    (export / "train" / "cat" / "0000000000.png").unlink()
    (export / "train" / "cat" / "mine.png").write_bytes(b"x")
    assert problems(export) == [
        "train/cat/0000000000.png is missing.",
        "train/cat/mine.png is not in the manifest.",
    ]


@pytest.fixture
def large(drawn: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An export whose files are listed in a table."""
    monkeypatch.setattr("datagen.export.manifest.MOST_LISTED", 10)
    drawn.write("imagefolder", tmp_path)
    return tmp_path


def test_files_of_a_large_export_are_checked_too(large: Path) -> None:
    assert problems(large) == []
    assert files_count(large) == len([path for path in large.rglob("*") if path.is_file()]) - 1
    (large / "train" / "cat" / "0000000000.png").write_bytes(b"other")
    (large / "train" / "cat" / "0000000001.png").unlink()
    (large / "more.txt").write_text("x")
    assert problems(large) == [
        "train/cat/0000000000.png is not as it was written.",
        "train/cat/0000000001.png is missing.",
        "more.txt is not in the manifest.",
    ]


def test_spoilt_list_of_files_is_found_and_not_read(large: Path) -> None:
    (large / "files.parquet").write_bytes(b"PAR1")
    assert problems(large)[0] == "files.parquet is not as it was written."


def test_link_is_no_file_of_an_export(export: Path) -> None:
    path = export / "README.md"
    copy = export.parent / f"{export.name}-card"
    path.rename(copy)
    path.symlink_to(copy)
    assert problems(export) == ["README.md is missing."]


@pytest.mark.parametrize("text", ["", "{", "[]", '{"files": []}', "\ud800"])
def test_damaged_manifest_is_an_error(text: str, export: Path) -> None:
    (export / "manifest.json").write_bytes(text.encode(errors="surrogatepass"))
    with pytest.raises(InvalidFile, match=r"manifest\.json is (damaged|no manifest)"):
        problems(export)


def test_folder_without_manifest_is_not_complete(export: Path) -> None:
    (export / "manifest.json").unlink()
    with pytest.raises(InvalidFile, match="not complete"):
        problems(export)


@pytest.mark.parametrize("name", ["../outside", "/etc/hostname", "a\x00b", ""])
def test_manifest_cannot_point_outside_its_folder(name: str, export: Path) -> None:
    manifest = read_manifest(export)
    manifest["files"][name] = {"bytes": 1, "sha256": "00"}
    (export / "manifest.json").write_text(json.dumps(manifest))
    assert problems(export) == [f"{name!r} is no name of a file in an export."]
