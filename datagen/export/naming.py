"""File and folder names that every loader and file system reads the same way."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Sequence

LONGEST_BYTES = 100
# Loaders take such a word anywhere in a path for the name of a split.
_SPLIT_WORD = re.compile(
    r"(?<![^\W\d_])(train|test|val|dev|eval)(ing|idation|id|elopment|uation)?(?![^\W\d_])",
    re.IGNORECASE,
)
_UNSAFE = re.compile(r"[\x00-\x1f\x7f/\\:*?\"<>|%]")
_RESERVED = re.compile(r"(con|prn|aux|nul|com\d|lpt\d)(\.|$)", re.IGNORECASE)


def file_name(index: int) -> str:
    """Name of a sample's file, from its index alone."""
    return f"{index:010d}.png"


def folder_names(class_names: Sequence[str]) -> list[str]:
    """A folder name for each class, all different, in the order of the classes as strings.

    Names that are numbers are padded with zeros, because loaders order folders as strings. What a
    file system or a loader would misread is written as %XX, as in URLs; long names are cut and told
    apart by a hash, and so are names that differ in case only.
    """
    if all(name.isascii() and name.isdigit() for name in class_names):
        width = max(len(name) for name in class_names)
        padded = [name.zfill(width) for name in class_names]
        if len(set(padded)) == len(padded):
            return padded
    found: list[str] = []
    taken: set[str] = set()
    for name in class_names:
        safe = _short(_escaped(name), name)
        if safe.casefold() in taken:
            safe = _told_apart(safe, name)
        taken.add(safe.casefold())
        found.append(safe)
    return found


def _percent(text: str) -> str:
    return "".join(f"%{byte:02X}" for byte in text.encode())


def _escaped(name: str) -> str:
    safe = _UNSAFE.sub(lambda match: _percent(match[0]), name)
    safe = _SPLIT_WORD.sub(lambda match: _percent(match[0][0]) + match[0][1:], safe)
    if not safe or safe[0] in ". " or _RESERVED.match(safe):
        safe = (_percent(safe[0]) if safe else "%00") + safe[1:]
    if safe[-1] in ". ":
        safe = safe[:-1] + _percent(safe[-1])
    return safe


def _short(safe: str, name: str) -> str:
    return safe if len(safe.encode()) <= LONGEST_BYTES else _told_apart(safe, name)


def _told_apart(safe: str, name: str) -> str:
    cut = safe.encode()[: LONGEST_BYTES - 10].decode(errors="ignore")
    return f"{cut}~{hashlib.sha256(name.encode()).hexdigest()[:8]}"
