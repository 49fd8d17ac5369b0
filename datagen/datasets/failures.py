"""Errors of the disk, and of the libraries that read files, said in a sentence."""

from __future__ import annotations

import logging
import struct
from collections.abc import Iterator
from contextlib import contextmanager

from datagen.errors import InvalidFile, StorageFailure
from datagen.scratch import NO_MORE_ROOM

_log = logging.getLogger(__name__)
# Where no logging is set up, users see the sentence alone, and no traceback beside it.
_log.addHandler(logging.NullHandler())


@contextmanager
def full_disk_named() -> Iterator[None]:
    """Say in a sentence that there is no room for temporary files. Raises StorageFailure."""
    try:
        yield
    except OSError as error:
        if error.errno not in NO_MORE_ROOM:
            raise
        raise StorageFailure(
            "The disk for temporary files had no more room while the dataset was read "
            f"({error.strerror}); free space or a higher limit is needed there, or another folder "
            "in TMPDIR."
        ) from error


@contextmanager
def library_errors_named() -> Iterator[None]:
    """Refuse input that leads the libraries which read it into an error of their own.

    Whatever a user sends is refused in a sentence; the log keeps where the error came from. Raises
    InvalidFile.
    """
    try:
        yield
    except (
        ArithmeticError,
        AttributeError,
        LookupError,
        RecursionError,
        TypeError,
        ValueError,
        struct.error,
    ) as error:
        _log.warning("a source could not be read", exc_info=True)
        raise unreadable("source", error) from error


def unreadable(what: str, error: Exception) -> InvalidFile:
    """The refusal of a file or a source that leads a library into an error of its own."""
    return InvalidFile(
        f"The {what} cannot be read: {type(error).__name__}, {str(error)[:200]}; it is damaged, or "
        "of a kind that is not known."
    )
