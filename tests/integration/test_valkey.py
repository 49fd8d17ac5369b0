from __future__ import annotations

import os
import stat
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from types import SimpleNamespace
from typing import cast

import psutil
import pytest
from redis import Redis
from redis.exceptions import ConnectionError as NoBroker

from datagen.api.backends import Backends
from datagen.api.readiness import PARTS
from datagen.embedded import programs, valkey
from datagen.embedded.children import Child, Supervisor
from datagen.errors import Unavailable
from datagen.settings import Settings

Until = Callable[..., None]


@contextmanager
def broker(state: Path) -> Iterator[tuple[Child, Redis]]:
    """A Valkey server under supervision, and a client of it."""
    state.mkdir(exist_ok=True)
    socket = valkey.socket_path(state)
    lock = os.open(state / "lock", os.O_RDWR | os.O_CREAT)
    program = programs.broker(state, socket, dict(os.environ), lock)
    supervisor = Supervisor([program], state, lambda _: None)
    supervisor.start()
    try:
        with Redis(unix_socket_path=str(socket)) as client:
            yield supervisor.children[0], client
    finally:
        supervisor.stop()
        valkey.remove_socket_folder(state)
        os.close(lock)


def answers(client: Redis) -> bool:
    try:
        return bool(client.ping())
    except NoBroker:
        return False


def test_listens_on_a_private_socket_and_on_no_port(tmp_path: Path, until: Until) -> None:
    with broker(tmp_path) as (child, client):
        until(lambda: answers(client))
        mode = stat.S_IMODE((tmp_path / "valkey.sock").stat().st_mode)
        assert mode == 0o700
        assert psutil.Process(child.pid).net_connections(kind="inet") == []


def test_keeps_every_message_and_evicts_none(tmp_path: Path, until: Until) -> None:
    with broker(tmp_path) as (_, client):
        until(lambda: answers(client))
        wanted = {
            "appendonly": "yes",
            "appendfsync": "everysec",
            "maxmemory-policy": "noeviction",
            "save": "",
        }
        assert {name: client.config_get(name)[name] for name in wanted} == wanted


def test_messages_outlive_a_killed_server(tmp_path: Path, until: Until) -> None:
    with broker(tmp_path) as (child, client):
        until(lambda: answers(client))
        client.lpush("bulk", "message")
        assert child.pid is not None
        os.kill(child.pid, 9)
        until(lambda: answers(client))
        assert client.lrange("bulk", 0, -1) == [b"message"]


def test_server_whose_messages_cannot_be_read_starts_without_them(
    tmp_path: Path, until: Until
) -> None:
    with broker(tmp_path) as (_, client):
        until(lambda: answers(client))
        client.lpush("bulk", "message")
    written = next((tmp_path / "appendonlydir").glob("*.incr.aof"))
    written.write_bytes(b"this is no log of messages\r\n" + written.read_bytes())
    with broker(tmp_path) as (_, client):
        until(lambda: answers(client))
        assert client.llen("bulk") == 0
        assert (tmp_path / "appendonlydir.damaged").is_dir()


@pytest.mark.parametrize("name", ["x" * 150, "with a space and 50%"])
def test_serves_a_folder_whose_path_no_socket_can_have(
    tmp_path: Path, until: Until, name: str
) -> None:
    with broker(tmp_path / name) as (_, client):
        until(lambda: answers(client))
        client.lpush("bulk", "message")
    assert (tmp_path / name / "appendonlydir").is_dir()


@pytest.mark.parametrize(
    "refusal", [{"maxmemory": 1}, {"min-replicas-to-write": 1}], ids=["full", "no replicas"]
)
def test_readiness_says_that_the_broker_refuses_writes(
    tmp_path: Path, until: Until, refusal: dict[str, int]
) -> None:
    with broker(tmp_path) as (_, client):
        until(lambda: answers(client))
        url = f"redis+socket://{valkey.socket_path(tmp_path)}"
        backends = cast("Backends", SimpleNamespace(settings=Settings(broker_url=url)))
        PARTS["broker"](backends)
        assert client.keys("datagen:ready:*") == []
        for name, value in refusal.items():
            client.config_set(name, value)

        with pytest.raises(Unavailable, match="refuses writes"):
            PARTS["broker"](backends)
        assert answers(client)
