"""Readings: whose turn it is, and when a reader is ended."""

from __future__ import annotations

import threading
import time
from uuid import UUID

import anyio
import pytest
from starlette.requests import ClientDisconnect, Request

from datagen.api.reading import Readings
from datagen.errors import InvalidFile
from datagen.settings import Settings

ONE, OTHER = UUID(int=1), UUID(int=2)


def request(*, gone=False):
    """A request whose body has come, and whose client is there or has gone away."""

    async def receive():
        if not gone:
            await anyio.sleep_forever()
        return {"type": "http.disconnect"}

    return Request({"type": "http", "headers": []}, receive)


async def begun(event):
    """Wait for what a thread says."""
    with anyio.fail_after(30):
        while not event.is_set():
            await anyio.sleep(0.001)


def test_answer_and_error_of_the_work_are_those_of_the_reading():
    readings = Readings(Settings())

    def fail(reader):
        raise InvalidFile("broken")

    assert anyio.run(readings.read, request(), ONE, lambda _: 7) == 7
    with pytest.raises(InvalidFile, match="broken"):
        anyio.run(readings.read, request(), ONE, fail)


def test_reader_is_ended_when_the_client_goes_away():
    def work(reader):
        deadline = time.monotonic() + 30
        while time.monotonic() < deadline:
            reader.check()

    with pytest.raises(ClientDisconnect):
        anyio.run(Readings(Settings()).read, request(gone=True), ONE, work)


@pytest.mark.parametrize(("readers", "at_once"), [(1, 1), (2, 1), (3, 2)])
def test_one_owner_leaves_a_place_for_others(readers, at_once):
    lock, counts = threading.Lock(), {"now": 0, "most": 0}
    started, release = threading.Event(), threading.Event()

    def work(reader):
        with lock:
            counts["now"] += 1
            counts["most"] = max(counts["most"], counts["now"])
            if counts["now"] == at_once:
                started.set()
        release.wait(30)
        with lock:
            counts["now"] -= 1

    async def run():
        readings = Readings(Settings(readers=readers))
        async with anyio.create_task_group() as tasks:
            for _ in range(5):
                tasks.start_soon(readings.read, request(), ONE, work)
            await begun(started)
            if readers > 1:
                with anyio.fail_after(30):
                    assert await readings.read(request(), OTHER, lambda _: 3) == 3
            release.set()

    anyio.run(run)
    assert counts["most"] == at_once
