"""Datasets that torchvision knows by name: downloaded on this machine, then sent like any other.

torchvision loads torch, which the client must not: a process of its own does that.
"""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

from datagen.errors import InvalidFile, InvalidRequest

TORCHVISION = "torchvision:"
# What the child ends with when the name is wrong.
UNKNOWN = 3


def download(name: str, out: Path) -> None:
    """Write a dataset of torchvision's as an NPZ file.

    Args:
        name: the class in `torchvision.datasets`, such as `FashionMNIST`.
        out: the file.

    Raises:
        InvalidRequest: torchvision has no such dataset.
        InvalidFile: it cannot be downloaded, or holds no labelled images.
    """
    command = [sys.executable, "-m", "datagen.work.torchvision_source", name, str(out)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)  # noqa: S603 - our own module
    if done.returncode == 0:
        return
    said = done.stderr.strip().splitlines()
    reason = said[-1] if said else f"the process ended with {done.returncode}"
    if done.returncode == UNKNOWN:
        raise InvalidRequest(reason, field="source")
    raise InvalidFile(f"torchvision's {name} cannot be had here: {reason}")
