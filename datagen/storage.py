"""Object store: put, get, open, delete, exists, list, by key under one root.

A missing key is `FileNotFoundError` with every backend. What was put is whole or not there: local
files are written under a temporary name, synced and renamed; object stores do so by themselves.
"""

from __future__ import annotations

import errno
import hashlib
import os
import shutil
import uuid
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path, PurePosixPath
from typing import IO, Any, BinaryIO, Literal, Protocol, cast
from urllib.parse import unquote, urlsplit

from datagen.errors import InvalidRequest, StorageFailure, Unavailable

CHUNK_BYTES = 1 << 20
# Where local files are written before they get their name; a killed writer leaves its own there.
INCOMING = ".incoming/"
_REFUSALS = {
    errno.ENOSPC: "the disk is full",
    errno.EDQUOT: "the disk quota is used up",
    errno.EACCES: "the folder is not writable",
    errno.EPERM: "the folder is not writable",
    errno.EROFS: "the file system is read-only",
    errno.EEXIST: "a file is where a folder should be",
    errno.ENOTDIR: "a file is where a folder should be",
}


@dataclass(frozen=True)
class StoredObject:
    """A key with its size in bytes and the time of its last change."""

    key: str
    size: int
    changed_at: datetime


def digest_of(file: IO[bytes], *, copy: IO[bytes] | None = None) -> str:
    """The SHA-256 of what is left of a file, in hexadecimal, read block by block.

    Args:
        file: is left at its end.
        copy: gets the same bytes.
    """
    digest = hashlib.sha256()
    while block := file.read(CHUNK_BYTES):
        digest.update(block)
        if copy is not None:
            copy.write(block)
    return digest.hexdigest()


class Storage(Protocol):
    """What every backend can do; one contract test runs over all."""

    def put(self, key: str, data: bytes | BinaryIO) -> None:
        """Store whole, replacing what was there. Raises StorageFailure when refused."""

    def get(self, key: str) -> bytes:
        """The bytes. Raises FileNotFoundError."""

    def open(self, key: str) -> BinaryIO:
        """A seekable reader, to be closed. Raises FileNotFoundError."""

    def exists(self, key: str) -> bool:
        """Whether the key is there."""

    def delete(self, key: str) -> None:
        """Remove; a key that is not there is no error."""

    def list(self, prefix: str) -> Iterator[StoredObject]:
        """All keys that begin with the prefix, in no order; unfinished ones only under INCOMING."""

    def link(self, key: str, seconds: int, filename: str) -> str | None:
        """A URL that gives the object for so long without a key; None where there is no such."""


def checked(key: str) -> str:
    """The key, if it stays inside the root.

    Raises:
        InvalidRequest: absolute, empty, or with `.`, `..`, a NUL or a backslash in it.
    """
    path = PurePosixPath(key)
    plain = str(path) == key and path.parts and ".." not in path.parts
    if not plain or path.is_absolute() or "\0" in key or "\\" in key:
        raise InvalidRequest(f"{key!r} is not a storage key; use relative names without '..'.")
    return key


@contextmanager
def _refusals_named(where: str) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        if error.errno in _REFUSALS:
            raise StorageFailure(
                f"The storage at {where} cannot be written: {_REFUSALS[error.errno]}; "
                "free space or permissions are needed there."
            ) from error
        raise


@contextmanager
def _missing_named(key: str) -> Iterator[None]:
    try:
        yield
    except (IsADirectoryError, NotADirectoryError, FileExistsError):
        # The key is the beginning of another, or the other way about: there is no such object.
        raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), key) from None


class FileStorage:
    """A folder on this machine or on a shared file system."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self._incoming = root / INCOMING

    def _path(self, key: str) -> Path:
        return self.root / checked(key)

    def put(self, key: str, data: bytes | BinaryIO) -> None:
        """See `Storage.put`."""
        target = self._path(key)
        with _refusals_named(str(self.root)):
            self._incoming.mkdir(parents=True, exist_ok=True)
            target.parent.mkdir(parents=True, exist_ok=True)
            incoming = self._incoming / uuid.uuid4().hex
            try:
                with incoming.open("wb") as file:
                    if isinstance(data, bytes):
                        file.write(data)
                    else:
                        shutil.copyfileobj(data, file, CHUNK_BYTES)
                    file.flush()
                    os.fsync(file.fileno())
                incoming.replace(target)
                self._sync_folder(target.parent)
            finally:
                incoming.unlink(missing_ok=True)

    @staticmethod
    def _sync_folder(folder: Path) -> None:
        # Without this a power loss may forget the rename, though the row that names it survives.
        descriptor = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)

    def get(self, key: str) -> bytes:
        """See `Storage.get`."""
        with _missing_named(key):
            return self._path(key).read_bytes()

    def open(self, key: str) -> BinaryIO:
        """See `Storage.open`."""
        with _missing_named(key):
            return self._path(key).open("rb")

    def exists(self, key: str) -> bool:
        """See `Storage.exists`."""
        return self._path(key).is_file()

    def delete(self, key: str) -> None:
        """See `Storage.delete`."""
        with suppress(FileNotFoundError), _missing_named(key):
            self._path(key).unlink()

    def list(self, prefix: str) -> Iterator[StoredObject]:
        """See `Storage.list`."""
        folder = prefix.rpartition("/")[0]
        for at, _, names in os.walk(self._path(folder) if folder else self.root):
            for name in names:
                path = Path(at, name)
                key = path.relative_to(self.root).as_posix()
                hidden = key.startswith(INCOMING) and not prefix.startswith(INCOMING)
                if hidden or not key.startswith(prefix):
                    continue
                try:
                    status = path.stat()
                except FileNotFoundError:
                    continue
                yield StoredObject(
                    key, status.st_size, datetime.fromtimestamp(status.st_mtime, tz=UTC)
                )

    def link(self, key: str, seconds: int, filename: str) -> str | None:
        """See `Storage.link`: files are reached through the API alone."""
        del key, seconds, filename
        return None


class ObjectStorage:
    """Any object store that fsspec knows: S3 and its like, or memory."""

    def __init__(self, url: str, **options: Any) -> None:
        import fsspec  # noqa: PLC0415 - a local folder does not need it

        self._signs = url.startswith("s3:")
        if self._signs:
            # Links by the older way of signing are refused by newer buckets and other servers.
            options.setdefault("config_kwargs", {"signature_version": "s3v4"})
        self._files, root = fsspec.core.url_to_fs(url, use_listings_cache=False, **options)
        self._root = root.rstrip("/")

    def _path(self, key: str) -> str:
        return f"{self._root}/{checked(key)}"

    def put(self, key: str, data: bytes | BinaryIO) -> None:
        """See `Storage.put`."""
        with _refusals_named(self._root):
            if isinstance(data, bytes):
                self._files.pipe_file(self._path(key), data)
                return
            with self._files.open(self._path(key), "wb") as file:
                shutil.copyfileobj(data, file, CHUNK_BYTES)

    def get(self, key: str) -> bytes:
        """See `Storage.get`."""
        return cast("bytes", self._files.cat_file(self._path(key)))

    def open(self, key: str) -> BinaryIO:
        """See `Storage.open`."""
        with _missing_named(key):
            reader = self._files.open(self._path(key), "rb")
            # S3 has no folders; its client shows the beginning of a key as an empty file.
            if getattr(reader, "details", {}).get("type") == "directory":
                reader.close()
                raise IsADirectoryError
            return cast("BinaryIO", reader)

    def exists(self, key: str) -> bool:
        """See `Storage.exists`."""
        return bool(self._files.isfile(self._path(key)))

    def delete(self, key: str) -> None:
        """See `Storage.delete`."""
        try:
            self._files.rm_file(self._path(key))
        except FileNotFoundError:
            return

    def list(self, prefix: str) -> Iterator[StoredObject]:
        """See `Storage.list`."""
        folder = prefix.rpartition("/")[0]
        start = f"{self._root}/{folder}".rstrip("/")
        try:
            found = self._files.find(start, detail=True)
        except FileNotFoundError:
            return
        for path, status in found.items():
            key = path.removeprefix(self._root).lstrip("/")
            # Consoles and some servers keep folders, and show them among the objects.
            is_folder = status.get("type") == "directory" or not key or key.endswith("/")
            if key.startswith(prefix) and not is_folder:
                yield StoredObject(key, int(status["size"]), _changed_at(status))

    def link(self, key: str, seconds: int, filename: str) -> str | None:
        """See `Storage.link`."""
        if not self._signs:
            return None
        shown = f'attachment; filename="{filename}"'
        url: str = self._files.sign(
            self._path(key), expiration=seconds, ResponseContentDisposition=shown
        )
        return url


def _changed_at(status: Mapping[str, Any]) -> datetime:
    """The time in fsspec's answer: S3 gives a datetime, memory seconds since 1970."""
    found = status.get("LastModified") or status.get("created")
    if isinstance(found, datetime):
        return found.astimezone(UTC)
    # What does not tell its age counts as new: a sweep then leaves it alone.
    return datetime.now(UTC) if found is None else datetime.fromtimestamp(float(found), tz=UTC)


def open_storage(url: str) -> Storage:
    """The backend that a URL names.

    Raises:
        InvalidRequest: a scheme that is not file, s3 or memory.
    """
    parts = urlsplit(url)
    if parts.scheme == "file":
        return FileStorage(Path(unquote(parts.path)))
    if parts.scheme in {"s3", "memory"}:
        return ObjectStorage(url)
    raise InvalidRequest(
        f"DATAGEN_STORAGE_URL is {url!r}; use file:///…, s3://bucket/prefix or memory://….",
        field="DATAGEN_STORAGE_URL",
    )


Bucket = Literal["there", "created", "hidden"]


def bucket_of(url: str) -> str | None:
    """The bucket that an S3 URL names; None for other stores."""
    parts = urlsplit(url)
    return parts.netloc or None if parts.scheme == "s3" else None


def ensure_bucket(bucket: str) -> Bucket:
    """Create a bucket of the S3 server in the environment where it is missing.

    A bucket that our keys may not look at counts as `hidden`: it is there, or it is not for us to
    say.

    Raises:
        StorageFailure: it is missing, and may not be created.
        Unavailable: the server does not answer.
    """
    import fsspec  # noqa: PLC0415 - a local folder does not need it

    files = fsspec.filesystem("s3", use_listings_cache=False)
    try:
        files.call_s3("head_bucket", Bucket=bucket)
    except FileNotFoundError:
        return _created(files, bucket)
    except PermissionError:
        return "hidden"
    except Exception as error:  # botocore's own, of which some are no OSError
        raise Unavailable(
            f"The S3 server cannot be asked for the bucket {bucket!r} ({_first_line(error)}); see "
            "that it runs, and that AWS_ENDPOINT_URL and the keys are right."
        ) from error
    return "there"


def _created(files: Any, bucket: str) -> Bucket:
    region = files.s3.meta.region_name
    # AWS takes every region by name but this one.
    placed = {"LocationConstraint": region} if region not in {None, "us-east-1"} else None
    options = {} if placed is None else {"CreateBucketConfiguration": placed}
    try:
        files.call_s3("create_bucket", Bucket=bucket, **options)
    except FileExistsError:
        # Somebody was quicker; whether it is ours, the first write tells.
        return "there"
    except Exception as error:  # as above
        raise StorageFailure(
            f"The bucket {bucket!r} is missing and cannot be created ({_first_line(error)}); "
            "create it, or name another one in DATAGEN_STORAGE_URL."
        ) from error
    return "created"


def _first_line(error: Exception) -> str:
    return (str(error).strip() or type(error).__name__).splitlines()[0].rstrip(".")
