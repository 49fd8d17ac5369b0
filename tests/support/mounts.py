"""Processes with mounts of their own: file systems and files that nobody else sees so."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest
from environments import as_variables, clean_environment
from running import IMPATIENT

# As root of a user namespace of its own, so that nobody need be root.
_OWN = ["unshare", "--map-root-user", "--mount", "--propagation", "private"]


def shell(script: str) -> list[str]:
    """A command line that does a script of the shell where it may mount."""
    return [*_OWN, "sh", "-ec", script]


def environment_of(home: Path, **settings: object) -> dict[str, str]:
    """The environment of a stack on a home that tries again quickly, and gives up soon."""
    own = {"home": home, "workers": 1, "batch_size": 500, "max_attempts": 3}
    return clean_environment() | as_variables(**IMPATIENT | own | settings)


def enter(pid: int, script: str) -> list[str]:
    """A command line that does a script where a process has its mounts."""
    return ["nsenter", "-t", str(pid), "--user", "--mount", "sh", "-ec", script]


@pytest.fixture(scope="session")
def mounts() -> None:
    """Fail where nothing may be mounted: a full disk would be that of the whole machine there."""
    script = shell("mount -t tmpfs none /mnt")
    if shutil.which(script[0]) is None:
        pytest.fail("There is no `unshare`; these tests need Linux and the package util-linux.")
    tried = subprocess.run(script, capture_output=True, text=True, check=False, timeout=30)
    if tried.returncode:
        pytest.fail(
            f"Nothing may be mounted in a namespace here ({tried.stderr.strip()}); allow user "
            "namespaces, or run these tests as root."
        )
