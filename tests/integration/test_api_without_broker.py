"""The API keeps its word while the broker is away, refuses, or hangs."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from starlette.testclient import TestClient

from datagen.api.app import create_app
from datagen.db.migrate import upgrade
from datagen.settings import Settings

KEY = "dg_abcdefghijkl_" + "k" * 43


@pytest.fixture(params=["away", "hanging"])
def broker_url(request: pytest.FixtureRequest) -> Iterator[str]:
    """A port that nobody listens on, or one that takes connections and never answers."""
    if request.param == "hanging":
        with socket.create_server(("127.0.0.1", 0)) as silent:
            yield f"redis://127.0.0.1:{silent.getsockname()[1]}/0"
        return
    with socket.socket() as bound:
        bound.bind(("127.0.0.1", 0))
        yield f"redis://127.0.0.1:{bound.getsockname()[1]}/0"


@pytest.fixture
def client(broker_url: str, tmp_path: Path) -> Iterator[TestClient]:
    settings = Settings(
        home=tmp_path,
        api_key=KEY,  # type: ignore[arg-type] # pydantic makes the secret of it
        broker_url=broker_url,
        database_url=None,
        storage_url=None,
    )
    upgrade(settings.database)
    headers = {"Authorization": f"Bearer {KEY}"}
    with TestClient(create_app(settings), base_url="http://127.0.0.1", headers=headers) as client:
        yield client


def test_jobs_are_accepted_read_and_cancelled_all_the_same(client: TestClient) -> None:
    wanted = {"model": "mnist", "all": 3}
    made: list[Any] = [client.post("/v1/jobs", json=wanted) for _ in range(3)]
    assert [answer.status_code for answer in made] == [202, 202, 202]
    job = f"/v1/jobs/{made[0].json()['id']}"
    assert client.get(job).json()["state"] == "queued"
    assert len(client.get("/v1/jobs").json()["items"]) == 3
    assert client.post(f"{job}/cancel").json()["state"] == "cancelled"


def test_readiness_names_the_broker_and_only_it(client: TestClient) -> None:
    found = client.get("/readyz")
    assert found.status_code == 503
    parts = found.json()["parts"]
    assert [part for part, state in parts.items() if state != "ok"] == ["broker"]
    assert "127.0.0.1" not in parts["broker"]


def test_preview_that_nobody_could_make_is_503(client: TestClient) -> None:
    answer = client.post("/v1/models/mnist/preview", json={"all": 1})
    assert answer.status_code == 503
    assert answer.json()["type"] == "urn:datagen:problem:queue-unavailable"
    assert answer.headers["retry-after"]
