"""The project's own commands, run as a user runs them."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any


def datagen(home: Path, *arguments: str) -> dict[str, Any]:
    """Run a command on a state folder of its own; returns the JSON object that it prints."""
    command = [str(Path(sys.executable).with_name("datagen")), *arguments, "--json"]
    environment = {
        name: value for name, value in os.environ.items() if not name.startswith("DATAGEN_")
    }
    done = subprocess.run(
        command,
        env={**environment, "DATAGEN_HOME": str(home)},
        stdout=subprocess.PIPE,
        check=True,
        text=True,
    )
    answer: dict[str, Any] = json.loads(done.stdout)
    return answer
