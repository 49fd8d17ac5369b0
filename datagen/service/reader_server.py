"""The process that starts readers: `python -P -m datagen.service.reader_server FD`.

It has loaded the libraries, and has one thread, so a reader is a fork of it and starts in
milliseconds. It takes connections, as descriptors, over the socket that it was given, and gives
each to a reader of its own. It ends when the process that started it does.
"""

from __future__ import annotations

import ctypes
import gc
import json
import os
import resource
import signal
import socket
import sys
import threading
import time
import traceback
from contextlib import suppress
from pathlib import Path
from typing import Any, NoReturn

from datagen.datasets.failures import unreadable
from datagen.errors import DatagenError
from datagen.service.reader import ANSWER, FAILURE, HELLO, NO_MEMORY, PID_BYTES
from datagen.service.reader_tasks import TASKS
from datagen.settings import Settings

_PR_SET_PDEATHSIG = 1
_THREAD_STACK_BYTES = 8 << 20
_LOOK_SECONDS = 0.5
# Without work for so long, the memory of the loaded libraries is given back.
_IDLE_SECONDS = 600.0


def main() -> None:
    """Fork a reader for each connection that comes, until the starting process has ended."""
    control = socket.socket(fileno=int(sys.argv[1]))
    control.settimeout(_IDLE_SECONDS)
    # The kernel reaps the readers.
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)
    # A Ctrl-C is for the process that waits for the reader, and stops it.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    gc.collect()
    gc.freeze()
    while True:
        try:
            message, descriptors, _, _ = socket.recv_fds(control, 1, 1)
        except TimeoutError:
            if _has_readers():
                continue
            return
        if not message:
            return
        for descriptor in descriptors:
            _start_reader(control, descriptor)


def _has_readers() -> bool:
    """Whether one still reads: it would end with this process."""
    try:
        os.waitpid(-1, os.WNOHANG)
    except ChildProcessError:
        return False
    return True


def _start_reader(control: socket.socket, descriptor: int) -> None:
    """Fork one; where the machine has no process left, its client finds the connection closed."""
    parent = os.getpid()
    try:
        if os.fork() == 0:
            control.close()
            _read(socket.socket(fileno=descriptor), parent)
    except OSError:
        traceback.print_exc()
    os.close(descriptor)


def _read(connection: socket.socket, parent: int) -> NoReturn:
    """Do one task, answer, and end."""
    with suppress(BaseException):
        _die_with(parent)
        signal.signal(signal.SIGCHLD, signal.SIG_DFL)
        connection.sendall(HELLO + os.getpid().to_bytes(PID_BYTES, "big"))
        with connection.makefile("rb") as file:
            request = json.loads(file.readline())
        _limit(request["memory_bytes"])
        connection.sendall(_answer(request))
    os._exit(0)


def _answer(request: dict[str, Any]) -> bytes:
    settings = Settings.model_construct(**request["settings"])
    try:
        found = TASKS[request["task"]](settings, request["request"])
        return ANSWER + json.dumps(found).encode()
    except DatagenError as error:
        if _for_memory(error):
            return NO_MEMORY
        return FAILURE + json.dumps([error.slug, error.detail, error.field]).encode()
    except Exception as error:  # noqa: BLE001 - whatever the file led to, its owner gets a sentence
        if _for_memory(error):
            return NO_MEMORY
        traceback.print_exc()
        refused = unreadable("file", error)
        return FAILURE + json.dumps([refused.slug, refused.detail, None]).encode()


def _for_memory(error: BaseException | None) -> bool:
    """Whether an error comes of one that says that there was no memory.

    Libraries say so in kinds of their own, and a new thread that has no room in another.
    """
    while error is not None:
        if isinstance(error, MemoryError) or "start new thread" in str(error):
            return True
        error = error.__cause__ or error.__context__
    return False


def _limit(memory_bytes: int) -> None:
    """Take no more memory than that beyond what is taken now, and be the first that must go.

    Of the memory that counts, files that are mapped are no part, so a dataset may be larger.
    """
    with suppress(OSError, ValueError):
        Path("/proc/self/oom_score_adj").write_text("1000", encoding="ascii")
    with suppress(OSError, ValueError):
        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
        threads = (os.cpu_count() or 1) * _THREAD_STACK_BYTES
        most = _data_bytes() + threads + memory_bytes
        resource.setrlimit(resource.RLIMIT_DATA, (most, most))


def _data_bytes() -> int:
    try:
        pages = Path("/proc/self/statm").read_text(encoding="ascii").split()[5]
    except OSError:
        return 0
    return int(pages) * resource.getpagesize()


def _die_with(parent: int) -> None:
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
    else:
        threading.Thread(target=_watch, args=(parent,), daemon=True).start()
    if os.getppid() != parent:
        os._exit(1)


def _watch(parent: int) -> None:
    while os.getppid() == parent:
        time.sleep(_LOOK_SECONDS)
    os._exit(1)


if __name__ == "__main__":
    main()
