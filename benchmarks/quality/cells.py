"""One cell of a track, as a process of its own runs it."""

from __future__ import annotations

import time
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import Any

import torch

from benchmarks.machine import machine
from benchmarks.quality.mnist import Mnist

GENERATOR = "generator"


@dataclass(frozen=True)
class Place:
    """Where generators are kept, and what computes."""

    work: Path
    device: torch.device


def cell(track: str, name: str, folder: Path, on: str, place: Place) -> dict[str, Any]:
    """What a cell gives, on what, and in how many seconds; in a process of its own, on one
    thread.
    """  # noqa: D205 - one sentence
    torch.set_num_threads(1)
    began = time.monotonic()
    mnist = Mnist(folder)
    found: dict[str, Any] = import_module(f"benchmarks.quality.track_{track.lower()}").run(
        name, mnist, getattr(mnist, on), place
    )
    seconds = round(time.monotonic() - began, 1)
    return found | {"seconds": seconds, "machine": machine(1, place.device)}
