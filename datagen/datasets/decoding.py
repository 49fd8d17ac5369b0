"""Decoding many pictures at once, ahead of what takes them, within bounds of memory."""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor

from datagen.datasets.pixels import Ready
from datagen.datasets.source import Entry
from datagen.errors import InvalidFile

# Pictures that one thread decodes in a row: handing over costs as much as a small picture.
RUN = 64
# Pixels that are decoded and not taken yet, if pictures are as large as the previous ones.
AHEAD_BYTES = 64 << 20
# A run ends early where its pictures are larger than those before.
_RUN_BYTES = 4 << 20

Found = Ready | InvalidFile
Decode = Callable[[Entry], Found]


class DecodeAhead:
    """Decodes entries in the order in which they come, by the threads of a pool."""

    def __init__(self, pool: ThreadPoolExecutor, decode: Decode) -> None:
        self._pool, self._decode = pool, decode
        self._most = 2 * (os.cpu_count() or 1)
        # Bytes of a decoded picture; None until the first, decoded alone, shows it.
        self._bytes: int | None = None

    def decoded(self, entries: Sequence[Entry]) -> Iterator[tuple[Entry, Found]]:
        """Each entry with its pixels, or with what is wrong with it."""
        rest = deque(entries)
        running: deque[tuple[list[Entry], Future[list[Found]]]] = deque()
        while rest or running:
            run, ahead = self._sizes()
            while rest and len(running) < ahead:
                own = [rest.popleft() for _ in range(min(run, len(rest)))]
                running.append((own, self._pool.submit(self._decode_run, own)))
            own, future = running.popleft()
            found = future.result()
            yield from zip(own, found, strict=False)
            left = own[len(found) :]
            if left:
                running.appendleft((left, self._pool.submit(self._decode_run, left)))
            self._note(found)

    def _sizes(self) -> tuple[int, int]:
        """Entries in a run, and runs at once."""
        if self._bytes is None:
            return 1, 1
        run = max(1, min(RUN, _RUN_BYTES // self._bytes))
        return run, max(1, min(self._most, AHEAD_BYTES // (run * self._bytes)))

    def _note(self, found: Sequence[Found]) -> None:
        sizes = [one.pixels.nbytes for one in found if isinstance(one, Ready)]
        if sizes:
            self._bytes = max(1, *sizes)

    def _decode_run(self, entries: Sequence[Entry]) -> list[Found]:
        found: list[Found] = []
        size = 0
        for entry in entries:
            one = self._decode(entry)
            found.append(one)
            size += one.pixels.nbytes if isinstance(one, Ready) else 0
            if size > _RUN_BYTES:
                break
        return found
