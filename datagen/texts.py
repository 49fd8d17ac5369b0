r"""Text that cannot be kept: what JSON carries and UTF-8, or a database, has no form for.

JSON may hold half of a surrogate pair (`"\ud800"`), which has no UTF-8 form, and U+0000, which
PostgreSQL keeps in no text. Whatever takes text in looks for both here.
"""

from __future__ import annotations

import re
from collections.abc import Mapping

_UNFIT = re.compile("[\x00\ud800-\udfff]")
_SURROGATES = re.compile("[\ud800-\udfff]")
REPLACEMENT = "\ufffd"


def unfit_character(value: object) -> str | None:
    """The first character that cannot be kept in a text, or in any text within a value.

    Args:
        value: as JSON is read: mappings (whose keys count too), lists and texts at any depth.
    """
    left = [value]
    while left:
        one = left.pop()
        if isinstance(one, str):
            if found := _UNFIT.search(one):
                return found[0]
        elif isinstance(one, Mapping):
            left += one.keys()
            left += one.values()
        elif isinstance(one, list | tuple | set | frozenset):
            left += one
    return None


def why_unfit(character: str) -> str:
    """Why a character cannot be kept, as the end of a sentence."""
    if character == "\0":
        return f"{character!r}, a character that databases cannot keep; leave it out"
    return f"{character!r}, half of a surrogate pair that no UTF-8 text can hold; leave it out"


def depth_of(value: object) -> int:
    """How deep the lists and mappings of a value are nested; 0 for a value that is neither."""
    depth, level = 0, [value]
    while level := [one for one in level if isinstance(one, Mapping | list)]:
        depth += 1
        level = [
            inner for one in level for inner in (one.values() if isinstance(one, Mapping) else one)
        ]
    return depth


def replace_surrogates(value: object) -> object:
    """The same value with U+FFFD for every lone surrogate; its lists and dicts are changed."""
    left: list[object] = [whole := [value]]
    while left:
        one = left.pop()
        if isinstance(one, dict):
            items = [(_repaired(name), _repaired(inner)) for name, inner in one.items()]
            one.clear()
            one.update(items)
            left += one.values()
        elif isinstance(one, list):
            one[:] = [_repaired(inner) for inner in one]
            left += one
    return whole[0]


def _repaired(value: object) -> object:
    return _SURROGATES.sub(REPLACEMENT, value) if isinstance(value, str) else value
