"""A job's events: every state, resumed, by many at once, and ended with the server."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import httpx
import jsonschema_rs
import pytest
import schemathesis
from running import Service
from schemathesis.specs.openapi.checks import (
    content_type_conformance,
    response_schema_conformance,
)

from datagen import Client

pytestmark = pytest.mark.xdist_group("stack")


def job(stack: Any, count: int = 3000, **more: Any) -> Any:
    body = {"model": "mnist", "all": count, "gate": None} | more
    return stack.created("/v1/jobs", body)


def events(stack: Any, path: str) -> list[tuple[str, str, Any]]:
    """All events until the stream ends: kind, id, data."""
    found: list[tuple[str, str, Any]] = []
    fields: dict[str, str] = {}
    with stack.http.stream("GET", path, timeout=120) as response:
        assert response.status_code == 200
        assert response.headers["content-type"].startswith("text/event-stream")
        for line in response.iter_lines():
            name, _, value = line.partition(": ")
            fields[name] = value
            if not line and "data" in fields:
                found.append((fields["event"], fields["id"], json.loads(fields["data"])))
                fields = {}
    return found


def test_events_tell_the_job_until_its_end(stack: Any) -> None:
    made = job(stack)
    found = events(stack, f"/v1/jobs/{made['id']}/events")
    states = [data["state"] for kind, _, data in found if kind == "state"]
    assert states[-1] == "succeeded"
    assert states == [state for state in ("queued", "running", "succeeded") if state in states]
    stored = [data["images_stored"] for _, _, data in found]
    assert stored == sorted(stored)
    assert stored[-1] == 30_000
    assert {data["id"] for _, _, data in found} == {made["id"]}


def test_stream_goes_on_after_the_last_event_and_ends_for_good(stack: Any) -> None:
    made = job(stack, 1)
    path = f"/v1/jobs/{made['id']}/events"
    stack.ended(f"/v1/jobs/{made['id']}")
    with stack.http.stream("GET", path) as response:
        text = "".join(response.iter_text())
    number = text.partition("id: ")[2].partition("\n")[0]
    assert text.count("event: ") == 1
    assert stack.http.get(path, headers={"Last-Event-ID": number}).status_code == 204
    before = str(int(number) - 1)
    again = stack.http.get(path, headers={"Last-Event-ID": before})
    assert f"id: {number}\n" in again.text
    for odd in ("x", "-1", "9" * 30, ""):
        assert stack.http.get(path, headers={"Last-Event-ID": odd}).status_code == 200


def test_events_are_as_the_document_describes_one(stack: Any) -> None:
    made = job(stack, 1)
    stack.ended(f"/v1/jobs/{made['id']}")
    schema = schemathesis.openapi.from_url(f"{stack.url}/openapi.json")
    case = schema["/v1/jobs/{job_id}/events"]["GET"].Case(path_parameters={"job_id": made["id"]})
    headers = {"Authorization": f"Bearer {stack.key}"}
    case.call_and_validate(
        headers=headers, checks=[content_type_conformance, response_schema_conformance]
    )
    # What an event's data holds is said as well, as the schema of their content.
    content = schema.raw_schema["paths"]["/v1/jobs/{job_id}/events"]["get"]["responses"]["200"]
    event = content["content"]["text/event-stream"]["itemSchema"]["oneOf"][0]
    described = event["properties"]["data"]["contentSchema"]
    [(_, _, data)] = events(stack, f"/v1/jobs/{made['id']}/events")
    components = {"components": schema.raw_schema["components"]}
    jsonschema_rs.validate({**described, **components}, data)


def test_another_owners_job_has_no_events(stack: Any) -> None:
    made = job(stack, 1)
    key = stack.http.post("/v1/keys", json={"owner": "team-d"}).json()["key"]
    path = f"/v1/jobs/{made['id']}/events"
    headers = {"Authorization": f"Bearer {key}"}
    assert httpx.get(stack.url + path, headers=headers, trust_env=False).status_code == 404
    assert httpx.get(stack.url + path, trust_env=False).status_code == 401


@pytest.fixture
def long_job(stack: Any) -> Iterator[str]:
    """The path of a job that goes on; nothing ends its events but the one who listens."""
    path = f"/v1/jobs/{job(stack, 1_000_000)['id']}"
    yield path
    stack.http.post(f"{path}/cancel")


SAME_SITE = {"Sec-Fetch-Site": "same-origin"}


@pytest.mark.parametrize("end", ["revoke", "sign-out", "expire"])
def test_stream_ends_soon_after_its_key_or_session(stack: Any, long_job: str, end: str) -> None:
    wanted = {"owner": "local", "scopes": ["read"]} | ({"expires_in": 3} if end == "expire" else {})
    made = stack.http.post("/v1/keys", json=wanted).json()
    headers = {"Authorization": f"Bearer {made['key']}"}
    with httpx.Client(base_url=stack.url, trust_env=False, timeout=30) as http:
        if end == "sign-out":
            answer = http.post("/sign-in", data={"key": made["key"]}, headers=SAME_SITE)
            # By hand, since signing out takes it from the client.
            headers = {"Cookie": answer.headers["set-cookie"].partition(";")[0]}
            http.cookies.clear()
        with http.stream("GET", f"{long_job}/events", headers=headers) as response:
            lines = response.iter_lines()
            assert any(line.startswith("event") for line in lines)
            if end == "revoke":
                assert stack.http.post(f"/v1/keys/{made['id']}/revoke").status_code == 200
            elif end == "sign-out":
                left = http.post("/sign-out", headers=headers | SAME_SITE)
                assert left.status_code == 303
            over = datetime.now(UTC)
            if end == "expire":
                over = datetime.fromisoformat(made["expires_at"])
            for _ in lines:
                pass
        # Two seconds are promised; the rest is for a machine that does much else.
        assert timedelta(0) < datetime.now(UTC) - over < timedelta(seconds=4)
        assert http.get(f"{long_job}/events", headers=headers).status_code == 401


def test_stream_ends_where_its_job_is_removed(stack: Any) -> None:
    made = job(stack)
    path = f"/v1/jobs/{made['id']}"
    kinds: list[str] = []
    with stack.http.stream("GET", path + "/events", timeout=60) as response:
        for line in response.iter_lines():
            name, _, value = line.partition(": ")
            if name != "event":
                continue
            kinds.append(value)
            if len(kinds) == 1:
                # Within one look of the poller, as a rule: then the end itself is not seen.
                assert stack.http.post(path + "/cancel").status_code == 200
                assert stack.http.delete(path).status_code == 204
    assert kinds[0] == "state"
    assert kinds[-1] in {"removed", "state"}
    assert len(kinds) > 1
    assert stack.http.get(path + "/events").status_code == 404


def test_many_listeners_all_see_the_end(stack: Any) -> None:
    made = job(stack)
    url = f"{stack.url}/v1/jobs/{made['id']}/events"

    async def listen(http: httpx.AsyncClient) -> str:
        last = ""
        async with http.stream("GET", url) as response:
            async for line in response.aiter_lines():
                if line.startswith("data: ") and line != "data: {}":
                    last = json.loads(line[6:])["state"]
        return last

    async def all_of_them() -> list[str]:
        headers = {"Authorization": f"Bearer {stack.key}"}
        limits = httpx.Limits(max_connections=None)
        async with httpx.AsyncClient(
            headers=headers, timeout=120, limits=limits, trust_env=False
        ) as http:
            return list(await asyncio.gather(*(listen(http) for _ in range(100))))

    assert asyncio.run(all_of_them()) == ["succeeded"] * 100


def test_client_follows_a_job_by_its_events(stack: Any) -> None:
    with Client(stack.url, stack.key) as dg:
        made = dg.jobs.create("mnist", {"3": 20}, gate=None)
        seen = list(dg.jobs.events(made.id))
    assert seen[-1].state == "succeeded"
    assert seen[-1].images_stored == 20


def test_stopping_server_does_not_wait_for_listeners(
    services: Callable[..., Service], tmp_path: Path
) -> None:
    service = services(tmp_path / "home", workers=1)
    service.start()
    made = service.client.jobs.create("mnist", per_label=100_000, gate=None)
    following = service.client.jobs.events(made.id)
    assert next(following).id == made.id
    service.stop()
    log = (tmp_path / "home" / "logs" / "api.log").read_text()
    assert "Cancel" not in log
    assert "unexpected error" not in log
