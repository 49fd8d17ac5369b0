"""The code blocks of the documentation, to be read and run as they stand."""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parents[2]
DOCUMENTS = (
    "README.md",
    "CONTRIBUTING.md",
    *sorted(f"docs/{p.name}" for p in (ROOT / "docs").glob("*.md")),
)
_BLOCK = re.compile(r"^```(\w+)\n(.*?)^```$", re.MULTILINE | re.DOTALL)


@dataclass(frozen=True)
class Block:
    """One of a document's blocks."""

    document: str
    line: int
    language: str
    text: str

    def __str__(self) -> str:
        return f"{self.document}:{self.line}"


def blocks(document: str, language: str | None = None) -> list[Block]:
    """The blocks of a document in their order, those of one language if it is named."""
    text = (ROOT / document).read_text(encoding="utf-8")
    found = [
        Block(document, text.count("\n", 0, match.start()) + 1, match[1], match[2])
        for match in _BLOCK.finditer(text)
    ]
    return [one for one in found if language in {None, one.language}]


def commands(block: Block) -> Iterator[list[str]]:
    """The arguments of each `datagen …` of a block of shell lines."""
    for line in block.text.splitlines():
        if line.startswith("datagen "):
            yield shlex.split(line, comments=True)
