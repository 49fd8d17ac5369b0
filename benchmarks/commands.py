"""The project's own commands, run as a user runs them."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any


def clean_environment() -> dict[str, str]:
    """This process's environment without any setting of datagen."""
    return {name: text for name, text in os.environ.items() if not name.startswith("DATAGEN_")}


def datagen(home: Path, *arguments: str) -> dict[str, Any]:
    """Run a command on a state folder of its own; returns the JSON object that it prints."""
    command = [str(Path(sys.executable).with_name("datagen")), *arguments, "--json"]
    done = subprocess.run(
        command,
        env={**clean_environment(), "DATAGEN_HOME": str(home)},
        stdout=subprocess.PIPE,
        check=True,
        text=True,
    )
    answer: dict[str, Any] = json.loads(done.stdout)
    return answer
