"""Long work ends its slice early where somebody waits."""

from __future__ import annotations

import pytest

from datagen.queue import RUN_BATCH, RUN_PREVIEW, MemoryQueue, Message
from datagen.work import giving_way
from datagen.work.giving_way import GivingWay


@pytest.fixture
def queue(monkeypatch: pytest.MonkeyPatch) -> MemoryQueue:
    monkeypatch.setattr(giving_way, "LEAST_SECONDS", 0.0)
    monkeypatch.setattr(giving_way, "TIMES_THE_BEGINNING", 0.0)
    monkeypatch.setattr(giving_way, "LOOK_SECONDS", 0.0)
    return MemoryQueue()


def begun(queue: MemoryQueue) -> GivingWay:
    gives_way = GivingWay(queue)
    gives_way.begin()
    return gives_way


@pytest.mark.parametrize(
    "message",
    [
        Message(RUN_PREVIEW),
        Message(RUN_BATCH, urgent=True),
        Message(RUN_BATCH, urgent=True, quick=True),
    ],
)
def test_slice_gives_way_to_what_somebody_waits_for(queue: MemoryQueue, message: Message) -> None:
    gives_way = begun(queue)
    assert not any(gives_way.should_yield() for _ in range(5))
    queue.send([message])
    assert [gives_way.should_yield() for _ in range(giving_way.LOOKS)][-1]
    assert gives_way.should_yield_at_once()


def test_what_another_worker_takes_at_once_is_no_reason(queue: MemoryQueue) -> None:
    gives_way = begun(queue)
    for _ in range(5):
        queue.send([Message(RUN_PREVIEW)])
        assert not gives_way.should_yield()
        queue.waiting.clear()
        assert not gives_way.should_yield()


def test_batches_in_bulk_end_no_slice(queue: MemoryQueue) -> None:
    gives_way = begun(queue)
    queue.send([Message(RUN_BATCH)])
    assert not any(gives_way.should_yield() for _ in range(5))


def test_slice_lasts_a_while_however_many_wait(
    queue: MemoryQueue, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(giving_way, "LEAST_SECONDS", 3600.0)
    gives_way = begun(queue)
    queue.send([Message(RUN_PREVIEW)])
    assert not any(gives_way.should_yield() for _ in range(5))
    assert not gives_way.should_yield_at_once()


def test_slice_that_has_not_begun_ends_for_nobody(queue: MemoryQueue) -> None:
    gives_way = GivingWay(queue)
    queue.send([Message(RUN_PREVIEW)])
    assert not any(gives_way.should_yield() for _ in range(5))
    assert not gives_way.should_yield_at_once()
