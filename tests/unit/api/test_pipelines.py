"""Pipelines over HTTP, with messages kept in memory."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from starlette.testclient import TestClient

from datagen.api.app import create_app
from datagen.db.session import writing
from datagen.queue import ADVANCE_RUN, MemoryQueue
from datagen.service import keys

RECIPE = {
    "name": "nightly",
    "source": {"dataset": "defects"},
    "model": "defects",
    "plan": {"fill": 5000},
    "deliver": [{"format": "imagefolder", "merge": True}],
    "schedule": {"cron": "0 2 * * *", "timezone": "Europe/Berlin"},
}
YAML = b"""\
name: nightly
source: {dataset: defects}
model: defects
plan: {fill: 5000}
notify: {webhook: 0190b3f2-6f1e-7c31-9d5e-2f6a4c8e1b07, on: always}
"""


@pytest.fixture
def queue() -> MemoryQueue:
    return MemoryQueue()


@pytest.fixture
def api(settings, engine, queue) -> Iterator[TestClient]:
    app = create_app(settings, queue=queue)
    with TestClient(app, base_url="http://127.0.0.1") as client:
        with writing(engine) as session:
            client.headers["Authorization"] = f"Bearer {keys.create_key(session, 'me', ['write'])}"
        queue.waiting.clear()
        yield client


def test_pipeline_is_made_changed_read_listed_and_removed(api):
    made = api.post("/v1/pipelines", json=RECIPE)
    assert made.status_code == 201, made.text
    assert made.headers["location"] == f"/v1/pipelines/{made.json()['id']}"
    assert (made.json()["version"], made.json()["recipe"]) == (1, RECIPE)
    changed = api.post("/v1/pipelines", json=RECIPE | {"seed": 5})
    assert (changed.status_code, changed.json()["version"]) == (200, 2)
    assert changed.json()["id"] == made.json()["id"]
    assert api.get("/v1/pipelines/nightly").json() == changed.json()
    assert api.get(made.headers["location"]).json() == changed.json()
    assert api.get("/v1/pipelines").json()["items"] == [changed.json()]
    assert api.delete("/v1/pipelines/nightly").status_code == 204
    assert api.get("/v1/pipelines/nightly").status_code == 404


def test_recipe_may_be_yaml(api):
    kind = {"Content-Type": "application/yaml; charset=utf-8"}
    answer = api.post("/v1/pipelines/validate", content=YAML, headers=kind)
    assert answer.status_code == 404
    assert "There is no webhook" in answer.json()["detail"]
    plain = b"\n".join(YAML.splitlines()[:4])
    made = api.post("/v1/pipelines", content=plain, headers=kind)
    assert (made.status_code, made.json()["recipe"]["plan"]) == (201, {"fill": 5000})


@pytest.mark.parametrize(
    ("changes", "status", "field", "words"),
    [
        ({"plan": {"fill": 5, "add": 2}}, 422, "plan", "give one of"),
        ({"plan": {"fil": 5}}, 422, "plan.fil", "'fill' may be meant"),
        ({"schedule": {"cron": "* * * * *"}}, 422, "schedule.cron", "every 60 s"),
        ({"schedule": {"cron": "0 0 30 2 *"}}, 422, "schedule.cron", "Bad day-of-month"),
        ({"schedule": {"cron": "no"}}, 422, "schedule.cron", "'no'"),
        ({"schedule": {"every": "1h", "timezone": "Mars"}}, 422, "schedule.timezone", "Mars"),
        ({"deliver": [{"format": "npz", "destination": "x"}]}, 422, "destination", "'x'"),
        ({"deliver": [{"format": "npz", "name": "../up"}]}, 422, "deliver.0.name", "no '..'"),
        ({"deliver": [{"format": "npz", "name": "{user}"}]}, 422, "deliver.0.name", "no field"),
        ({"deliver": [{"format": "npz", "name": "{pipeline.x}"}]}, 422, "deliver.0.name", "field"),
        ({"name": "../x"}, 422, "name", "name"),
        ({"source": {"dataset": "d@1", "refresh": "s3://b/x"}}, 422, "source", "without one"),
        ({"retries": 1000}, 422, "retries", "10"),
    ],
)
def test_recipe_that_cannot_be_is_refused_in_a_sentence(api, changes, status, field, words):
    for path in ("/v1/pipelines", "/v1/pipelines/validate"):
        answer = api.post(path, json=RECIPE | changes)
        problem = answer.json()
        assert (answer.status_code, problem.get("field")) == (status, field), problem
        assert words in problem["detail"]
    assert api.get("/v1/pipelines").json()["items"] == []


@pytest.mark.parametrize(
    "content",
    [b"a: &a [1]\nb: *a", b"a: !!python/object/apply:os.system [ls]", b"[" * 9000, b"\xff", b""],
)
def test_yaml_that_is_harmful_or_none_is_400(api, content):
    kind = {"Content-Type": "application/yaml"}
    answer = api.post("/v1/pipelines", content=content, headers=kind)
    assert answer.status_code == 400, answer.text
    assert answer.headers["content-type"] == "application/problem+json"


def test_yaml_that_is_too_long_is_413(api):
    kind = {"Content-Type": "application/yaml"}
    answer = api.post("/v1/pipelines", content=b"#" * 200_000, headers=kind)
    assert answer.status_code == 413


def test_pausing_takes_due_times_away_and_resuming_brings_them_back(api):
    api.post("/v1/pipelines", json=RECIPE)
    assert api.post("/v1/pipelines/nightly/pause").json()["paused"] is True
    told = api.get("/v1/pipelines/nightly/next").json()
    assert (told["paused"], told["timezone"], len(told["times"])) == (True, "Europe/Berlin", 5)
    # The same file again does not resume it; one that says so does.
    assert api.post("/v1/pipelines", json=RECIPE | {"seed": 1}).json()["paused"] is True
    assert api.post("/v1/pipelines/nightly/resume").json()["paused"] is False
    assert api.post("/v1/pipelines", json=RECIPE | {"paused": True}).json()["paused"] is True


def test_run_by_hand_is_queued_sent_and_cancelled(api, queue):
    api.post("/v1/pipelines", json=RECIPE)
    answer = api.post("/v1/pipelines/nightly/runs")
    run = answer.json()
    assert (answer.status_code, answer.headers["location"]) == (202, f"/v1/runs/{run['id']}")
    assert (run["state"], run["cause"], run["name"]) == ("queued", "hand", "nightly")
    assert [(m.task, m.arguments) for m in queue.waiting] == [(ADVANCE_RUN, {"run_id": run["id"]})]
    assert api.get(f"/v1/runs/{run['id']}").json() == run
    assert api.get("/v1/pipelines/nightly/runs").json()["items"] == [run]
    assert api.post("/v1/pipelines/nightly/runs").status_code == 409
    assert api.delete("/v1/pipelines/nightly").status_code == 409
    assert api.post(f"/v1/runs/{run['id']}/cancel").json()["state"] == "cancelled"
    assert api.post(f"/v1/runs/{run['id']}/cancel").status_code == 409
    assert api.get("/v1/pipelines/nightly/runs?state=queued").json()["items"] == []
    assert api.get("/v1/pipelines/nightly").json()["last_state"] == "cancelled"


def test_dry_run_without_its_dataset_says_so(api):
    api.post("/v1/pipelines", json=RECIPE)
    answer = api.post("/v1/pipelines/nightly/dry-run")
    assert (answer.status_code, "'defects'" in answer.json()["detail"]) == (404, True)


def test_schema_is_there_for_editors_without_a_key(api):
    del api.headers["Authorization"]
    schema = api.get("/schemas/pipeline.json").json()
    assert schema["$schema"].startswith("https://json-schema.org/")
    assert {"name", "source", "model", "plan"} <= set(schema["required"])
