"""Every route over HTTP, with messages kept in memory: what waits here waits for ever."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

import pytest
from sqlalchemy import Engine, update
from starlette.testclient import TestClient

from datagen.api.app import create_app
from datagen.db.session import writing
from datagen.db.tables import ApiKey, Job, JobLabel
from datagen.queue import MemoryQueue
from datagen.service import keys
from datagen.settings import Settings

ANY_ID = "00000000-0000-7000-8000-000000000000"


class Api:
    """A client for the application, with keys of every kind."""

    def __init__(self, client: TestClient, queue: MemoryQueue, engine: Engine) -> None:
        self.client, self.queue, self.engine = client, queue, engine
        self.key = self.new_key("me", "admin")

    def new_key(self, owner: str, *scopes: str, expires_at: datetime | None = None) -> str:
        with writing(self.engine) as session:
            return keys.create_key(session, owner, scopes, expires_at=expires_at)

    def __call__(self, method: str, path: str, *, key: str | None = None, **more: Any) -> Any:
        headers = {"Authorization": f"Bearer {key or self.key}"}
        return self.client.request(method, path, headers=headers, **more)

    def job(self, **wanted: Any) -> Any:
        answer = self("POST", "/v1/jobs", json={"model": "mnist", "all": 1, **wanted})
        assert answer.status_code == 202, answer.text
        return answer.json()

    def routes(self) -> list[tuple[str, str]]:
        """Method and path of every route under /v1, with ids that nobody has."""
        found = []
        for template, methods in self.client.get("/openapi.json").json()["paths"].items():
            if template.startswith("/v1"):
                path = template.replace("{index}", "0").replace("{reference}", "nobodys")
                path = path.replace("{job_id}", ANY_ID).replace("{export_id}", ANY_ID)
                path = path.replace("{name}", "loss.png").replace("{kind}", "png")
                found += [(method.upper(), path) for method in methods]
        return found


@pytest.fixture
def api(settings: Settings, engine: Engine) -> Iterator[Api]:
    queue = MemoryQueue()
    app = create_app(settings, queue=queue)
    with TestClient(app, base_url="http://127.0.0.1") as client:
        yield Api(client, queue, engine)


def bodies(path: str) -> dict[str, Any]:
    """A body that each route can read, so that the key alone decides."""
    known: dict[str, dict[str, Any]] = {
        "/v1/jobs": {"json": {"model": "mnist", "all": 1}},
        "/v1/exports": {"json": {"job": ANY_ID, "format": "parquet"}},
        "/v1/models": {"json": {"name": "m", "dataset": "d"}},
        "/v1/datasets": {"params": {"name": "d"}, "content": b"tar"},
        "/v1/keys": {"json": {"owner": "o"}},
        "/v1/webhooks": {"json": {"url": "https://h.example/"}},
        "extend": {"json": {"all": 1}},
        "rotate": {"json": {}},
        "preview": {"json": {"all": 1}},
        "decode": {"json": {"latents": [[0.0]], "labels": ["0"]}},
    }
    return known.get(path) or known.get(path.rpartition("/")[2], {})


def test_keys_that_do_not_open_are_401_on_every_route(api: Api) -> None:
    past = datetime.now(UTC) - timedelta(days=1)
    revoked = api.new_key("me", "admin")
    with writing(api.engine) as session:
        session.execute(
            update(ApiKey).where(ApiKey.id == revoked.split("_")[1]).values(revoked_at=past)
        )
    wrong = {
        "made up": "dg_abcdefghijkl_" + "x" * 43,
        "another secret": api.key[:-4] + "aaaa",
        "expired": api.new_key("me", "admin", expires_at=past),
        "revoked": revoked,
        "no key at all": "nonsense",
    }
    routes = api.routes()
    assert len(routes) >= 18
    for method, path in routes:
        body = bodies(path) if method == "POST" else {}
        assert api.client.request(method, path, **body).status_code == 401, (method, path)
        for kind, key in wrong.items():
            answer = api(method, path, key=key, **body)
            assert answer.status_code == 401, (kind, method, path)
            assert key not in answer.text


def test_key_to_read_does_not_write(api: Api) -> None:
    reader = api.new_key("me", "read")
    for method, path in api.routes():
        body = bodies(path) if method == "POST" else {}
        status = api(method, path, key=reader, **body).status_code
        looks = path.endswith(("/preview", "/decode"))
        beyond = (method in {"POST", "DELETE"} and not looks) or path.startswith("/v1/keys")
        assert (status == 403) == beyond, (method, path, status)


def test_key_to_write_makes_no_keys(api: Api) -> None:
    writer = api.new_key("me", "write")
    for method, path in api.routes():
        if path.startswith("/v1/keys"):
            answer = api(method, path, key=writer, **bodies(path))
            assert answer.status_code == 403, (method, path)


def test_what_is_another_owners_is_404_on_every_route(api: Api) -> None:
    job = api.job()
    end(api, job["id"], stored=0)
    stranger = api.new_key("stranger", "admin")
    for method, path in api.routes():
        if "/v1/jobs/" in path:
            own = path.replace(ANY_ID, job["id"])
            answer = api(method, own, key=stranger, **bodies(path))
            assert answer.status_code == 404, (method, path)
    assert api("GET", "/v1/jobs", key=stranger).json()["items"] == []
    export = api("POST", "/v1/exports", key=stranger, json={"job": job["id"], "format": "parquet"})
    assert export.status_code == 404


def end(api: Api, job_id: str, *, stored: int) -> None:
    with writing(api.engine) as session:
        session.execute(
            update(Job)
            .where(Job.id == UUID(job_id))
            .values(state="succeeded", images_stored=stored, ended_at=datetime.now(UTC))
        )
        session.execute(
            update(JobLabel)
            .where(JobLabel.job_id == UUID(job_id), JobLabel.position == 0)
            .values(stored=stored)
        )


def test_creating_a_job_sends_messages_and_names_its_place(api: Api) -> None:
    api.queue.waiting.clear()
    answer = api("POST", "/v1/jobs", json={"model": "mnist", "labels": {"3": 5}, "seed": 9})
    assert answer.status_code == 202
    job = answer.json()
    assert answer.headers["location"] == f"/v1/jobs/{job['id']}"
    assert (job["state"], job["seed"], job["images_requested"]) == ("queued", 9, 5)
    assert api.queue.waiting
    assert api("GET", f"/v1/jobs/{job['id']}").json() == job


def test_queued_job_is_cancelled_once(api: Api) -> None:
    job = api.job()
    assert api("POST", f"/v1/jobs/{job['id']}/cancel").json()["state"] == "cancelled"
    assert api("POST", f"/v1/jobs/{job['id']}/cancel").status_code == 409


def test_export_waits_for_its_job_and_download_for_the_export(api: Api) -> None:
    job = api.job()
    wanted = {"job": job["id"], "format": "parquet"}
    early = api("POST", "/v1/exports", json=wanted)
    assert early.status_code == 409
    assert "queued" in early.json()["detail"]
    end(api, job["id"], stored=10)
    made = api("POST", "/v1/exports", json=wanted)
    assert made.status_code == 202, made.text
    download = api("GET", f"/v1/exports/{made.json()['id']}/download")
    assert download.status_code == 409
    assert "queued" in download.json()["detail"]


def test_broken_cursors_are_422_on_every_list(api: Api) -> None:
    lists = ["/v1/jobs", "/v1/exports", "/v1/models", "/v1/datasets"]
    job = api.job()
    for path in [*lists, f"/v1/jobs/{job['id']}/samples"]:
        for cursor in ("nonsense", "bnVsbA", "eyJhIjoxfQ", "%00", "W10"):
            answer = api("GET", f"{path}?cursor={cursor}")
            assert answer.status_code == 422, (path, cursor, answer.text)
            assert answer.json()["field"] == "cursor"


@pytest.mark.parametrize(
    "reference", ["a%00b", "%ED%A0%80", "a@b", "a@99999999999", "..", "a" * 500]
)
def test_odd_references_are_404(api: Api, reference: str) -> None:
    for path in (f"/v1/models/{reference}", f"/v1/datasets/{reference}"):
        assert api("GET", path).status_code == 404


def test_odd_text_in_a_body_is_refused_in_words(api: Api) -> None:
    for model in ("a\u0000b", "x" * 200, "mnist@0", "\N{SNOWMAN}"):
        answer = api("POST", "/v1/jobs", json={"model": model, "all": 1})
        assert answer.status_code == 404, answer.text
    answer = api("POST", "/v1/jobs", json={"model": "mnist", "labels": {"\u0000": 1}})
    assert answer.status_code == 422


def test_ready_says_which_part_is_away(api: Api) -> None:
    found = api.client.get("/readyz")
    assert found.status_code == 503
    parts = found.json()["parts"]
    assert parts == {
        "database": "ok",
        "schema": "ok",
        "storage": "ok",
        "broker": "DATAGEN_BROKER_URL names none",
    }


def test_operations_have_names_summaries_and_error_answers(api: Api) -> None:
    document = api.client.get("/openapi.json").json()
    for path, methods in document["paths"].items():
        for operation in methods.values():
            assert operation["summary"]
            if path.startswith("/v1"):
                assert {"401", "403", "422"} <= set(operation["responses"])
                assert operation["security"] == [{"HTTPBearer": []}]
                problem = operation["responses"]["401"]["content"]["application/problem+json"]
                assert problem["schema"]["$ref"] == "#/components/schemas/Problem"
