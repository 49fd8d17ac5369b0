from __future__ import annotations

from typing import Any

import httpx
import pytest

pytestmark = pytest.mark.xdist_group("stack")


def test_health_and_readiness_need_no_key(stack: Any) -> None:
    assert httpx.get(f"{stack.url}/healthz").json() == {"status": "ok"}
    ready = httpx.get(f"{stack.url}/readyz")
    assert ready.status_code == 200
    assert ready.json() == {
        "ready": True,
        "parts": dict.fromkeys(("database", "schema", "storage", "broker"), "ok"),
    }


def test_every_route_under_v1_needs_a_key(stack: Any) -> None:
    document = httpx.get(f"{stack.url}/openapi.json").json()
    checked = 0
    for path, methods in document["paths"].items():
        for method in methods:
            if path.startswith("/v1"):
                url = stack.url + path.replace("{index}", "0").replace("{", "").replace("}", "")
                for headers in ({}, {"Authorization": "Bearer dg_nobody_" + "x" * 43}):
                    answer = httpx.request(method, url, headers=headers, json={})
                    assert answer.status_code in {401, 404}, (method, path)
                    if answer.status_code == 404:
                        continue
                    assert answer.headers["www-authenticate"] == "Bearer"
                    checked += 1
    assert checked >= 2


def test_foreign_host_is_refused(stack: Any) -> None:
    answer = stack.http.get("/v1/jobs", headers={"Host": "evil.example"})
    assert answer.status_code == 400


def test_body_that_tells_no_length_is_stopped_at_the_limit(stack: Any) -> None:
    answer = stack.http.post("/v1/jobs", content=(b" " * 100_000 for _ in range(30)))
    assert answer.status_code == 413
    assert answer.json()["type"] == "urn:datagen:problem:too-large"


def test_bundled_model_is_there_for_all(stack: Any) -> None:
    found = stack.http.get("/v1/models/mnist").json()
    assert found["visibility"] == "public"
    assert found["state"] == "succeeded"
    assert found["class_names"] == list("0123456789")
    assert found["image_shape"] == [1, 28, 28]
    by_version = stack.http.get(f"/v1/models/mnist@{found['version']}").json()
    by_id = stack.http.get(f"/v1/models/{found['id']}").json()
    assert by_version == by_id == found
    assert stack.http.get("/v1/models/mnist@999").status_code == 404
    assert stack.http.post("/v1/models/mnist/cancel").status_code in {403, 404, 409}


def test_openapi_describes_every_route(stack: Any) -> None:
    document = httpx.get(f"{stack.url}/openapi.json").json()
    operations = [one for path in document["paths"].values() for one in path.values()]
    names = [one["operationId"] for one in operations]
    assert len(names) == len(set(names))
    assert {"create_job", "cancel_job", "download_export", "create_dataset"} <= set(names)
    assert all(one["summary"] and one["tags"] for one in operations)
    assert "Problem" in document["components"]["schemas"]
