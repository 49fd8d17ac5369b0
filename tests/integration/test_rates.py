"""Limits of requests, counted in a real Valkey; and while it is away."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest
from starlette.testclient import TestClient

from datagen.api.app import create_app
from datagen.db.migrate import upgrade
from datagen.db.session import open_engine, writing
from datagen.embedded import programs, valkey
from datagen.embedded.children import Supervisor
from datagen.service import keys
from datagen.settings import Settings

KEY = "dg_abcdefghijkl_" + "k" * 43


@pytest.fixture(scope="module")
def broker_url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    home = tmp_path_factory.mktemp("rates")
    (home / "valkey").mkdir()
    lock = os.open(home / "lock", os.O_RDWR | os.O_CREAT)
    socket = valkey.socket_path(home / "valkey")
    program = programs.broker(home / "valkey", socket, dict(os.environ), lock)
    supervisor = Supervisor([program], home, lambda _: None)
    supervisor.start()
    yield f"redis+socket://{socket}"
    supervisor.stop()
    valkey.remove_socket_folder(home / "valkey")
    os.close(lock)


def client(home: Path, broker_url: str, limit: str | None) -> TestClient:
    settings = Settings(home=home, api_key=KEY, broker_url=broker_url, rate_limit=limit)  # type: ignore[arg-type]
    upgrade(settings.database)
    headers = {"Authorization": f"Bearer {KEY}"}
    return TestClient(create_app(settings), base_url="http://127.0.0.1", headers=headers)


def test_requests_beyond_the_limit_are_429_and_say_how_long_to_wait(
    tmp_path: Path, broker_url: str
) -> None:
    with client(tmp_path, broker_url, "5/hour") as http:
        answers = [http.get("/v1/me") for _ in range(7)]
    assert [answer.status_code for answer in answers] == [200] * 5 + [429] * 2
    assert [answer.headers["ratelimit-remaining"] for answer in answers[:5]] == list("43210")
    assert {answer.headers["ratelimit-limit"] for answer in answers} == {"5"}
    refused = answers[-1]
    assert refused.headers["content-type"] == "application/problem+json"
    assert refused.json()["type"] == "urn:datagen:problem:too-many-requests"
    assert 0 < int(refused.headers["retry-after"]) <= 7200
    assert refused.headers["retry-after"] == refused.headers["ratelimit-reset"]


def test_each_key_has_a_limit_of_its_own(tmp_path: Path, broker_url: str) -> None:
    with client(tmp_path, broker_url, "2/hour") as http:
        engine = open_engine(f"sqlite:///{tmp_path / 'datagen.db'}")
        with writing(engine) as session:
            other = keys.create_key(session, "other", ["read"])
        engine.dispose()
        for key in (KEY, other):
            # The first key has used up what it had in the test before, if the order is this one.
            statuses = {
                http.get("/v1/me", headers={"Authorization": f"Bearer {key}"}).status_code
                for _ in range(3)
            }
            assert 429 in statuses
        assert http.get("/healthz").status_code == 200


def test_no_limit_is_told_where_none_is_set(tmp_path: Path, broker_url: str) -> None:
    with client(tmp_path, broker_url, None) as http:
        assert "ratelimit-limit" not in http.get("/v1/me").headers


def test_nobody_is_refused_while_the_broker_is_away(tmp_path: Path) -> None:
    with client(tmp_path, f"redis+socket://{tmp_path / 'nothing.sock'}", "1/day") as http:
        assert [http.get("/v1/me").status_code for _ in range(3)] == [200] * 3
