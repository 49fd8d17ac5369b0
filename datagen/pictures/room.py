"""Room in memory that threads share while they decode large pictures."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager


class Room:
    """Bytes that threads may take together for the while that they decode."""

    def __init__(self, size: int) -> None:
        self._size = size
        self._taken = 0
        self._freed = threading.Condition()

    @contextmanager
    def of(self, size: int) -> Iterator[None]:
        """Wait until there is room for so much; what is larger than all of it has it alone."""
        with self._freed:
            self._freed.wait_for(lambda: not self._taken or self._taken + size <= self._size)
            self._taken += size
        try:
            yield
        finally:
            with self._freed:
                self._taken -= size
                self._freed.notify_all()


# Decoding takes some copies of a picture, in colours of 16 bits at most; several threads decode.
DECODING = Room(512 << 20)
# Pictures below this are decoded without a look at the room.
SMALL_PIXELS = 1 << 20
BYTES_A_PIXEL = 24
