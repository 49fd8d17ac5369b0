"""Run a command that does not outlive its parent: `python lifeline.py PARENT_PID COMMAND …`.

On Linux the kernel kills the command when the parent dies, however it dies, and this program turns
into the command. Elsewhere it stays between the two and looks. It is run by its path, isolated and
without site packages, so it imports nothing but the standard library.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Sequence
from types import FrameType
from typing import NoReturn

PR_SET_PDEATHSIG = 1
LOOK_SECONDS = 0.5
PARENT_IS_GONE = 1
CANNOT_RUN = 127


def command_line(command: Sequence[str]) -> list[str]:
    """The command, so that it dies with the process that calls this."""
    return [sys.executable, "-I", "-S", __file__, str(os.getpid()), *command]


def main(arguments: Sequence[str]) -> int:
    """Become the command, or watch over it; returns only in the second case."""
    parent, command = int(arguments[0]), arguments[1:]
    if os.uname().sysname == "Linux":
        _become(parent, command)
    return _watched(parent, command)


def _become(parent: int, command: Sequence[str]) -> NoReturn:
    _die_with_parent()
    # The parent may have died before the kernel was told.
    if os.getppid() != parent:
        sys.exit(PARENT_IS_GONE)
    try:
        os.execvp(command[0], list(command))  # noqa: S606 - no shell is wanted
    except OSError as error:
        sys.stderr.write(f"{command[0]}: {error.strerror}\n")
        sys.exit(CANNOT_RUN)


def _die_with_parent() -> None:
    import ctypes  # noqa: PLC0415 - only Linux needs it

    libc = ctypes.CDLL(None, use_errno=True)
    if libc.prctl(PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0) != 0:
        raise OSError(ctypes.get_errno(), "prctl(PR_SET_PDEATHSIG) failed")


def _watched(parent: int, command: Sequence[str]) -> int:
    child = subprocess.Popen(command, close_fds=False)  # noqa: S603 - our own supervisor's command

    def pass_on(number: int, _: FrameType | None) -> None:
        child.send_signal(number)

    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGQUIT, signal.SIGHUP):
        signal.signal(number, pass_on)
    while True:
        try:
            return child.wait(LOOK_SECONDS)
        except subprocess.TimeoutExpired:
            if os.getppid() != parent:
                child.kill()


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
