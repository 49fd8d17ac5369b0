"""The code blocks of the documentation, to be read and run as they stand."""

from __future__ import annotations

import os
import re
import shlex
import subprocess
import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from environments import clean_environment

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


def run_block(block: Block, url: str, home: Path, folder: Path, names: Mapping[str, str]) -> str:
    """Run a block in a folder, on the stack of a home; what it prints.

    Args:
        block: Python, or lines for a shell.
        url: what stands for `datagen up`'s own address.
        home: the stack's.
        folder: where the block stands.
        names: what to put in the place of words of the block.
    """
    text = block.text.replace("http://127.0.0.1:8000", url)
    for name, value in names.items():
        text = text.replace(name, value)
    path = f"{Path(sys.executable).parent}:{os.environ['PATH']}"
    own = {"DATAGEN_HOME": str(home), "PATH": path, "NO_PROXY": "*"}
    shell = ["bash", "-euo", "pipefail", "-c"]
    program = [sys.executable, "-c"] if block.language == "python" else shell
    ran = subprocess.run(
        [*program, text],
        cwd=folder,
        env=clean_environment() | own,
        capture_output=True,
        text=True,
        check=False,
    )
    assert ran.returncode == 0, f"{block}\n{text}\n{ran.stdout}\n{ran.stderr}"
    assert "Traceback" not in ran.stderr, ran.stderr
    return ran.stdout
