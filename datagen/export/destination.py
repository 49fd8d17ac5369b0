"""An export as loose files where the operator keeps such: a folder, S3, or what fsspec else knows.

What is being written never looks finished. In a folder it grows under a name of its own and is
renamed at the end; where nothing can be renamed at once, as on S3, `manifest.json` comes last, and
an export without it is none.
"""

from __future__ import annotations

import hashlib
import shutil
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, BinaryIO, Self

from datagen.errors import InvalidRequest, StorageFailure
from datagen.export.manifest import MANIFEST
from datagen.export.measuring import COPY_BYTES, Counted, Entries, Measured, spooled

# Lies where an export is being written in place; what has it and no manifest may be written over.
UNFINISHED = ".datagen-unfinished"
WAITING_FILES = 256
WAITING_BYTES = 8 << 20


class DestinationSink(Counted):
    """Takes an export's files to a place that a URL names.

    Args:
        root: the URL of the destination, which fsspec knows.
        path: where in it the export goes; relative, with forward slashes.
        token: tells what is being written apart from other attempts.
        overwrite: replace a former export there; nothing else is ever replaced.

    Raises:
        InvalidRequest: something lies there already.
        StorageFailure: the destination cannot be reached or written.
    """

    def __init__(self, root: str, path: str, token: str, *, overwrite: bool = False) -> None:
        import fsspec  # noqa: PLC0415 - only exports to destinations need it

        with _refusals_named(path):
            self._files, base = fsspec.core.url_to_fs(root, use_listings_cache=False)
            self._final = f"{base.rstrip('/')}/{path}"
            self._check_free(path, overwrite=overwrite)
            self._renames = "file" in _protocols(self._files)
            self._root = f"{self._final}.incoming-{token}" if self._renames else self._final
            self._token, self._path = token, path
            self._begin()
        self._made: set[str] = set()
        self._entries = Entries()
        self._waiting: dict[str, bytes] = {}
        self._held = 0

    def __enter__(self) -> Self:
        return self

    def __exit__(self, failure: object, *_: object) -> None:
        try:
            if failure is None:
                self._finish()
            elif self._renames:
                self._files.rm(self._root, recursive=True)
        finally:
            self._entries.close()

    def _check_free(self, path: str, *, overwrite: bool) -> None:
        self._there = self._files.exists(self._final)
        if not self._there:
            return
        former = self._files.exists(f"{self._final}/{MANIFEST}")
        if not former and self._files.exists(f"{self._final}/{UNFINISHED}"):
            return
        if former and not overwrite:
            raise InvalidRequest(
                f"There is an export at {path!r} in the destination; name another path, or set "
                "'overwrite'.",
                field="path",
            )
        if not former and self._files.find(self._final, maxdepth=1):
            raise InvalidRequest(
                f"At {path!r} in the destination lies something that is no export; name another "
                "path.",
                field="path",
            )

    def _begin(self) -> None:
        if self._renames:
            if self._files.exists(self._root):
                # An attempt before this one was killed.
                self._files.rm(self._root, recursive=True)
            self._files.makedirs(self._root)
            return
        # From here on nothing there passes for a whole export.
        self._files.pipe_file(f"{self._final}/{UNFINISHED}", self._token.encode())
        if self._files.exists(f"{self._final}/{MANIFEST}"):
            self._files.rm_file(f"{self._final}/{MANIFEST}")

    def put(self, path: str, data: bytes) -> None:
        """Write a whole file."""
        self._waiting[f"{self._root}/{path}"] = data
        self._held += len(data)
        self._entries.add(path, len(data), zlib.crc32(data), 0, hashlib.sha256(data).digest())
        if path == MANIFEST:
            # Only when all else is there.
            manifest = self._waiting.pop(f"{self._root}/{path}")
            self._flush()
            self._waiting[f"{self._root}/{path}"] = manifest
        if len(self._waiting) >= WAITING_FILES or self._held >= WAITING_BYTES or path == MANIFEST:
            self._flush()

    @contextmanager
    def open(self, path: str) -> Iterator[BinaryIO]:
        """Write a file piece by piece."""
        with spooled() as spool:
            measured = Measured(spool)
            yield measured
            spool.seek(0)
            with _refusals_named(self._path):
                self._make_folder(path)
                with self._files.open(f"{self._root}/{path}", "wb") as target:
                    shutil.copyfileobj(spool, target, COPY_BYTES)
        self._entries.add(path, measured.size, measured.crc, 0, measured.digest())

    def _flush(self) -> None:
        """Write what waits: many files at once, where the other side takes them so."""
        if not self._waiting:
            return
        with _refusals_named(self._path):
            for name in self._waiting:
                self._make_folder(name.removeprefix(f"{self._root}/"))
            self._files.pipe(self._waiting)
        self._waiting, self._held = {}, 0

    def _make_folder(self, path: str) -> None:
        folder = path.rpartition("/")[0]
        if self._renames and folder not in self._made:
            self._files.makedirs(f"{self._root}/{folder}", exist_ok=True)
            self._made.add(folder)

    def _finish(self) -> None:
        self._flush()
        with _refusals_named(self._path):
            if not self._renames:
                self._remove_others()
                return
            old = f"{self._final}.old-{self._token}"
            if self._there:
                self._files.mv(self._final, old, recursive=True)
            self._files.mv(self._root, self._final, recursive=True)
            # Also of an attempt that was killed between these lines.
            if self._files.exists(old):
                self._files.rm(old, recursive=True)

    def _remove_others(self) -> None:
        """Take away the mark, and of the export that was here before what is not in this one."""
        self._files.rm_file(f"{self._final}/{UNFINISHED}")
        if not self._there:
            return
        own = {f"{self._final}/{entry.path}" for entry in self._entries}
        stale = [name for name in self._files.find(self._final) if name not in own]
        if stale:
            self._files.rm(stale)

    def close(self) -> None:
        """Nothing more; leaving the context makes the export visible."""


def remove_export(root: str, path: str, digest: str, token: str) -> bool:
    """Take an export away; False where something else lies there, or nothing.

    What is cut off in the middle is no longer an export, and is taken up again by the same call.

    Args:
        root: the URL of the destination.
        path: where in it.
        digest: SHA-256 of the export's manifest, hexadecimal, by which it is known.
        token: of the export, as `DestinationSink` was told it.

    Raises:
        StorageFailure: the destination cannot be reached or written.
    """
    import fsspec  # noqa: PLC0415 - as above

    with _refusals_named(path):
        files, base = fsspec.core.url_to_fs(root, use_listings_cache=False)
        place = f"{base.rstrip('/')}/{path}"
        mark, manifest, old = f"{place}/{UNFINISHED}", f"{place}/{MANIFEST}", f"{place}.old-{token}"
        if "file" in _protocols(files):
            if not files.exists(old):
                if not _holds(files, manifest, digest):
                    return False
                files.mv(place, old, recursive=True)
            files.rm(old, recursive=True)
            return True
        if _holds(files, manifest, digest):
            files.pipe_file(mark, token.encode())
            files.rm_file(manifest)
        elif not (files.exists(mark) and files.cat_file(mark) == token.encode()):
            return False
        # The mark last: while it is there, whoever comes again knows that the rest is to go.
        files.rm([name for name in files.find(place) if name != mark] or [mark])
        if files.exists(mark):
            files.rm_file(mark)
        return True


def _holds(files: Any, manifest: str, digest: str) -> bool:
    if not files.exists(manifest):
        return False
    return hashlib.sha256(files.cat_file(manifest)).hexdigest() == digest


def _protocols(files: Any) -> tuple[str, ...]:
    found = files.protocol
    return (found,) if isinstance(found, str) else tuple(found)


@contextmanager
def _refusals_named(path: str) -> Iterator[None]:
    try:
        yield
    except (InvalidRequest, StorageFailure):
        raise
    # Every file system that fsspec knows has errors of its own; what they quote may hold keys.
    except Exception as error:
        raise StorageFailure(
            f"The destination cannot be written at {path!r}: {_reason(error)}; see that it can be "
            "reached and has room."
        ) from error


def _reason(error: Exception) -> str:
    if isinstance(error, OSError) and error.strerror:
        return error.strerror
    return type(error).__name__
