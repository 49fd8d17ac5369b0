"""Unpacking a downloaded export: checked names, a folder beside the target, then one rename."""

from __future__ import annotations

import shutil
import stat
import tempfile
import zipfile
from pathlib import Path

from datagen.errors import InvalidFile, InvalidRequest, StorageFailure
from datagen.export.manifest import MANIFEST, problems, safe_name
from datagen.export.measuring import COPY_BYTES

NAMED_PROBLEMS = 3
_ENCRYPTED = 1


def check_free(out: Path, *, overwrite: bool = False) -> None:
    """Refuse a target that holds something.

    With `overwrite` a former export there may be replaced, and nothing else.

    Raises:
        InvalidRequest: `out` exists and is not an empty folder.
    """
    if not out.exists() or (out.is_dir() and not any(out.iterdir())):
        return
    if not out.is_dir():
        raise InvalidRequest(
            f"{out} is no folder; name one that is empty or not there yet.", field="out"
        )
    if overwrite and (out / MANIFEST).is_file():
        return
    raise InvalidRequest(
        f"{out} is not empty; name a folder that is empty or not there yet.", field="out"
    )


def unpack(archive: Path, out: Path, *, overwrite: bool = False) -> None:
    """Unpack an export so that `out` becomes its root, and check every file against the manifest.

    Raises:
        InvalidRequest: `out` holds something.
        InvalidFile: the archive is damaged, holds unsafe names, or differs from its manifest.
        StorageFailure: the files cannot be written.
    """
    check_free(out, overwrite=overwrite)
    try:
        out.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(prefix=f".{out.name}-", dir=out.parent) as name:
            incoming = Path(name, "export")
            incoming.mkdir()
            _extract(archive, incoming)
            wrong = problems(incoming)
            if wrong:
                raise InvalidFile("The export is damaged: " + " ".join(wrong[:NAMED_PROBLEMS]))
            if out.exists():
                shutil.rmtree(out)
            incoming.replace(out)
    except OSError as error:
        raise StorageFailure(
            f"The export cannot be unpacked to {out}: {error.strerror or error}."
        ) from error


def _extract(archive: Path, folder: Path) -> None:
    try:
        with zipfile.ZipFile(archive) as files:
            seen: set[str] = set()
            made: set[Path] = set()
            for member in files.infolist():
                _check_member(member, seen)
                target = folder / member.filename
                if target.parent not in made:
                    target.parent.mkdir(parents=True, exist_ok=True)
                    made.add(target.parent)
                with files.open(member) as source, target.open("xb") as copy:
                    shutil.copyfileobj(source, copy, COPY_BYTES)
    except (zipfile.BadZipFile, EOFError, ValueError, FileExistsError, NotADirectoryError) as error:
        raise InvalidFile(f"The export's archive is damaged: {error}.") from error


def _check_member(member: zipfile.ZipInfo, seen: set[str]) -> None:
    name = member.filename
    if not safe_name(name.removesuffix("/")):
        raise InvalidFile(f"The archive holds the unsafe name {name!r}.")
    # An export has plain files, stored as they are: nothing can grow while it is read.
    kind = stat.S_IFMT(member.external_attr >> 16)
    plain = (
        kind in {0, stat.S_IFREG}
        and not member.is_dir()
        and member.compress_type == zipfile.ZIP_STORED
    )
    if not plain or member.flag_bits & _ENCRYPTED or name in seen:
        raise InvalidFile(f"The archive holds {name!r} in a way that no export does.")
    seen.add(name)
