"""Sources of datasets that the server reads itself: URLs under roots that the operator allows."""

from __future__ import annotations

import os
import shutil
from collections.abc import Sequence
from pathlib import Path, PurePosixPath
from typing import Any
from urllib.parse import SplitResult, unquote, urlsplit

from datagen.datasets.listing import is_leftover
from datagen.datasets.unzipping import checked_name
from datagen.errors import InvalidRequest, NotFound, StorageFailure
from datagen.settings import Settings
from datagen.storage import CHUNK_BYTES

MAX_FILES = 1_000_000


def fetch(settings: Settings, url: str, folder: Path) -> Path:
    """A local path with what a URL holds: the file or folder itself, or a copy in `folder`.

    Args:
        settings: `dataset_roots` says where datasets may be read from.
        url: a file, or a folder with a dataset in it.
        folder: an empty folder.

    Raises:
        InvalidRequest: not under one of the roots.
        NotFound: nothing is there.
        StorageFailure: it cannot be read, or the disk is full.
    """
    root = _root_of(settings, url)
    if root.scheme == "file":
        return _local(root, url)
    return _copied(url, folder, settings.max_upload_bytes)


def _roots(settings: Settings) -> Sequence[SplitResult]:
    given = (settings.dataset_roots or "").split(",")
    return [urlsplit(root.strip()) for root in given if root.strip()]


def _root_of(settings: Settings, url: str) -> SplitResult:
    """The allowed root that a URL lies under. Raises InvalidRequest."""
    roots = _roots(settings)
    parts = _parsed(url)
    for root in roots:
        if (parts.scheme, parts.netloc) == (root.scheme, root.netloc):
            within = PurePosixPath(parts.path or "/")
            if within.is_relative_to(PurePosixPath(root.path or "/")):
                return root
    allowed = ", ".join(root.geturl() for root in roots) or "none"
    raise InvalidRequest(
        f"The source {url[:200]!r} is not under a root that this server reads from ({allowed}); "
        "DATAGEN_DATASET_ROOTS names them.",
        field="source",
    )


def _parsed(url: str) -> SplitResult:
    try:
        parts = urlsplit(url)
        netloc = parts.hostname is not None and parts.port is None
    except ValueError:
        netloc = False
        parts = SplitResult("", "", "", "", "")
    path = unquote(parts.path)
    wrong = {"\0", "\\", "%", "*", "?", "["} & set(path)
    plain = not (parts.query or parts.fragment or "@" in parts.netloc)
    if (
        wrong
        or ".." in PurePosixPath(path).parts
        or not plain
        or not (netloc or parts.scheme == "file")
    ):
        raise InvalidRequest(
            f"The source {url[:200]!r} is not a plain URL: it needs a scheme, a host or bucket and "
            "a path without '..', '%' or wildcards.",
            field="source",
        )
    return parts._replace(path=path)


def _local(root: SplitResult, url: str) -> Path:
    allowed = Path(unquote(root.path)).resolve()
    path = Path(_parsed(url).path).resolve()
    if not path.is_relative_to(allowed):
        raise InvalidRequest(
            f"The source {url[:200]!r} leads out of the root {root.geturl()}.", field="source"
        )
    if not path.exists():
        raise NotFound(f"There is nothing at {url[:200]!r}.")
    if path.is_dir():
        _check_links(path, allowed)
    return path


def _check_links(folder: Path, allowed: Path) -> None:
    """Refuse a folder with links in it that lead out of the root. Raises InvalidRequest."""
    walked: set[Path] = set()
    for at, folders, files in os.walk(folder, followlinks=True):
        if (real := Path(at).resolve()) in walked:
            # A circle of links.
            folders.clear()
            continue
        walked.add(real)
        for name in (*folders, *files):
            path = Path(at, name)
            if path.is_symlink() and not path.resolve().is_relative_to(allowed):
                raise InvalidRequest(
                    f"The source holds the link {path.relative_to(folder).as_posix()[:200]!r}, "
                    "which leads out of the root.",
                    field="source",
                )


def _copied(url: str, folder: Path, most: int) -> Path:
    import fsspec  # noqa: PLC0415 - only sources elsewhere need it

    # Endpoints and credentials come from the server's environment, never from a request.
    files, path = fsspec.core.url_to_fs(_parsed(url).geturl())
    try:
        if not path.endswith("/") and files.isfile(path) and files.size(path):
            _copy(files, path, folder / "source", most)
            return folder / "source"
        names = [name for name in files.find(path) if not _is_marker(name, path)]
    except FileNotFoundError:
        names = []
    except OSError as error:
        raise StorageFailure(f"The source {url[:200]!r} cannot be read: {error}.") from error
    if not names:
        raise NotFound(f"There is nothing at {url[:200]!r}.")
    if len(names) > MAX_FILES:
        raise InvalidRequest(
            f"The source {url[:200]!r} holds {len(names):,} files; at most {MAX_FILES:,} are read, "
            "so pack them.",
            field="source",
        )
    for name in names:
        inner = checked_name(name.removeprefix(path).lstrip("/"))
        if _is_leftover(inner):
            continue
        target = folder / "source" / inner
        target.parent.mkdir(parents=True, exist_ok=True)
        most -= _copy(files, name, target, most)
    return folder / "source"


def _is_marker(name: str, path: str) -> bool:
    """Whether a key only stands for a folder: consoles of S3 write empty ones that end in `/`."""
    return name.endswith("/") or name.rstrip("/") == path.rstrip("/")


def _is_leftover(inner: PurePosixPath) -> bool:
    """Whether a file lies in a folder that readers leave out, so that it need not be copied."""
    *folders, last = inner.parts or ("",)
    return is_leftover(last, folder=False) or any(
        is_leftover(name, folder=True) for name in folders
    )


def _copy(files: Any, name: str, target: Path, most: int) -> int:
    try:
        size = int(files.size(name) or 0)
        if size > most:
            raise InvalidRequest(
                f"The source has more bytes than this server takes; {name[-100:]!r} alone has "
                f"{size:,}. DATAGEN_MAX_UPLOAD_BYTES sets the limit.",
                field="source",
            )
        with files.open(name, "rb") as source, target.open("wb") as copy:
            shutil.copyfileobj(source, copy, CHUNK_BYTES)
    except OSError as error:
        raise StorageFailure(f"{name[-100:]!r} cannot be copied: {error}.") from error
    return size
