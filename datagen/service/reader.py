"""Reading files that anybody may have made, in a process with a memory limit that may die.

docs/decisions/0028-untrusted-files-are-read-in-a-process-of-their-own.md says why.
"""

from __future__ import annotations

import json
import os
import select
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

import structlog

from datagen.errors import PROBLEM_PREFIX, InvalidFile, Unavailable, error_for
from datagen.settings import Settings

# Names of a hundred thousand classes are less; pixels lie on disk.
MAX_ANSWER_BYTES = 8 << 20
_LOOK_SECONDS = 0.25
# What a reader says first: this, and its process.
HELLO, PID_BYTES = b"+", 4
_HELLO_BYTES = len(HELLO) + PID_BYTES
# What goes before an answer: that it is one, that the file was refused, or that memory ran out.
ANSWER, FAILURE, NO_MEMORY = b"=", b"!", b"-"
_START_SECONDS = 60.0
_END_SECONDS = 1.0
# What of the settings a reader needs; of the others it learns nothing.
_SETTINGS = ("dataset_roots", "max_upload_bytes")

log = structlog.get_logger()


@dataclass(frozen=True)
class FileReader:
    """Has files read in a process of its own, one for each.

    Attributes:
        settings: the limits of memory and time, and where datasets may be read from.
        check: called now and then while it reads; whatever it raises ends the reader.
    """

    settings: Settings
    check: Callable[[], None] = lambda: None

    def read(self, task: str, request: dict[str, Any]) -> dict[str, Any]:
        """Do one of `reader_tasks.TASKS`, and give its answer.

        Raises:
            InvalidFile: more memory or time than the limits, or a reader that died.
            Unavailable: no process could be started.
            DatagenError: as the task raises it.
        """
        self.check()
        message = {
            "task": task,
            "request": request,
            "memory_bytes": self.settings.reader_memory_bytes,
            "settings": {name: getattr(self.settings, name) for name in _SETTINGS},
        }
        connection, pid = _server.connect()
        with connection:
            answered = False
            try:
                connection.sendall(json.dumps(message).encode() + b"\n")
                answer = self._received(connection)
                answered = True
            except OSError:
                answer = b""
            finally:
                if not answered:
                    with suppress(ProcessLookupError):
                        os.kill(pid, signal.SIGKILL)
        return self._result(task, answer)

    def _received(self, connection: socket.socket) -> bytes:
        """All that the reader says until it ends."""
        deadline = time.monotonic() + self.settings.reader_seconds
        answer = bytearray()
        while True:
            if select.select([connection], [], [], _LOOK_SECONDS)[0]:
                chunk = connection.recv(1 << 16)
                if not chunk:
                    return bytes(answer)
                answer += chunk
                if len(answer) > MAX_ANSWER_BYTES:
                    raise InvalidFile(
                        "The names of the classes, or the notes about the file, take more than "
                        f"{MAX_ANSWER_BYTES:,} bytes; shorten them, or give fewer classes."
                    )
            self.check()
            if time.monotonic() > deadline:
                raise InvalidFile(
                    f"Reading the file took more than {self.settings.reader_seconds:g} seconds; "
                    "give a smaller one, or have the operator raise "
                    "DATAGEN_READER_SECONDS."
                )

    def _result(self, task: str, answer: bytes) -> dict[str, Any]:
        kind, rest = answer[:1], answer[1:]
        # One that was cut off comes of a reader that was killed while it wrote.
        with suppress(json.JSONDecodeError):
            if kind == ANSWER:
                found: dict[str, Any] = json.loads(rest)
                return found
            if kind == FAILURE:
                slug, detail, field = json.loads(rest)
                raise error_for(PROBLEM_PREFIX + slug, 0)(detail, field=field)
        log.warning("reader_died", task=task, memory_bytes=self.settings.reader_memory_bytes)
        what = (
            "The file needs"
            if kind == NO_MEMORY
            else "The process that read the file was killed, as happens when it needs"
        )
        raise InvalidFile(
            f"{what} more memory than the {self.settings.reader_memory_bytes:,} bytes that reading "
            "one may take; give smaller images or a smaller file, or have the operator raise "
            "DATAGEN_READER_MEMORY_BYTES."
        )


class _Server:
    """The process that starts readers; it is started when the first one is needed."""

    def __init__(self) -> None:
        self.forget()

    def forget(self) -> None:
        """Start one's own after a fork: the former is the parent's."""
        self._lock = threading.Lock()
        self._process: subprocess.Popen[bytes] | None = None
        self._control: socket.socket | None = None

    def prepare(self) -> None:
        """Start it, if it does not run, so that its libraries are loaded when a file has come."""
        with self._lock:
            if self._process is None or self._process.poll() is not None:
                self._start()

    def _start(self) -> None:
        self._stop()
        self._control, theirs = socket.socketpair()
        with theirs:
            descriptor = theirs.fileno()
            # Threads of libraries would not be in a fork.
            threads = dict.fromkeys(("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS"), "1")
            try:
                self._process = subprocess.Popen(  # noqa: S603 - our own module
                    [sys.executable, "-P", "-m", "datagen.service.reader_server", str(descriptor)],
                    pass_fds=[descriptor],
                    stdin=subprocess.DEVNULL,
                    stdout=subprocess.DEVNULL,
                    env=os.environ | threads,
                )
            except OSError as error:
                raise _no_process() from error

    def _stop(self) -> None:
        if self._control is not None:
            self._control.close()
        if self._process is not None:
            self._process.kill()
            self._process.wait()

    def connect(self) -> tuple[socket.socket, int]:
        """A new reader, and its process. Raises Unavailable where none starts."""
        # The server may just have ended, for want of work or of memory: then another is started.
        for _ in range(2):
            self.prepare()
            process, found = self._process, self._fork()
            if found is not None:
                return found
            self._reap(process)
        raise _no_process()

    def _reap(self, process: subprocess.Popen[bytes] | None) -> None:
        """Give a server time to end that was killed; one that lives has others' readers."""
        if process is not None:
            with suppress(subprocess.TimeoutExpired):
                process.wait(_END_SECONDS)

    def _fork(self) -> tuple[socket.socket, int] | None:
        ours, theirs = socket.socketpair()
        try:
            with theirs, self._lock:
                if self._control is None:
                    return None
                socket.send_fds(self._control, [b"+"], [theirs.fileno()])
            ours.settimeout(_START_SECONDS)
            hello = b""
            while len(hello) < _HELLO_BYTES:
                chunk = ours.recv(_HELLO_BYTES - len(hello))
                if not chunk:
                    break
                hello += chunk
        except OSError:
            hello = b""
        if len(hello) < _HELLO_BYTES:
            ours.close()
            return None
        ours.settimeout(None)
        return ours, int.from_bytes(hello[1:], "big")


def _no_process() -> Unavailable:
    return Unavailable("No process could be started to read the file; try again later.")


_server = _Server()
os.register_at_fork(after_in_child=_server.forget)


def prepare_reader() -> None:
    """Begin to load what a reader needs, while the file is still on its way."""
    _server.prepare()
