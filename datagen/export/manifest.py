"""The manifest: what an export holds, written last, so that its presence means complete."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Iterator, Mapping
from importlib.metadata import version
from itertools import islice
from pathlib import Path
from typing import Any

from datagen.errors import InvalidFile
from datagen.export.info import ExportInfo
from datagen.export.sinks import Entry, Sink

MANIFEST = "manifest.json"
SCHEMA_VERSION = 1
LINES_AT_ONCE = 1000
_UNSAFE = re.compile(r"[\x00-\x1f\\:]")
_quoted = json.JSONEncoder(ensure_ascii=False).encode


def write_manifest(
    format_name: str, info: ExportInfo, counts: Mapping[str, int], sink: Sink
) -> dict[str, Any]:
    """Write `manifest.json`, file by file: it may name millions.

    Returns:
        what it says, without the files.
    """
    document = {
        "schema_version": SCHEMA_VERSION,
        "datagen_version": version("datagen"),
        "format": format_name,
        "created_at": info.created_at.isoformat(),
        "partial": info.partial,
        "license": info.licence,
        "class_names": list(info.class_names),
        "image_shape": list(info.image_shape),
        "counts": {"train": dict(counts)},
        "seed": info.seed,
        "temperature": info.temperature,
        "sampler": info.sampler,
        "truncation": info.truncation,
        "job": {"id": info.job_id, "request": info.request},
        "model": {
            "name": info.model_name,
            "version": info.model_version,
            "digest": info.model_digest,
        },
    }
    head = json.dumps(document, indent=2, ensure_ascii=False).removesuffix("\n}")
    with sink.open(MANIFEST) as file:
        file.write(f'{head},\n  "files": {{'.encode())
        comma = ""
        for several in _batched(sink.entries()):
            lines = (
                f'\n    {_quoted(path)}: {{"bytes": {size}, "sha256": "{sha256}"}}'
                for path, size, sha256 in several
            )
            file.write(f"{comma}{','.join(lines)}".encode())
            comma = ","
        file.write(b"\n  }\n}\n")
    return document


def _batched(entries: Iterator[Entry]) -> Iterator[list[Entry]]:
    while several := list(islice(entries, LINES_AT_ONCE)):
        yield several


def read_manifest(folder: Path) -> dict[str, Any]:
    """The manifest of an export. Raises InvalidFile where it is missing or damaged."""
    try:
        manifest = json.loads((folder / MANIFEST).read_bytes())
    except FileNotFoundError:
        raise InvalidFile(
            f"{folder} has no {MANIFEST}; the export is not complete, so fetch it again."
        ) from None
    except (ValueError, RecursionError):
        raise InvalidFile(f"{folder / MANIFEST} is damaged; fetch the export again.") from None
    if not isinstance(manifest, dict) or not isinstance(manifest.get("files"), dict):
        raise InvalidFile(f"{folder / MANIFEST} is no manifest of an export.")
    return manifest


def safe_name(name: str) -> bool:
    """Whether a name, with forward slashes, stays inside its folder on every system."""
    parts = name.split("/")
    return not _UNSAFE.search(name) and not any(part in {"", ".", ".."} for part in parts)


def verify(folder: Path) -> list[str]:
    """What is wrong with an export, a sentence each; empty where every file is as it was written.

    Raises:
        InvalidFile: there is no manifest that could be read.
    """
    files = read_manifest(folder)["files"]
    problems = [
        problem for name, entry in files.items() if (problem := _wrong(folder, name, entry))
    ]
    known = {MANIFEST, *files}
    for path in sorted(folder.rglob("*")):
        name = path.relative_to(folder).as_posix()
        if not path.is_dir() and name not in known:
            problems.append(f"{name} is not in the manifest.")
    return problems


def _wrong(folder: Path, name: str, entry: Any) -> str | None:
    if not safe_name(name):
        return f"{name!r} is no name of a file in an export."
    path = folder / name
    if path.is_symlink() or not path.is_file():
        return f"{name} is missing."
    with path.open("rb") as file:
        digest = hashlib.file_digest(file, "sha256").hexdigest()
    if not isinstance(entry, dict) or digest != entry.get("sha256"):
        return f"{name} is not as it was written."
    return None
