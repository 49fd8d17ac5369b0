from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest

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


def test_room_lets_in_what_fits_and_one_that_never_does():
    room, inside, most, lock = Room(10), 0, 0, threading.Lock()

    def enter(size):
        nonlocal inside, most
        with room.of(size):
            with lock:
                inside += size
                most = max(most, inside)
            with lock:
                inside -= size

    with ThreadPoolExecutor(8) as pool:
        list(pool.map(enter, [4, 5, 6, 50] * 50))
    assert most <= 50
