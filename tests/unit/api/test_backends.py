from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from datagen.api.backends import Backends
from datagen.errors import QueueUnavailable
from datagen.queue import MAKE_BATCHES, MemoryQueue, Message
from datagen.settings import Settings

MESSAGE = Message(MAKE_BATCHES)


class AwayQueue:
    def __init__(self) -> None:
        self.tries = 0

    def send(self, messages: Iterable[Message]) -> None:
        self.tries += 1
        raise QueueUnavailable(f"The broker did not take {len(list(messages))} messages.")


def test_messages_reach_the_queue(tmp_path: Path) -> None:
    queue = MemoryQueue()
    Backends(Settings(home=tmp_path), queue).send([MESSAGE, MESSAGE])
    assert list(queue.waiting) == [MESSAGE, MESSAGE]


def test_broker_that_is_away_is_no_error_and_not_asked_at_once_again(tmp_path: Path) -> None:
    queue = AwayQueue()
    backends = Backends(Settings(home=tmp_path), queue)
    backends.send([MESSAGE])
    backends.send([MESSAGE])
    assert queue.tries == 1


def test_without_a_broker_nothing_is_sent_and_nothing_fails(tmp_path: Path) -> None:
    Backends(Settings(home=tmp_path, broker_url=None)).send([MESSAGE])
