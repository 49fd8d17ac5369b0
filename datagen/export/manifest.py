"""The manifest: what an export holds, written last, so that its presence means complete.

It names every file with its size and SHA-256. Where there are more than ten thousand, they stand in
`files.parquet`, and the manifest names that.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
from collections.abc import Iterator
from importlib.metadata import version
from itertools import islice
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from datagen.errors import InvalidFile
from datagen.export.info import ExportInfo, JobInfo
from datagen.export.measuring import Entry
from datagen.export.sinks import Sink

MANIFEST = "manifest.json"
FILES = "files.parquet"
SCHEMA_VERSION = 2
MOST_LISTED = 10_000
ROWS_AT_ONCE = 50_000
_SCHEMA = pa.schema([("path", pa.string()), ("bytes", pa.int64()), ("sha256", pa.string())])
_UNSAFE = re.compile(r"[\x00-\x1f\\:]")


def write_manifest(format_name: str, info: ExportInfo, sink: Sink) -> dict[str, Any]:
    """Write `manifest.json`, and before it `files.parquet` where there are many files.

    Returns:
        what it says, without the files.
    """
    document = described(format_name, info)
    files: dict[str, Any]
    if sink.count <= MOST_LISTED:
        files = {
            "files": {entry.path: _told(entry.bytes, entry.sha256) for entry in sink.entries()}
        }
    else:
        files = {"files_in": FILES, "files_count": sink.count}
        with sink.open(FILES) as file:
            _write_files(sink.entries(), file)
        files["files"] = {FILES: _told(sink.last.bytes, sink.last.sha256)}
    text = json.dumps(document | files, indent=2, ensure_ascii=False)
    sink.put(MANIFEST, f"{text}\n".encode(errors="surrogatepass"))
    return document


def described(format_name: str, info: ExportInfo) -> dict[str, Any]:
    """What a manifest says, but for the files."""
    names = info.class_names
    return {
        "schema_version": SCHEMA_VERSION,
        "datagen_version": version("datagen"),
        "format": format_name,
        "created_at": info.created_at.isoformat(),
        "partial": info.partial,
        "license": info.licence,
        "class_names": list(names),
        "image_shape": list(info.image_shape),
        "counts": {
            split: dict(zip(names, counts.tolist(), strict=True))
            for split, counts in info.counts.items()
        },
        "synthetic": {
            split: dict(zip(names, info.synthetic.get(split, [0] * len(names)), strict=True))
            for split in info.counts
        },
        "selection": dict(info.selection),
        "jobs": [_job(job) for job in info.jobs],
        "dataset": None
        if info.dataset is None
        else {
            "name": info.dataset.name,
            "version": info.dataset.version,
            "digest": info.dataset.digest,
        },
    }


def _job(job: JobInfo) -> dict[str, Any]:
    return {
        "id": job.job_id,
        "created_at": job.created_at.isoformat(),
        "partial": job.partial,
        "request": dict(job.request),
        "seed": job.seed,
        "sampler": job.sampler,
        "temperature": job.temperature,
        "truncation": job.truncation,
        "strength": job.strength,
        "model": {
            "name": job.model_name,
            "version": job.model_version,
            "digest": job.model_digest,
        },
        "refused": None
        if job.refused is None
        else {label: dict(reasons) for label, reasons in job.refused.items()},
    }


def _told(size: int, sha256: str) -> dict[str, Any]:
    return {"bytes": size, "sha256": sha256}


def _write_files(entries: Iterator[Entry], file: Any) -> None:
    with pq.ParquetWriter(file, _SCHEMA, compression="zstd") as writer:
        while several := list(islice(entries, ROWS_AT_ONCE)):
            columns = [[getattr(entry, name) for entry in several] for name in _SCHEMA.names]
            writer.write_table(pa.table(columns, schema=_SCHEMA))


def read_manifest(folder: Path) -> dict[str, Any]:
    """The manifest of an export. Raises InvalidFile where it is missing or damaged."""
    try:
        manifest = json.loads((folder / MANIFEST).read_bytes())
    except FileNotFoundError:
        raise InvalidFile(
            f"{folder} has no {MANIFEST}; the export is not complete, so fetch it again."
        ) from None
    except OSError as error:
        raise InvalidFile(f"{folder / MANIFEST} cannot be read: {error.strerror}.") from None
    except (ValueError, RecursionError):
        raise InvalidFile(f"{folder / MANIFEST} is damaged; fetch the export again.") from None
    if not isinstance(manifest, dict) or not isinstance(manifest.get("files"), dict):
        raise InvalidFile(f"{folder / MANIFEST} is no manifest of an export.")
    return manifest


def safe_name(name: str) -> bool:
    """Whether a name, with forward slashes, stays inside its folder on every system."""
    parts = name.split("/")
    return not _UNSAFE.search(name) and not any(part in {"", ".", ".."} for part in parts)


def verify(folder: Path) -> Iterator[str | None]:
    """Check an export file by file: for each None, or a sentence that says what is wrong with it.

    Files that no manifest names come last.

    Raises:
        InvalidFile: there is no manifest that could be read.
    """
    manifest = read_manifest(folder)
    there = 1
    for name, entry in _listed(folder, manifest):
        problem = _wrong(folder, name, entry)
        there += problem is None or os.path.lexists(folder / name)
        yield problem
    # As many as there should be are those: all names are held only where there are others.
    if sum(len(names) for _, _, names in os.walk(folder)) != there:
        known = {MANIFEST, *(name for name, _ in _listed(folder, manifest))}
        for path in sorted(folder.rglob("*")):
            shown = path.relative_to(folder).as_posix()
            if not path.is_dir() and shown not in known:
                yield f"{shown} is not in the manifest."


def _listed(folder: Path, manifest: dict[str, Any]) -> Iterator[tuple[str, Any]]:
    """Name and entry of each file; those of `files.parquet` only if that is as it was written."""
    for name, entry in manifest["files"].items():
        yield name, entry
        if name == manifest.get("files_in") and _wrong(folder, name, entry) is None:
            for path, size, sha256 in _read_files(folder / name):
                yield path, _told(size, sha256)


def problems(folder: Path, most: int | None = None) -> list[str]:
    """What is wrong with an export, a sentence each, the first ones; see `verify`."""
    return list(islice((problem for problem in verify(folder) if problem is not None), most))


def files_count(folder: Path) -> int:
    """How many files a manifest names, itself apart. Raises InvalidFile."""
    manifest = read_manifest(folder)
    counted = manifest.get("files_count", 0)
    return len(manifest["files"]) + (counted if isinstance(counted, int) else 0)


def _read_files(path: Path) -> Iterator[tuple[str, int, str]]:
    try:
        table = pq.ParquetFile(path)
        for batch in table.iter_batches(ROWS_AT_ONCE, columns=_SCHEMA.names, use_threads=False):
            yield from zip(*(column.to_pylist() for column in batch.columns), strict=True)
    except (pa.ArrowException, OSError, ValueError) as error:
        raise InvalidFile(f"{path} is no list of an export's files: {error}.") from error


def _wrong(folder: Path, name: str, entry: Any) -> str | None:
    if not isinstance(name, str) or not safe_name(name):
        return f"{name!r} is no name of a file in an export."
    path = folder / name
    if path.is_symlink() or not path.is_file():
        return f"{name} is missing."
    try:
        with path.open("rb") as file:
            digest = hashlib.file_digest(file, "sha256").hexdigest()
    except OSError as error:
        return f"{name} cannot be read: {error.strerror}."
    if not isinstance(entry, dict) or digest != entry.get("sha256"):
        return f"{name} is not as it was written."
    return None
