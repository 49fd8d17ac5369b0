"""One cell of a track, as a process of its own runs it."""

from __future__ import annotations

import time
from importlib import import_module
from pathlib import Path
from typing import Any

import torch

from benchmarks.quality.mnist import Mnist


def cell(track: str, name: str, folder: Path, on: str, work: Path) -> tuple[dict[str, Any], float]:
    """What a cell gives, and its seconds; in a process of its own, on one thread."""
    torch.set_num_threads(1)
    began = time.monotonic()
    mnist = Mnist(folder)
    found = import_module(f"benchmarks.quality.track_{track.lower()}").run(
        name, mnist, getattr(mnist, on), work
    )
    return found, time.monotonic() - began
