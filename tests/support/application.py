"""The application as a client of it sees it, with keys of every kind and messages in memory."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from sqlalchemy import Engine
from starlette.testclient import TestClient

from datagen.db.session import writing
from datagen.queue import MemoryQueue
from datagen.service import keys

RECIPE = {
    "name": "nightly", "source": {"dataset": "d"}, "model": "m", "plan": {"fill": 5}
}  # fmt: skip
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
        headers = {"Authorization": f"Bearer {key or self.key}", **more.pop("headers", {})}
        return self.client.request(method, path, headers=headers, **more)

    def sent(self, path: str, body: str, kind: str = "application/json") -> Any:
        """The answer to a body that is sent as it stands."""
        return self("POST", path, content=body.encode(), headers={"Content-Type": kind})

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
                path = path.replace("{run_id}", ANY_ID)
                path = path.replace("{name}", "loss.png").replace("{kind}", "png")
                found += [(method.upper(), path) for method in methods]
        return found


def bodies(path: str) -> dict[str, Any]:
    """A body that each route can read, so that the key alone decides."""
    known: dict[str, dict[str, Any]] = {
        "/v1/jobs": {"json": {"model": "mnist", "all": 1}},
        "/v1/exports": {"json": {"job": ANY_ID, "format": "parquet"}},
        "/v1/models": {"json": {"name": "m", "dataset": "d"}},
        "/v1/datasets": {"params": {"name": "d"}, "content": b"tar"},
        "/v1/keys": {"json": {"owner": "o"}},
        "/v1/webhooks": {"json": {"url": "https://8.8.8.8/"}},
        "/v1/pipelines": {"json": RECIPE},
        "validate": {"json": RECIPE},
        "extend": {"json": {"all": 1}},
        "rotate": {"json": {}},
        "preview": {"json": {"all": 1}},
        "nobodys": {"json": {"visibility": "public"}},
        "figures": {"json": {}},
        "links": {"json": {}},
        "decode": {"json": {"latents": [[0.0]], "labels": ["0"]}},
    }
    return known.get(path) or known.get(path.rpartition("/")[2], {})
