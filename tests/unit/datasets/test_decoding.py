from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing

import numpy as np
import pytest
from running import wait_until

from datagen.datasets import decoding
from datagen.datasets.decoding import DecodeAhead
from datagen.datasets.pixels import Ready
from datagen.datasets.source import Entry
from datagen.errors import InvalidFile
from datagen.pictures.room import Room


class Counting:
    """Decodes entries to pixels of a size, and counts those that nobody has taken yet."""

    def __init__(self, sizes):
        self.sizes, self.held, self.most, self.lock = sizes, 0, 0, threading.Lock()

    def decode(self, entry):
        size = self.sizes[int(entry.name)]
        if size is None:
            return InvalidFile("broken")
        with self.lock:
            self.held += size
            self.most = max(self.most, self.held)
        return Ready(np.zeros((1, 1, size), np.uint8), frozenset())

    def run(self):
        entries = [Entry(str(number), "a", b"") for number in range(len(self.sizes))]
        taken = []
        with ThreadPoolExecutor(4) as pool:
            for entry, found in DecodeAhead(pool, self.decode).decoded(entries):
                taken.append((int(entry.name), getattr(found, "pixels", None)))
                if isinstance(found, Ready):
                    with self.lock:
                        self.held -= found.pixels.nbytes
        return taken


def test_entries_come_in_order_with_what_was_found():
    sizes = [None if number % 7 == 3 else number + 1 for number in range(500)]
    taken = Counting(sizes).run()
    assert [number for number, _ in taken] == list(range(500))
    assert [None if own is None else own.nbytes for _, own in taken] == sizes


@pytest.mark.parametrize("first", [1, 1000])
def test_large_pictures_do_not_wait_in_memory_by_the_hundred(first, monkeypatch):
    monkeypatch.setattr(decoding, "AHEAD_BYTES", 8000)
    monkeypatch.setattr(decoding, "_RUN_BYTES", 2000)
    counting = Counting([first, *[1000] * 300])
    counting.run()
    # A run ends with the picture that is too much; the runs before its size was known are few.
    assert counting.most <= 2 * (decoding.os.cpu_count() + 2) * 3000


class Visitors:
    """Threads that take room, each until it is asked to leave."""

    def __init__(self, room):
        self.room, self.inside, self.lock = room, set(), threading.Lock()
        self.leave = {}
        self.pool = ThreadPoolExecutor(8)

    def enter(self, size):
        self.leave[size] = threading.Event()
        self.pool.submit(self._stay, size)

    def _stay(self, size):
        with self.room.of(size):
            with self.lock:
                self.inside.add(size)
            self.leave[size].wait(30)
            with self.lock:
                self.inside.discard(size)

    def wait_for(self, *inside, waiting=0):
        """Wait until these are inside, and so many more stand before the door."""
        wait_until(
            lambda: self.inside == set(inside) and len(self.room._freed._waiters) == waiting, 30
        )

    def close(self):
        for event in self.leave.values():
            event.set()
        self.pool.shutdown()


def test_room_lets_in_what_fits_together_and_what_is_larger_than_all_of_it_alone():
    visitors = Visitors(Room(10))
    with closing(visitors):
        for size in (4, 5):
            visitors.enter(size)
        visitors.wait_for(4, 5)
        visitors.enter(6)
        visitors.wait_for(4, 5, waiting=1)
        visitors.leave[5].set()
        visitors.wait_for(4, 6)

        visitors.enter(50)
        visitors.wait_for(4, 6, waiting=1)
        visitors.leave[4].set()
        visitors.wait_for(6, waiting=1)
        visitors.leave[6].set()
        visitors.wait_for(50)
        visitors.enter(1)
        visitors.wait_for(50, waiting=1)
        visitors.leave[50].set()
        visitors.wait_for(1)
