from __future__ import annotations

import base64
import json
import os
import shutil
import signal
import tempfile
import threading
import time
from pathlib import Path

import pytest
from redis import Redis
from redis.exceptions import ConnectionError as NoBroker

from datagen import queue
from datagen.embedded import programs, valkey
from datagen.embedded.children import Supervisor
from datagen.errors import QueueUnavailable
from datagen.queue import (
    MAKE_BATCHES,
    QUEUE_OF,
    RUN_BATCH,
    RUN_EXPORT,
    CeleryQueue,
    MemoryQueue,
    Message,
    queue_lengths,
)

ALL_TASKS = [
    getattr(queue, name)
    for name in (
        "RUN_BATCH",
        "RUN_EXPORT",
        "REPAIR_BATCH",
        "RUN_TRAINING",
        "RUN_FIGURES",
        "RUN_REPORT",
        "RUN_PREVIEW",
        "SETTLE_JOB",
        "REMOVE_JOBS",
        "DELIVER",
        "RUN_DUE_PIPELINES",
        "ADVANCE_RUN",
        "RUN_STEP",
        "MAKE_BATCHES",
        "REQUEUE_STALE",
        "SWEEP_STORAGE",
    )
]


class Broker:
    """A Valkey server, and what lies in it."""

    def __init__(self, state: Path) -> None:
        self.socket = valkey.socket_path(state)
        self.url = valkey.broker_url(self.socket)
        self.lock = os.open(state / "lock", os.O_RDWR | os.O_CREAT)
        program = programs.broker(state, self.socket, dict(os.environ), self.lock)
        self.supervisor = Supervisor([program], state, lambda _: None)
        self.client = Redis(unix_socket_path=str(self.socket))

    def wait(self) -> None:
        deadline = time.monotonic() + 30
        while True:
            try:
                self.client.ping()
            except NoBroker:
                assert time.monotonic() < deadline, "the broker does not answer"
                time.sleep(0.02)
            else:
                return

    @property
    def pid(self) -> int | None:
        return self.supervisor.children[0].pid

    def signal(self, number: int) -> None:
        assert self.pid is not None
        os.kill(self.pid, number)

    def restart(self) -> None:
        killed = self.pid
        self.signal(signal.SIGKILL)
        deadline = time.monotonic() + 30
        while self.pid in {killed, None}:
            assert time.monotonic() < deadline, "the broker was not started again"
            time.sleep(0.02)
        self.wait()

    def waiting(self, name: str) -> list[Message]:
        """What Celery's workers would receive from a queue, oldest first."""
        envelopes = [json.loads(each) for each in reversed(self.client.lrange(name, 0, -1))]
        assert all(each["content-type"] == "application/json" for each in envelopes)
        bodies = [json.loads(base64.b64decode(each["body"])) for each in envelopes]
        assert all(body[0] == [] for body in bodies)
        return [
            Message(each["headers"]["task"], body[1])
            for each, body in zip(envelopes, bodies, strict=True)
        ]


@pytest.fixture(scope="module")
def server():
    """One Valkey server for the tests of this file."""
    state = Path(tempfile.mkdtemp(prefix="datagen-queue-"))
    broker = Broker(state)
    broker.supervisor.start()
    try:
        broker.wait()
        yield broker
    finally:
        broker.client.close()
        broker.supervisor.stop()
        valkey.remove_socket_folder(state)
        os.close(broker.lock)
        shutil.rmtree(state)


@pytest.fixture
def broker(server):
    """The server, with nothing in it."""
    server.client.flushall()
    return server


@pytest.fixture(params=["memory", "celery"])
def sent(request):
    """Both kinds of queue: what sends, and what then waits in the queue of a name."""
    if request.param == "memory":
        memory = MemoryQueue()
        return memory, lambda name: [each for each in memory.waiting if each.queue == name]
    broker = request.getfixturevalue("broker")
    return CeleryQueue(broker.url), broker.waiting


def test_messages_wait_in_the_order_in_which_they_were_sent(sent):
    sender, waiting = sent
    messages = [Message(RUN_BATCH, {"batch_id": str(number)}) for number in range(20)]

    sender.send(messages[:12])
    sender.send(iter(messages[12:]))

    assert waiting(queue.BULK) == messages


def test_every_task_waits_in_its_own_queue(sent):
    sender, waiting = sent

    sender.send(Message(task) for task in ALL_TASKS)

    for name in set(QUEUE_OF.values()):
        assert [each.task for each in waiting(name)] == [
            task for task in ALL_TASKS if QUEUE_OF[task] == name
        ]


def test_what_somebody_waits_for_has_a_queue_of_its_own(sent):
    sender, waiting = sent

    sender.send([Message(RUN_BATCH, {"batch_id": "1"}, urgent=True)])

    assert [each.arguments for each in waiting(queue.INTERACTIVE)] == [{"batch_id": "1"}]
    assert waiting(queue.BULK) == []

    sender.send([Message(RUN_BATCH, {"batch_id": "2"}, urgent=True, quick=True)])

    assert [each.arguments for each in waiting(queue.QUICK)] == [{"batch_id": "2"}]


def test_broker_says_how_many_messages_wait_in_each_queue(broker):
    sender = CeleryQueue(broker.url)
    assert not sender.is_waited_for()
    sender.send([Message(RUN_BATCH, urgent=True), *[Message(RUN_BATCH)] * 3])

    found = queue_lengths(broker.url, (queue.INTERACTIVE, queue.BULK, queue.TRAIN), 5.0)

    assert found == {queue.INTERACTIVE: 1, queue.BULK: 3, queue.TRAIN: 0}
    assert sender.is_waited_for()


def test_broker_that_is_away_says_nothing_of_its_queues():
    away = "redis+socket:///nowhere/broker.sock"
    assert queue_lengths(away, (queue.BULK,), 5.0) == {}
    assert not CeleryQueue(away).is_waited_for()


def test_nothing_to_send_is_no_error(sent):
    sender, waiting = sent

    sender.send([])

    assert waiting(queue.BULK) == []


def test_every_task_has_a_queue_that_some_worker_serves():
    assert set(QUEUE_OF) == set(ALL_TASKS)
    served = {*queue.TORCH_QUEUES, *queue.LIGHT_QUEUES}
    assert {*QUEUE_OF.values(), queue.INTERACTIVE, queue.QUICK} == served


def test_no_task_may_run_half_as_long_as_a_dead_worker_keeps_its_message():
    assert queue.HARD_LIMIT_SECONDS < queue.VISIBILITY_SECONDS / 2


def test_stepping_runs_the_oldest_task_with_its_arguments():
    ran = []

    def run(batch_id):
        ran.append(batch_id)

    memory = MemoryQueue({RUN_BATCH: run})
    memory.send([Message(RUN_BATCH, {"batch_id": "1"}), Message(RUN_BATCH, {"batch_id": "2"})])

    assert memory.run_next() == Message(RUN_BATCH, {"batch_id": "1"})

    assert ran == ["1"]
    assert len(memory.waiting) == 1


def test_running_all_runs_what_tasks_send_too():
    ran = []

    def make():
        ran.append("make")
        memory.send([Message(RUN_EXPORT, {"export_id": "7"})])

    def write(export_id):
        ran.append(export_id)

    memory = MemoryQueue({MAKE_BATCHES: make, RUN_EXPORT: write})
    memory.send([Message(MAKE_BATCHES)])

    assert memory.run_all() == 2
    assert ran == ["make", "7"]
    with pytest.raises(IndexError):
        memory.run_next()


def test_broker_holds_the_messages_and_no_results(broker):
    CeleryQueue(broker.url).send([Message(MAKE_BATCHES)])

    names = {name.decode() for name in broker.client.keys("*")}
    assert {name for name in names if not name.startswith("_kombu.")} == {queue.CONTROL}


@pytest.mark.parametrize("url", ["redis+socket:///nowhere/x.sock", "redis://127.0.0.1:1/0"])
def test_absent_broker_is_an_error_and_does_not_hang(url):
    began = time.monotonic()

    with pytest.raises(QueueUnavailable, match="will be sent again"):
        CeleryQueue(url).send([Message(MAKE_BATCHES)])

    assert time.monotonic() - began < 10


def test_sender_goes_on_when_the_broker_is_back(broker):
    sender = CeleryQueue(broker.url)
    sender.send([Message(MAKE_BATCHES)])

    broker.restart()
    broker.client.flushall()
    sender.send([Message(RUN_BATCH, {"batch_id": "1"})])

    assert broker.waiting(queue.BULK) == [Message(RUN_BATCH, {"batch_id": "1"})]


def test_full_broker_is_an_error(broker):
    broker.client.config_set("maxmemory", "1mb")
    try:
        with pytest.raises(QueueUnavailable, match="maxmemory"):
            CeleryQueue(broker.url).send([Message(MAKE_BATCHES)])
    finally:
        broker.client.config_set("maxmemory", "0")


def test_more_senders_than_connections_to_a_hanging_broker_all_get_an_error(broker):
    sender = CeleryQueue(broker.url)
    outcomes = []

    def send():
        try:
            sender.send([Message(MAKE_BATCHES)])
        except QueueUnavailable:
            outcomes.append("told")

    senders = [threading.Thread(target=send) for _ in range(15)]
    broker.signal(signal.SIGSTOP)
    try:
        for each in senders:
            each.start()
        for each in senders:
            each.join(timeout=60)
    finally:
        broker.signal(signal.SIGCONT)

    assert outcomes == ["told"] * 15
