from __future__ import annotations

import os
import shutil
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from kombu import Connection, Consumer, Queue
from kombu.transport import redis as kombu_redis
from redis import Redis
from redis.exceptions import ConnectionError as NoBroker

from datagen.embedded import programs, valkey
from datagen.embedded.children import Supervisor
from workers import transport


class Broker:
    """A Valkey server that is started and killed at will."""

    def __init__(self, state: Path) -> None:
        self._state = state
        self._lock = os.open(state / "lock", os.O_RDWR | os.O_CREAT)
        self._socket = valkey.socket_path(state)
        self.url = valkey.broker_url(self._socket)
        self._supervisor: Supervisor | None = None

    def start(self) -> None:
        program = programs.broker(self._state, self._socket, dict(os.environ), self._lock)
        self._supervisor = Supervisor([program], self._state, lambda _: None)
        self._supervisor.start()
        deadline = time.monotonic() + 30
        with Redis(unix_socket_path=str(self._socket)) as client:
            while True:
                try:
                    client.ping()
                except NoBroker:
                    assert time.monotonic() < deadline, "the broker does not answer"
                    time.sleep(0.02)
                else:
                    return

    def stop(self) -> None:
        if self._supervisor is not None:
            self._supervisor.stop()
            self._supervisor = None

    def close(self) -> None:
        self.stop()
        valkey.remove_socket_folder(self._state)
        os.close(self._lock)


@pytest.fixture
def broker() -> Iterator[Broker]:
    state = Path(tempfile.mkdtemp(prefix="datagen-transport-"))
    broker = Broker(state)
    broker.start()
    try:
        yield broker
    finally:
        broker.close()
        shutil.rmtree(state)


@pytest.fixture
def installed(monkeypatch: pytest.MonkeyPatch) -> None:
    # Put back afterwards: the patch is for worker processes.
    monkeypatch.setattr(kombu_redis.Channel, "QoS", kombu_redis.Channel.QoS)
    transport.install()


@pytest.mark.usefixtures("installed")
@pytest.mark.parametrize("answer", ["ack", "reject"])
def test_worker_whose_answer_was_lost_listens_again(broker: Broker, answer: str) -> None:
    received: list[Any] = []
    queue = Queue("work", routing_key="work")
    with Connection(broker.url) as connection:
        channel = connection.channel()
        consumer = Consumer(channel, [queue], callbacks=[lambda _, m: received.append(m)])
        consumer.qos(prefetch_count=1)
        consumer.consume()
        connection.Producer().publish({}, routing_key="work", declare=[queue])
        connection.drain_events(timeout=10)
        assert not channel.qos.can_consume()

        broker.stop()
        with pytest.raises(channel.connection_errors):
            getattr(received[0], answer)()
        assert channel.qos.can_consume()
        with pytest.raises(channel.connection_errors):
            connection.drain_events(timeout=10)
        # A worker that has seen this connects anew.
        broker.start()

    with Connection(broker.url) as connection:
        channel = connection.channel()
        consumer = Consumer(channel, [queue], callbacks=[lambda body, _: received.append(body)])
        consumer.consume()
        connection.Producer().publish({"second": True}, routing_key="work")
        connection.drain_events(timeout=10)
    assert received[-1] == {"second": True}


@pytest.mark.usefixtures("installed")
@pytest.mark.parametrize("rubbish", ["not JSON", "[1]", "[1, 2, 3]", '["a", "b", "c"]', "{}"])
def test_unread_message_that_is_rubbish_is_dropped(broker: Broker, rubbish: str) -> None:
    with Connection(broker.url) as connection:
        channel = connection.channel()
        client, qos = channel.client, channel.qos
        client.zadd(qos.unacked_index_key, {"tag": 1.0})
        client.hset(qos.unacked_key, "tag", rubbish)

        qos.restore_visible(num=10)

        assert client.zcard(qos.unacked_index_key) == 0
        assert client.hlen(qos.unacked_key) == 0


def test_workers_use_it() -> None:
    from datagen.settings import Settings  # noqa: PLC0415
    from workers.app import make_app  # noqa: PLC0415

    before = kombu_redis.Channel.QoS
    try:
        make_app(Settings(broker_url="redis://127.0.0.1:1/0"))
        assert kombu_redis.Channel.QoS is transport.ForgettingQoS
    finally:
        kombu_redis.Channel.QoS = before


def test_previews_are_looked_into_before_all_else_and_the_others_in_turn() -> None:
    order = transport.QuickFirst()
    order.update(["bulk", "interactive", "preview", "quick", "train"])
    assert order.consume(5) == ["preview", "quick", "bulk", "interactive", "train"]
    order.rotate("bulk")
    order.rotate("preview")
    assert order.consume(5) == ["preview", "quick", "interactive", "train", "bulk"]
    order.update(["control"])
    assert order.consume(1) == ["control"]
