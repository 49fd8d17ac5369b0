"""Temporary folders that a killed process cannot leave behind for ever.

Each folder has a lock that its process holds, and that the kernel releases when the process ends,
however it ends. A folder whose lock is free was left behind, and is swept away. Files without a
name (`tempfile.TemporaryFile`) need none of this: the kernel removes them.
"""

from __future__ import annotations

import errno
import fcntl
import os
import shutil
import stat
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

PREFIX = "datagen-scratch-"
# Where users see it.
HIDDEN_PREFIX = f".{PREFIX}"
LOCK, FILES = ".lock", "files"
# Of the name of what is written, in the name of the folder beside it.
MOST_NAME_BYTES = 100
# A folder is there for a moment before its lock is.
YOUNG_SECONDS = 60.0
# What the system says where a file cannot grow: a full disk, a quota, a limit on the size of files.
NO_MORE_ROOM = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EFBIG})


@contextmanager
def scratch(what: str, *, within: Path | None = None, prefix: str = PREFIX) -> Iterator[Path]:
    """An empty folder that is removed at the end, or swept away after this process was killed.

    Args:
        what: it is for; a part of its name.
        within: the folder that it lies in; the system's for temporary files if None.
        prefix: that its name begins with; `sweep_scratch` is given the same.
    """
    outer = Path(tempfile.mkdtemp(prefix=f"{prefix}{what}-", dir=within))
    try:
        with _locked(outer / LOCK):
            inner = outer / FILES
            inner.mkdir()
            yield inner
    finally:
        shutil.rmtree(outer, ignore_errors=True)


@contextmanager
def scratch_beside(out: Path) -> Iterator[Path]:
    """A scratch folder in the folder of what is written, so that one rename puts it in place.

    Those that killed processes have left there are removed first.
    """
    sweep_scratch(out.parent, prefix=HIDDEN_PREFIX)
    with scratch(_short(out.name), within=out.parent, prefix=HIDDEN_PREFIX) as folder:
        yield folder


def _short(name: str) -> str:
    """A name that leaves room for what is put around it; a name may have 255 bytes."""
    return os.fsdecode(os.fsencode(name)[:MOST_NAME_BYTES])


@contextmanager
def _locked(path: Path) -> Iterator[None]:
    # Not passed on to programs that are started meanwhile, so that it ends with this process.
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
    finally:
        os.close(descriptor)


def sweep_scratch(within: Path | None = None, *, prefix: str = PREFIX) -> int:
    """Remove the folders that killed processes of this user have left; returns how many.

    Args:
        within: where they lie; the system's folder for temporary files if None.
        prefix: that their names begin with.
    """
    removed = 0
    with suppress(OSError), os.scandir(within or tempfile.gettempdir()) as entries:
        for entry in entries:
            if entry.name.startswith(prefix) and _is_abandoned(Path(entry.path)):
                shutil.rmtree(entry.path, ignore_errors=True)
                removed += 1
    return removed


def _is_abandoned(folder: Path) -> bool:
    """Whether a folder is this user's, and no process holds its lock."""
    try:
        status = folder.lstat()
    except OSError:
        # Its process has just removed it, or another sweep has.
        return False
    if not stat.S_ISDIR(status.st_mode) or status.st_uid != os.getuid():
        return False
    try:
        # Two processes that sweep at once may both remove it, which does no harm.
        descriptor = os.open(folder / LOCK, os.O_RDWR | os.O_NOFOLLOW | os.O_CLOEXEC)
    except FileNotFoundError:
        return time.time() - status.st_mtime > YOUNG_SECONDS
    except OSError:
        return False
    try:
        young = time.time() - os.fstat(descriptor).st_mtime < YOUNG_SECONDS
        fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except OSError:
        return False
    finally:
        os.close(descriptor)
    # Its process may have created the lock and not taken it yet.
    return not young or _has_files(folder)


def _has_files(folder: Path) -> bool:
    return (folder / FILES).exists()
