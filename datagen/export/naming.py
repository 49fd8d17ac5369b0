"""File and folder names that every loader and file system reads the same way."""

from __future__ import annotations

import hashlib
import re
import unicodedata
from collections.abc import Sequence

LONGEST_BYTES = 100
# Loaders take such a word for the name of a split wherever no letter touches it.
_SPLIT_WORD = re.compile(
    r"(?<![^\W\d_])(train|training|validation|valid|val|dev|test|testing|eval|evaluation)"
    r"(?![^\W\d_])",
    re.IGNORECASE,
)
# What file systems, shells and glob patterns read otherwise, and what cannot be seen.
_UNSAFE = re.compile(
    r"[\x00-\x1f\x7f-\x9f/\\:*?\"<>|%`\[\]\u200b-\u200f\u2028-\u202e\ufeff\ud800-\udfff]"
)
_RESERVED = re.compile(r"(con|prn|aux|nul|com\d|lpt\d)(\.|$)", re.IGNORECASE)


def stem(prefix: str, index: int) -> str:
    """Name of a sample's file without ending: from its origin and its index alone."""
    return f"{prefix}{index:010d}"


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
        if _alike(safe) in taken:
            safe = _told_apart(safe, name)
        taken.add(_alike(safe))
        found.append(safe)
    return found


def _alike(name: str) -> str:
    """The same for names that some file system takes for one."""
    return unicodedata.normalize("NFC", unicodedata.normalize("NFC", name).casefold())


def _percent(text: str) -> str:
    return "".join(f"%{byte:02X}" for byte in text.encode(errors="surrogatepass"))


def _escaped(name: str) -> str:
    safe = _UNSAFE.sub(lambda match: _percent(match[0]), name)
    # Again until none is left: the digits of an escape can set the next word free (eval, val).
    while _SPLIT_WORD.search(safe):
        safe = _SPLIT_WORD.sub(lambda match: _percent(match[0][0]) + match[0][1:], safe)
    # Loaders pass over .hidden and __special folders.
    if not safe or safe[0] in ". " or safe.startswith("__") or _RESERVED.match(safe):
        safe = (_percent(safe[0]) if safe else "%00") + safe[1:]
    if safe[-1] in ". ":
        safe = safe[:-1] + _percent(safe[-1])
    return safe


def _short(safe: str, name: str) -> str:
    return safe if len(safe.encode()) <= LONGEST_BYTES else _told_apart(safe, name)


def _told_apart(safe: str, name: str) -> str:
    cut = safe.encode()[: LONGEST_BYTES - 10].decode(errors="ignore")
    return f"{cut}~{hashlib.sha256(name.encode(errors='surrogatepass')).hexdigest()[:8]}"
