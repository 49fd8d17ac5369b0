"""What the documentation shows: every command is one, every block of Python can be read."""

from __future__ import annotations

import re
from typing import Any

import pytest
from documents import DOCUMENTS, ROOT, Block, blocks, commands
from typer.main import get_command

from datagen.cli.app import app
from datagen.recipes import read_recipe
from datagen.schemas import PipelineApply

BLOCKS = [block for document in DOCUMENTS for block in blocks(document)]
_LINK = re.compile(r"\]\(([^)#:]+)(?:#[^)]*)?\)")


@pytest.mark.parametrize("block", [b for b in BLOCKS if b.language == "sh"], ids=str)
def test_every_command_is_one_with_these_arguments(block: Block) -> None:
    for _, *arguments in commands(block):
        command: Any = get_command(app)
        rest = arguments[2:] if arguments[0] == "--profile" else arguments
        while hasattr(command, "commands"):
            command = command.commands[rest.pop(0)]
        command.make_context("datagen", rest)


@pytest.mark.parametrize("block", [b for b in BLOCKS if b.language == "python"], ids=str)
def test_every_block_of_python_can_be_read(block: Block) -> None:
    compile(block.text, str(block), "exec")


@pytest.mark.parametrize("block", [b for b in BLOCKS if b.language == "yaml"], ids=str)
def test_every_recipe_is_one(block: Block) -> None:
    recipe = PipelineApply.model_validate(read_recipe(block.text.encode()))
    assert recipe.name == "nightly"


@pytest.mark.parametrize("document", DOCUMENTS)
def test_links_between_documents_lead_somewhere(document: str) -> None:
    folder = (ROOT / document).parent
    for target in _LINK.findall((ROOT / document).read_text(encoding="utf-8")):
        assert (folder / target).exists(), target
