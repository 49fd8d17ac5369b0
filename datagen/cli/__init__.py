"""The command line: thin, on the client."""

from __future__ import annotations

from typing import NoReturn


def main() -> NoReturn:
    """Run the command that the arguments name, and exit with its code."""
    from datagen.cli.app import run  # noqa: PLC0415 - whoever imports the room pays for no Typer

    run()
