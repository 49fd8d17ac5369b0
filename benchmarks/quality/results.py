"""Results: a JSON file that grows cell by cell, so that a run that was cut off goes on."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path
from typing import Any

RESULTS = Path(__file__).resolve().parents[1] / "results"


class Results:
    """The cells of one track that are done, by name.

    Raises:
        SystemExit: what is there was measured with other settings.
    """

    def __init__(self, track: str, settings: dict[str, Any], *, anew: bool = False) -> None:
        self.path = RESULTS / f"quality-{track}.json"
        self.settings = json.loads(json.dumps(settings))
        self.cells: dict[str, dict[str, Any]] = {}
        if self.path.exists() and not anew:
            document = json.loads(self.path.read_text())
            if document["settings"] != self.settings:
                raise SystemExit(
                    f"{self.path.name} was measured with other settings; go on with those, or "
                    "begin anew with --anew."
                )
            self.cells = document["cells"]

    def add(self, name: str, found: dict[str, Any]) -> None:
        """Keep what a cell gave, with the commit that gave it; written whole or not at all."""
        self.cells[name] = found | {"commit": commit()}
        document = {"settings": self.settings, "cells": dict(sorted(self.cells.items()))}
        incoming = self.path.with_suffix(".incoming")
        incoming.write_text(json.dumps(document, indent=1) + "\n")
        incoming.replace(self.path)


def commit() -> str:
    """The commit that is checked out, and a plus where files differ from it."""

    def told(*arguments: str) -> str:
        done = subprocess.run(
            ["git", *arguments],
            cwd=Path(__file__).parent,
            capture_output=True,
            text=True,
            check=False,
        )
        return done.stdout.strip()

    code = ("datagen", "benchmarks/quality")
    changed = told("status", "--porcelain", "--", *(f":(top){path}" for path in code))
    return (told("rev-parse", "--short=12", "HEAD") or "unknown") + ("+" if changed else "")
