"""Room in memory that threads share while they decode large pictures."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager


class Room:
    """Bytes that threads may take together while they decode.

    Small pictures take no turn: looking for room costs as much as decoding one.
    """

    def __init__(self, size: int, *, small: int = 0) -> None:
        self._size, self._small = size, small
        self._taken = 0
        self._freed = threading.Condition()

    @contextmanager
    def of(self, size: int) -> Iterator[None]:
        """Wait until there is room for so much; what is larger than all of it has it alone."""
        if size < self._small:
            yield
            return
        with self._freed:
            self._freed.wait_for(lambda: not self._taken or self._taken + size <= self._size)
            self._taken += size
        try:
            yield
        finally:
            with self._freed:
                self._taken -= size
                self._freed.notify_all()


# Decoding takes some copies of a picture, in colours of 16 bits at most.
BYTES_A_PIXEL = 24
DECODING = Room(512 << 20, small=BYTES_A_PIXEL << 20)
