"""What Prometheus reads."""

from __future__ import annotations

from typing import Any

import httpx
import pytest

pytestmark = pytest.mark.xdist_group("stack")


def test_metrics_tell_jobs_images_queues_and_requests(stack: Any, job: Any) -> None:
    found = stack.metrics()
    assert found["datagen_jobs"]["succeeded",] >= 1
    assert set(found["datagen_jobs"]) == {
        (state,) for state in ("queued", "running", "succeeded", "failed", "cancelled")
    }
    assert found["datagen_images_stored"]["mnist", "1"] >= 50
    assert found["datagen_batch_seconds"]["decode",] > 0
    assert set(found["datagen_gate_rejections"]) == {("score",), ("copy",), ("duplicate",)}
    torch = {"preview", "quick", "interactive", "bulk", "train"}
    assert torch | {"control", "export", "deliver"} == {
        queue for (queue,) in found["datagen_queue_messages"]
    }
    assert found["datagen_http_requests_total"]["POST", "/v1/jobs", "202"] >= 1
    assert found["datagen_http_request_seconds_count"]["POST", "/v1/jobs"] >= 1


def test_routes_are_counted_by_their_names_and_not_by_what_is_asked_for(stack: Any) -> None:
    for number in range(3):
        stack.http.get(f"/v1/jobs/00000000-0000-7000-8000-00000000000{number}")
        stack.http.get(f"/nothing/{number}")
        stack.http.request(f"ODD{number}", "/v1/jobs")
    routes = stack.metrics()["datagen_http_requests_total"]
    assert routes["GET", "/v1/jobs/{job_id}", "404"] >= 3
    assert not [route for _, route, _ in routes if "nothing" in route or "0000" in route]
    assert not [method for method, _, _ in routes if method.startswith("ODD")]


def test_metrics_are_for_administrators(stack: Any) -> None:
    assert httpx.get(stack.url + "/metrics", trust_env=False).status_code == 401
    key = stack.http.post("/v1/keys", json={"owner": "team-m"}).json()["key"]
    headers = {"Authorization": f"Bearer {key}"}
    assert httpx.get(stack.url + "/metrics", headers=headers, trust_env=False).status_code == 403
