"""Processes with mounts of their own: file systems and files that nobody else sees so."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

import pytest

# As root of a user namespace of its own, so that nobody need be root.
_OWN = ["unshare", "--map-root-user", "--mount", "--propagation", "private"]
FAST = {
    "DATAGEN_WORKERS": "1",
    "DATAGEN_BACKOFF_SECONDS": "0.1",
    "DATAGEN_TICK_SECONDS": "0.5",
    "DATAGEN_MAX_ATTEMPTS": "3",
    "DATAGEN_BATCH_SIZE": "500",
}


def shell(script: str) -> list[str]:
    """A command line that does a script of the shell where it may mount."""
    return [*_OWN, "sh", "-ec", script]


def variables(home: Path, **more: str) -> dict[str, str]:
    """The environment of a stack on a home that tries again quickly."""
    kept = {name: text for name, text in os.environ.items() if not name.startswith("DATAGEN_")}
    return kept | FAST | {"DATAGEN_HOME": str(home)} | more


def enter(pid: int, script: str) -> list[str]:
    """A command line that does a script where a process has its mounts."""
    return ["nsenter", "-t", str(pid), "--user", "--mount", "sh", "-ec", script]


def _may_mount() -> bool:
    if shutil.which("unshare") is None:
        return False
    tried = subprocess.run(
        shell("mount -t tmpfs none /mnt"), capture_output=True, check=False, timeout=30
    )
    return tried.returncode == 0


needs_mounts = pytest.mark.skipif(
    not _may_mount(),
    reason="Only Linux's mount namespaces give one process a full disk, a read-only one or other "
    "host names; without them these would be those of the whole machine.",
)
