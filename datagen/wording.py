"""Lists of names in a sentence, shortened where they are long."""

from __future__ import annotations

from collections.abc import Sequence

MOST_NAMED = 20
LONGEST_NAME = 80


def listed(names: Sequence[str], most: int = MOST_NAMED) -> str:
    """`'a', 'b' and 'c'`; beyond `most`, `'a', 'b' and 5 more`."""
    quoted = [repr(name[:LONGEST_NAME]) for name in names[:most]]
    if len(names) > most:
        quoted.append(f"{len(names) - most:,} more")
    return " and ".join([*([", ".join(quoted[:-1])] if len(quoted) > 1 else []), *quoted[-1:]])
