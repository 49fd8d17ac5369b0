"""How much memory a process takes at its most, seen from outside, on every system alike."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import psutil

_PAUSE = 0.002


@dataclass
class Growth:
    """Resident bytes of a process beyond those that it had at first: at its most so far."""

    bytes: int = 0


@contextmanager
def growth_of(pid: int) -> Iterator[Growth]:
    """Watch a process; it may end meanwhile."""
    process = psutil.Process(pid)
    first, growth, over = process.memory_info().rss, Growth(), threading.Event()

    def watch() -> None:
        while True:
            try:
                growth.bytes = max(growth.bytes, process.memory_info().rss - first)
            except psutil.NoSuchProcess:
                return
            if over.wait(_PAUSE):
                return

    watcher = threading.Thread(target=watch)
    watcher.start()
    try:
        yield growth
    finally:
        over.set()
        watcher.join()
