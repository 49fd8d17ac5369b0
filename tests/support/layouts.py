"""Small sources of every layout, and the ways in which users give them."""

from __future__ import annotations

import io
import tarfile
import zipfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import fsspec
from PIL import Image
from reading import opened

from datagen.datasets.packing import pack
from datagen.datasets.reading import Opened
from datagen.errors import DatagenError
from datagen.service.remote_sources import fetch
from datagen.settings import Settings


def picture(value: int, kind: str = "PNG") -> bytes:
    """A picture of one colour; other values give other pixels."""
    out = io.BytesIO()
    Image.new("RGB", (8, 8), (value % 256, 100, 200)).save(out, kind)
    return out.getvalue()


def lay(root: Path, *files: str, **contents: str | bytes) -> Path:
    """Pictures at the given paths, each another; and files by their content."""
    for number, name in enumerate(files):
        write(root / name, picture(number * 7 % 256))
    for name, content in contents.items():
        write(root / name, content)
    return root


def write(path: Path, content: str | bytes) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content.encode() if isinstance(content, str) else content)


def tar_of(files: Mapping[str, bytes]) -> bytes:
    """A tar of files by their names, in the given order."""
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w") as archive:
        for name, content in files.items():
            member = tarfile.TarInfo(name)
            member.size = len(content)
            archive.addfile(member, io.BytesIO(content))
    return out.getvalue()


def as_folder(source: Path, _work: Path) -> Path:
    return source


def as_packed(source: Path, work: Path) -> Path:
    """As the client sends it."""
    pack(source, work / "packed")
    return work / "packed"


def as_zip(source: Path, work: Path) -> Path:
    with zipfile.ZipFile(work / "x.zip", "w") as archive:
        for path in sorted(source.rglob("*")):
            archive.write(path, path.relative_to(source).as_posix())
    return work / "x.zip"


def as_tar(source: Path, work: Path) -> Path:
    with tarfile.open(work / "x.tar.gz", "w:gz") as archive:
        archive.add(source, arcname=".")
    return work / "x.tar.gz"


def as_file_url(source: Path, work: Path) -> Path:
    settings = Settings(dataset_roots=source.parent.as_uri())
    target = work / "fetched"
    target.mkdir()
    return fetch(settings, source.as_uri(), target)


def as_bucket(source: Path, work: Path) -> Path:
    """From an object store, with the empty keys that consoles write for folders."""
    files = fsspec.filesystem("memory")
    bucket = f"/layouts-{work.name}"
    try:
        for path in source.rglob("*"):
            if path.is_file():
                files.pipe_file(
                    f"{bucket}/{path.relative_to(source).as_posix()}", path.read_bytes()
                )
        target = work / "copied"
        target.mkdir()
        url = f"memory:/{bucket}"
        return fetch(Settings(dataset_roots=url), url, target)
    finally:
        files.rm(bucket, recursive=True)


WAYS: Mapping[str, Callable[[Path, Path], Path]] = {
    "folder": as_folder,
    "packed": as_packed,
    "zip": as_zip,
    "tar": as_tar,
    "file_url": as_file_url,
    "bucket": as_bucket,
}


def contents(found: Opened) -> dict[str, Any]:
    """Kind, classes, and the classes of each split's images in their order."""
    names = next(iter(found.splits.values())).class_names
    splits = {
        split: [names[label] for label in images.labels.tolist()]
        for split, images in found.splits.items()
    }
    return {"kind": found.report.source, "classes": list(names), **splits}


def every_way(source: Path, work: Path, **options: Any) -> tuple[dict[str, Any] | str, list[str]]:
    """What a source is, or the refusal, which must be the same in every way; and its notes."""
    results: dict[str, Any] = {}
    notes: dict[str, list[str]] = {}
    for way, give in WAYS.items():
        own = work / way
        own.mkdir(parents=True)
        try:
            found = opened(give(source, own), **options)
            results[way], notes[way] = contents(found), found.report.notes
        except DatagenError as error:
            results[way], notes[way] = error.detail.replace(f"{source} ", ""), []
    first = results["folder"]
    assert all(result == first for result in results.values()), results
    assert all(sorted(own) == sorted(notes["folder"]) for own in notes.values()), notes
    return first, notes["folder"]
