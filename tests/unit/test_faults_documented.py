"""Every fault that docs/architecture.md knows has a test that stages it."""

from __future__ import annotations

import ast
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
HEADING = "## What may fail, and what then happens"
LAST_CELL = re.compile(r"^`(?P<file>[\w/.]+)`: `(?P<name>test_\w+)`$")


def rows() -> list[list[str]]:
    text = (ROOT / "docs" / "architecture.md").read_text(encoding="utf-8")
    section = text.partition(HEADING)[2].partition("\n## ")[0]
    lines = [line for line in section.splitlines() if line.startswith("|")]
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in lines[2:]]


@pytest.mark.parametrize("row", rows(), ids=lambda row: row[0])
def test_fault_is_staged_by_a_test_that_is_there(row: list[str]) -> None:
    named = LAST_CELL.match(row[-1])
    assert named, f"{row[-1]!r} is not `file`: `test`"
    tree = ast.parse((ROOT / "tests" / named["file"]).read_text(encoding="utf-8"))
    assert named["name"] in {node.name for node in tree.body if isinstance(node, ast.FunctionDef)}


def test_table_is_found() -> None:
    assert len(rows()) > 10
