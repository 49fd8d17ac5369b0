"""The state folder: made, locked, and holding the address and key of the stack that runs on it."""

from __future__ import annotations

import fcntl
import json
import os
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from enum import IntEnum
from pathlib import Path

from datagen.errors import HomeUnusable

LOCK = "lock"
SERVER = "server.json"
KEY = "api-key"
# A stack that was killed lets go of the lock when the last of its processes has noticed.
# One that a command has started for itself ends with it.
LOCK_SECONDS = 10.0
LOOK_SECONDS = 0.05


class Workers(IntEnum):
    """Which workers a stack has; each kind has those before it too.

    Attributes:
        NONE: an API that reads, and no broker.
        LIGHT: exports, ticks and beat.
        ALL: generation and training.
    """

    NONE = 0
    LIGHT = 1
    ALL = 2


@dataclass(frozen=True)
class RunningStack:
    """The stack that runs on a home: its base URL, its supervising process, and its workers."""

    url: str
    pid: int
    workers: Workers


def running_stack(home: Path) -> RunningStack | None:
    """The stack that runs on this home and answers requests, if there is one."""
    try:
        written = json.loads((home / SERVER).read_text(encoding="utf-8"))
        found = RunningStack(
            url=str(written["url"]),
            pid=int(written["pid"]),
            workers=Workers[str(written["workers"])],
        )
        with (home / LOCK).open("rb") as lock:
            return found if _is_held(lock.fileno()) and _lives(found.pid) else None
    except (OSError, ValueError, KeyError, TypeError):
        return None


def _is_held(descriptor: int) -> bool:
    try:
        fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    return False


def _lives(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True


class Home:
    """A state folder that this process has made its own, until `release`."""

    def __init__(self, path: Path) -> None:
        """Make the folder where it is missing, and lock it.

        Raises:
            HomeUnusable: it cannot be written, or another stack runs on it.
        """
        self.path = path
        try:
            path.mkdir(parents=True, exist_ok=True, mode=0o700)
            self.logs = self._folder("logs")
            self.valkey = self._folder("valkey")
            self.lock = os.open(path / LOCK, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        except OSError as error:
            raise HomeUnusable(
                f"The state folder {path} cannot be used: {error.strerror}; name another one in "
                "DATAGEN_HOME."
            ) from error
        self._take_lock()

    def _folder(self, name: str) -> Path:
        folder = self.path / name
        folder.mkdir(exist_ok=True, mode=0o700)
        return folder

    def _take_lock(self) -> None:
        deadline = time.monotonic() + LOCK_SECONDS
        while True:
            try:
                fcntl.flock(self.lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                if self._is_in_use() or time.monotonic() > deadline:
                    os.close(self.lock)
                    raise HomeUnusable(self._in_use()) from None
                time.sleep(LOOK_SECONDS)
            else:
                return

    def _is_in_use(self) -> bool:
        running = running_stack(self.path)
        return running is not None and running.workers == Workers.ALL

    def _in_use(self) -> str:
        running = running_stack(self.path)
        at = f" It answers at {running.url} (process {running.pid})." if running else ""
        return (
            f"The state folder {self.path} is in use by another stack.{at} Stop that one, or name "
            "another folder in DATAGEN_HOME."
        )

    def release(self) -> None:
        """Let another stack have the folder."""
        with suppress(OSError):
            os.close(self.lock)

    def announce(self, url: str, workers: Workers) -> None:
        """Tell the command line and the client where the server is, and what it can do."""
        written = {"url": url, "pid": os.getpid(), "workers": workers.name}
        self._write(SERVER, json.dumps(written))

    def withdraw(self) -> None:
        """Take the announcement back."""
        (self.path / SERVER).unlink(missing_ok=True)

    def key(self, *, works: Callable[[str], bool], make: Callable[[], str]) -> str:
        """The local API key: the one written down if it still works, else a new one."""
        with suppress(FileNotFoundError, UnicodeDecodeError):
            written = (self.path / KEY).read_text(encoding="utf-8").strip()
            if written and works(written):
                return written
        made = make()
        self._write(KEY, made + "\n")
        return made

    def _write(self, name: str, text: str) -> None:
        incoming = self.path / f".{name}.new"
        incoming.unlink(missing_ok=True)
        descriptor = os.open(incoming, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        with os.fdopen(descriptor, "w", encoding="utf-8") as file:
            file.write(text)
        incoming.replace(self.path / name)
