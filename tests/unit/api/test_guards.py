from __future__ import annotations

import json
import logging
from collections.abc import Iterator

import pytest
from fastapi import FastAPI, Request
from prometheus_client import CollectorRegistry
from starlette.testclient import TestClient

from datagen.api.errors import install_error_answers
from datagen.api.guards import BodyLimit, HostGuard, RequestLog
from datagen.api.logs import configure_logs
from datagen.api.metrics import Requests

LIMIT = 1000


def make_app(*, extra_hosts: frozenset[str] = frozenset()) -> FastAPI:
    app = FastAPI()
    install_error_answers(app)

    @app.post("/size")
    async def size(request: Request) -> int:
        return len(await request.body())

    @app.get("/broken")
    def broken() -> None:
        raise ZeroDivisionError("the secret is 42")

    app.add_middleware(BodyLimit, limit_of=lambda _: LIMIT)
    app.add_middleware(HostGuard, extra_hosts=extra_hosts)
    app.add_middleware(RequestLog, requests=Requests(CollectorRegistry()))
    return app


@pytest.fixture
def client() -> Iterator[TestClient]:
    with TestClient(make_app(), base_url="http://127.0.0.1:8000") as client:
        yield client


def chunks(count: int) -> Iterator[bytes]:
    for _ in range(count):
        yield b"x" * 100


def test_body_at_the_limit_passes(client: TestClient) -> None:
    assert client.post("/size", content=b"x" * LIMIT).json() == LIMIT


def test_announced_body_beyond_the_limit_is_413(client: TestClient) -> None:
    answer = client.post("/size", content=b"x" * (LIMIT + 1))
    assert answer.status_code == 413
    assert answer.json()["type"] == "urn:datagen:problem:too-large"
    assert "1,000 bytes" in answer.json()["detail"]


def test_body_without_a_length_is_stopped_where_it_passes_the_limit(client: TestClient) -> None:
    taken = 0

    def endless() -> Iterator[bytes]:
        nonlocal taken
        while taken < 1000:
            taken += 1
            yield b"x" * 100

    assert client.post("/size", content=endless()).status_code == 413


def test_body_in_chunks_below_the_limit_passes(client: TestClient) -> None:
    assert client.post("/size", content=chunks(10)).json() == LIMIT


@pytest.mark.parametrize("host", ["evil.example", "127.0.0.1.evil.example", "", "[", "a:b:c"])
def test_foreign_host_is_400(client: TestClient, host: str) -> None:
    answer = client.post("/size", headers={"Host": host})
    assert answer.status_code == 400
    assert answer.headers["content-type"] == "application/problem+json"


@pytest.mark.parametrize("host", ["localhost", "LOCALHOST:1", "127.0.0.1:9", "[::1]:8000"])
def test_hosts_of_this_machine_pass(client: TestClient, host: str) -> None:
    assert client.post("/size", headers={"Host": host}).status_code == 200


def test_host_that_was_named_passes() -> None:
    app = make_app(extra_hosts=frozenset({"datagen.example"}))
    assert TestClient(app, base_url="http://datagen.example").post("/size").status_code == 200


def test_unforeseen_error_is_500_without_its_text(client: TestClient) -> None:
    answer = client.get("/broken")
    assert answer.status_code == 500
    assert answer.headers["content-type"] == "application/problem+json"
    assert "42" not in answer.text
    assert "Traceback" not in answer.text


def test_request_id_is_answered_and_a_bad_one_replaced(client: TestClient) -> None:
    kept = client.post("/size", headers={"X-Request-Id": "abc-1"}).headers["x-request-id"]
    assert kept == "abc-1"
    replaced = client.post("/size", headers={"X-Request-Id": "a b\t"}).headers["x-request-id"]
    assert len(replaced) == 32


@pytest.fixture
def json_logs() -> Iterator[None]:
    root = logging.getLogger()
    handlers, level = root.handlers[:], root.level
    configure_logs()
    yield
    root.handlers[:] = handlers
    root.setLevel(level)


@pytest.mark.usefixtures("json_logs")
def test_log_is_json_with_the_request_id_and_without_keys(
    capsys: pytest.CaptureFixture[str],
) -> None:
    configure_logs()
    client = TestClient(make_app(), base_url="http://127.0.0.1")
    key = "dg_abc123_0123456789abcdefghijklmnopqrstuvwxyz-_"
    client.get("/broken", headers={"Authorization": f"Bearer {key}", "X-Request-Id": "here"})
    logging.getLogger("elsewhere").warning("key %s at redis://me:secret@host/0", key)
    captured = capsys.readouterr()
    lines = [json.loads(line) for line in captured.err.splitlines()]
    assert captured.out == ""
    request = next(line for line in lines if line["event"] == "request")
    assert request["request_id"] == "here"
    assert request["status"] == 500
    assert "ZeroDivisionError" in captured.err
    assert key not in captured.err
    assert "secret@" not in captured.err
