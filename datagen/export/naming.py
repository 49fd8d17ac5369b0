"""File and folder names that every loader and file system reads the same way."""

from __future__ import annotations

import hashlib
import re
import unicodedata
from collections.abc import Sequence
from itertools import pairwise
from typing import Any

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
_DIGITS = re.compile(r"(\d+)")
_RESERVED = re.compile(r"(con|prn|aux|nul|com\d|lpt\d)(\.|$)", re.IGNORECASE)


def stem(prefix: str, index: int) -> str:
    """Name of a sample's file without ending: from its origin and its index alone."""
    return f"{prefix}{index:010d}"


def folder_names(class_names: Sequence[str]) -> list[str]:
    """A folder name for each class, all different, which every loader sorts as the classes stand.

    Loaders number the folders that they find: most in the order of code points, timm in natural
    order without case (item2 before Item10). Names that both leave in the order of the classes stay
    as they are, numbers padded with zeros; otherwise each name has its number before it. What a
    file system or a loader would misread is written as %XX, as in URLs; long names are cut and told
    apart by a hash, and so are names that differ in case only.

    The names follow from the classes alone: exports of the same classes have the same folders.
    """
    width = max(map(len, class_names), default=0)
    numbers = all(name.isascii() and name.isdigit() for name in class_names)
    plain = [name.zfill(width) for name in class_names] if numbers else list(class_names)
    if len(set(plain)) < len(plain):
        plain = list(class_names)
    safe = _safe_names(plain)
    if _rising(safe) and _rising([natural_key(name) for name in safe]):
        return safe
    digits = len(str(len(safe) - 1))
    return [f"{label:0{digits}d}-{name}" for label, name in enumerate(_safe_names(class_names))]


def natural_key(name: str) -> tuple[str | int, ...]:
    """What timm sorts folders by: runs of digits as numbers, the rest in lower case."""
    return tuple(int(piece) if piece.isdigit() else piece for piece in _DIGITS.split(name.lower()))


def _rising(keys: Sequence[Any]) -> bool:
    return all(one < other for one, other in pairwise(keys))


def _safe_names(names: Sequence[str]) -> list[str]:
    found: list[str] = []
    taken: set[str] = set()
    for name in names:
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
    # Superscripts and the like are digits to `str.isdigit` and none to `int`, which stops timm.
    safe = "".join(
        _percent(char) if char.isdigit() and not char.isdecimal() else char for char in safe
    )
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
