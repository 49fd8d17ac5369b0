from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from uuid import uuid4

import pytest
from celery import Celery
from redis import Redis
from redis.exceptions import ConnectionError as NoBroker
from starlette.testclient import TestClient

from datagen.api.app import create_app
from datagen.db.migrate import upgrade
from datagen.embedded import programs, valkey
from datagen.embedded.children import Supervisor
from datagen.queue import RUN_EXPORT, CeleryQueue, Message
from datagen.settings import Settings

Until = Callable[..., None]


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    home = tmp_path_factory.mktemp("workers")
    (home / "valkey").mkdir()
    upgrade(f"sqlite:///{home / 'datagen.db'}")
    return home


@pytest.fixture(scope="module")
def broker(home: Path, until: Until) -> Iterator[Redis]:
    """A Valkey server under supervision, and a client of it."""
    lock = os.open(home / "lock", os.O_RDWR | os.O_CREAT)
    socket = valkey.socket_path(home / "valkey")
    program = programs.broker(home / "valkey", socket, dict(os.environ), lock)
    supervisor = Supervisor([program], home, lambda _: None)
    supervisor.start()
    with Redis(unix_socket_path=str(socket)) as client:

        def answers() -> bool:
            try:
                return bool(client.ping())
            except NoBroker:
                return False

        until(answers)
        yield client
    supervisor.stop()
    valkey.remove_socket_folder(home / "valkey")
    os.close(lock)


@pytest.fixture(scope="module")
def url(broker: Redis) -> str:
    return f"redis+socket://{broker.connection_pool.connection_kwargs['path']}"


@pytest.fixture(scope="module")
def worker(home: Path, url: str, until: Until) -> Iterator[subprocess.Popen[bytes]]:
    """A worker for exports, ready."""
    log = home / "worker.log"
    with log.open("wb") as output:
        process = subprocess.Popen(
            [
                sys.executable,
                "-P",
                "-m",
                "workers",
                "worker",
                "--queues",
                "export",
                "--workers",
                "1",
            ],
            env=programs.environment(Settings(home=home, broker_url=url)),
            cwd=home,
            stdout=output,
            stderr=subprocess.STDOUT,
        )
    try:
        until(lambda: b"calling self.run()" in log.read_bytes(), 60.0)
        yield process
    finally:
        process.terminate()
        assert process.wait(30) == 0


@pytest.fixture
def said(home: Path, worker: subprocess.Popen[bytes]) -> Callable[[], str]:
    """What the worker has logged since the test began."""
    log = home / "worker.log"
    before = log.stat().st_size

    def since() -> str:
        return log.read_bytes()[before:].decode()

    return since


def test_forged_messages_are_refused_and_the_worker_lives(
    broker: Redis,
    url: str,
    worker: subprocess.Popen[bytes],
    said: Callable[[], str],
    until: Until,
) -> None:
    sender = Celery(broker=url, set_as_current=False)
    sender.send_task(RUN_EXPORT, kwargs={"export_id": "x"}, queue="export", serializer="pickle")
    sender.send_task("os.system", args=["true"], queue="export")
    sender.send_task(RUN_EXPORT, args=[1, 2, 3], queue="export")
    sender.send_task(RUN_EXPORT, kwargs={"export_id": {"$ne": None}}, queue="export")
    sender.close()
    until(lambda: "message_refused" in said())
    assert "Refusing to deserialize untrusted content of type pickle" in said()
    assert "Received unregistered task of type 'os.system'" in said()

    CeleryQueue(url).send([Message(RUN_EXPORT, {"export_id": str(uuid4()), "added_later": 1})])
    until(lambda: said().count("succeeded in") == 2)
    assert worker.poll() is None
    assert broker.llen("export") == 0


def test_message_is_acknowledged_when_its_task_has_ended(
    broker: Redis, url: str, said: Callable[[], str], until: Until
) -> None:
    CeleryQueue(url).send([Message(RUN_EXPORT, {"export_id": str(uuid4())})])
    until(lambda: "succeeded in" in said())
    until(lambda: broker.hlen("unacked") == 0)
    assert broker.llen("export") == 0


def test_messages_arrive_after_the_broker_has_forgotten_its_queues(
    broker: Redis, url: str, said: Callable[[], str], until: Until
) -> None:
    queue = CeleryQueue(url)
    queue.send([Message(RUN_EXPORT, {"export_id": str(uuid4())})])
    until(lambda: "succeeded in" in said())
    broker.flushall()
    queue.send([Message(RUN_EXPORT, {"export_id": str(uuid4())})])
    until(lambda: said().count("succeeded in") == 2)


def test_preview_is_503_at_once_where_only_light_workers_listen(
    home: Path, url: str, worker: subprocess.Popen[bytes]
) -> None:
    key = "dg_abcdefghijkl_" + "k" * 43
    settings = Settings(home=home, api_key=key, broker_url=url)  # type: ignore[arg-type]
    headers = {"Authorization": f"Bearer {key}"}
    with TestClient(create_app(settings), base_url="http://127.0.0.1", headers=headers) as client:
        answer = client.post("/v1/models/mnist/preview", json={"all": 1})
    assert worker.poll() is None
    assert answer.status_code == 503
    assert "No worker that makes images listens" in answer.json()["detail"]
