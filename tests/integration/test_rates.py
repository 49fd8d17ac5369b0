"""Limits of requests, counted in a real Valkey; and while it is away."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from starlette.testclient import TestClient

from datagen.api.app import create_app
from datagen.api.rates import network_of
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


def test_repeated_and_refused_requests_count(tmp_path: Path, broker_url: str) -> None:
    with client(tmp_path, broker_url, "6/hour") as http:
        made = http.post("/v1/keys", json={"owner": "other", "scopes": ["write"]}).json()["key"]
        headers = {"Authorization": f"Bearer {made}", "Idempotency-Key": "k"}
        job = {"model": "mnist", "all": 1}
        answers = [
            http.post("/v1/jobs", json=job, headers=headers),
            http.post("/v1/jobs", json=job, headers=headers),
            http.post("/v1/jobs", json=job | {"seed": 1}, headers=headers),
            http.post("/v1/keys", json={"owner": "x"}, headers=headers),
            http.post("/v1/jobs", content=b"no JSON", headers=headers),
            http.post("/v1/jobs", json={}, headers=headers),
            http.post("/v1/jobs", json=job, headers=headers),
        ]
    assert [one.status_code for one in answers] == [202, 202, 422, 403, 422, 422, 429]
    assert answers[1].headers["idempotency-replayed"] == "true"
    assert [one.headers["ratelimit-remaining"] for one in answers] == list("5432100")


def test_wrong_keys_are_limited_by_address_and_valid_ones_still_open(
    tmp_path: Path, broker_url: str
) -> None:
    with client(tmp_path, broker_url, None) as http:
        assert http.get("/v1/me").status_code == 200
        other = http.post("/v1/keys", json={"owner": "other"}).json()["key"]

        def ask(key: str) -> Any:
            return http.get("/v1/me", headers={"Authorization": f"Bearer {key}"})

        # The same wrong key again and again is no guessing.
        assert {ask("dg_a_" + "x" * 43).status_code for _ in range(50)} == {401}
        wrong = [ask(f"dg_a_{number:043}") for number in range(40)]
        refused = [answer for answer in wrong if answer.status_code == 429]
        assert [answer.status_code for answer in wrong[:29]] == [401] * 29
        assert len(refused) == 11
        assert 0 < int(refused[0].headers["retry-after"]) <= 120
        assert "wrong keys came from your address" in refused[0].json()["detail"]
        site = {"Sec-Fetch-Site": "same-origin"}
        wrong_again = http.post("/sign-in", data={"key": "dg_a_" + "y" * 43}, headers=site)
        assert wrong_again.status_code == 429
        # Nobody is locked out by a neighbour.
        assert ask(other).status_code == 200
        answer = http.post("/sign-in", data={"key": other}, headers=site, follow_redirects=False)
        assert answer.status_code == 303


@pytest.mark.parametrize(
    ("address", "counted"),
    [
        ("192.0.2.7", "192.0.2.7"),
        ("2001:db8:1:2:3:4:5:6", "2001:db8:1:2::/64"),
        ("fe80::1%eth0", "fe80::/64"),
        ("testclient", "testclient"),
    ],
)
def test_address_of_ipv6_is_counted_with_its_network(address: str, counted: str) -> None:
    assert network_of(address) == counted


def test_no_limit_is_shown_where_none_is_set(tmp_path: Path, broker_url: str) -> None:
    with client(tmp_path, broker_url, None) as http:
        assert "ratelimit-limit" not in http.get("/v1/me").headers


def test_nobody_is_refused_while_the_broker_is_away(tmp_path: Path) -> None:
    with client(tmp_path, f"redis+socket://{tmp_path / 'nothing.sock'}", "1/day") as http:
        assert [http.get("/v1/me").status_code for _ in range(3)] == [200] * 3
