"""Every route over HTTP, with messages kept in memory: what waits here waits for ever."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

import pytest
from application import ANY_ID, RECIPE, Api, bodies
from sqlalchemy import update

from datagen.db.session import open_engine, writing
from datagen.db.tables import ApiKey, Dataset, Job, JobLabel, Model, Report
from datagen.service import keys


@pytest.mark.parametrize(("depth", "status"), [(32, 202), (33, 422), (253, 422), (254, 422)])
def test_metadata_has_a_depth_that_every_answer_can_have(api: Api, depth: int, status: int) -> None:
    metadata: object = 1
    for _ in range(depth):
        metadata = {"a": metadata}
    job = {"model": "mnist", "all": 1, "metadata": metadata}
    assert api("POST", "/v1/jobs", json=job).status_code == status
    assert api("GET", "/v1/jobs").status_code == 200


def test_query_parameter_that_no_route_knows_is_refused_on_every_route(api: Api) -> None:
    for method, path in api.routes():
        body = bodies(path) if method in {"POST", "PATCH"} else {}
        body.pop("params", None)
        answer = api(method, path, params={"dryrun": "true"}, **body)
        assert answer.status_code == 422, (method, path, answer.text)
        assert answer.json()["field"] == "dryrun"
    job = {"model": "mnist", "all": 1}
    answer = api("POST", "/v1/jobs", params={"dryrun": "true"}, json=job)
    assert "'dry_run' may be meant" in answer.json()["detail"]
    assert api("GET", "/v1/jobs").json()["items"] == []


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
        body = bodies(path) if method in {"POST", "PATCH"} else {}
        assert api.client.request(method, path, **body).status_code == 401, (method, path)
        for kind, key in wrong.items():
            answer = api(method, path, key=key, **body)
            assert answer.status_code == 401, (kind, method, path)
            assert key not in answer.text


def test_key_to_read_does_not_write(api: Api) -> None:
    reader = api.new_key("me", "read")
    for method, path in api.routes():
        body = bodies(path) if method in {"POST", "PATCH"} else {}
        status = api(method, path, key=reader, **body).status_code
        looks = path.endswith(("/preview", "/decode", "/validate", "/dry-run", "/sign-in-links"))
        writes = method in {"POST", "PATCH", "DELETE"} and not looks
        beyond = writes or path.startswith("/v1/keys")
        assert (status == 403) == beyond, (method, path, status)


def test_key_to_write_makes_no_keys(api: Api) -> None:
    writer = api.new_key("me", "write")
    for method, path in api.routes():
        if path.startswith("/v1/keys"):
            answer = api(method, path, key=writer, **bodies(path))
            assert answer.status_code == 403, (method, path)


def things(api: Api) -> dict[str, str]:
    """One of each kind of the owner "me"; the path that it is found at."""
    job = api.job()
    end(api, job["id"], stored=10)
    export = api("POST", "/v1/exports", json={"job": job["id"], "format": "parquet"}).json()
    hook = api("POST", "/v1/webhooks", json={"url": "https://8.8.8.8/"}).json()
    sent = api("POST", f"/v1/webhooks/{hook['id']}/test").json()
    pipeline = api("POST", "/v1/pipelines", json=RECIPE).json()
    run = api("POST", f"/v1/pipelines/{pipeline['id']}/runs").json()
    with writing(api.engine) as session:
        owner_id = keys.ensure_owner(session, "me")
        moment = datetime.now(UTC)
        common = {"owner_id": owner_id, "created_at": moment}
        pixels = {"class_names": ["a", "b"], "image_shape": [1, 2, 2]}
        dataset = Dataset(
            name="mine", version=1, digest="a" * 64, counts={"train": [1, 1]}, report={},
            storage_prefix="datasets/a", **pixels, **common,
        )  # fmt: skip
        session.add(dataset)
        session.flush()
        model = Model(
            name="mine", version=1, state="succeeded", visibility="private", digest="b" * 64,
            dataset_id=dataset.id, options={}, config={"family": "cvae"}, metrics={}, progress={},
            available_at=moment, **pixels, **common,
        )  # fmt: skip
        session.add(model)
        session.flush()
        report = Report(
            model_id=model.id, job_id=UUID(job["id"]), quick=True, state="succeeded",
            dataset_key="a" * 64, progress={}, available_at=moment, ended_at=moment, **common,
        )  # fmt: skip
        session.add(report)
        session.flush()
    return {
        "/v1/jobs/{job_id}": f"/v1/jobs/{job['id']}",
        "/v1/exports/{export_id}": f"/v1/exports/{export['id']}",
        "/v1/webhooks/{webhook_id}/deliveries/{delivery_id}": (
            f"/v1/webhooks/{hook['id']}/deliveries/{sent['id']}"
        ),
        "/v1/webhooks/{webhook_id}": f"/v1/webhooks/{hook['id']}",
        "/v1/datasets/{reference}": f"/v1/datasets/{dataset.id}",
        "/v1/models/{reference}": f"/v1/models/{model.id}",
        "/v1/reports/{report_id}": f"/v1/reports/{report.id}",
        "/v1/pipelines/{reference}": f"/v1/pipelines/{pipeline['id']}",
        "/v1/runs/{run_id}": f"/v1/runs/{run['id']}",
    }


def test_what_is_another_owners_is_404_on_every_route(api: Api) -> None:
    mine, stranger, swept = things(api), api.new_key("stranger", "admin"), 0
    for template, methods in api.client.get("/openapi.json").json()["paths"].items():
        kind = next((one for one in mine if template.startswith(one)), None)
        if kind is None:
            # Nothing of anybody's is named there.
            assert "{" not in template or template.startswith("/v1/keys"), template
            continue
        path = template.replace(kind, mine[kind])
        path = path.replace("{index}", "0").replace("{name}", "loss.png").replace("{kind}", "png")
        assert "{" not in path.replace("{path}", ""), path
        for method in methods:
            body = {"json": {"visibility": "public"}} if method == "patch" else bodies(path)
            answer = api(method.upper(), path, key=stranger, **body)
            assert answer.status_code == 404, (method, template, answer.text)
            swept += 1
    assert swept >= 30
    # The owner still finds everything.
    for path in mine.values():
        if "/deliveries/" not in path:
            assert api("GET", path).status_code == 200, path
    for path in ("jobs", "exports", "webhooks", "datasets", "reports", "pipelines"):
        assert api("GET", f"/v1/{path}", key=stranger).json()["items"] == [], path
    listed = api("GET", "/v1/models", key=stranger).json()["items"]
    assert {model["visibility"] for model in listed} <= {"public"}


def test_what_is_another_owners_cannot_be_named_in_a_request(api: Api) -> None:
    mine, stranger = things(api), api.new_key("stranger", "admin")
    job, dataset, model, hook = (
        mine[kind].rpartition("/")[2]
        for kind in ("/v1/jobs/{job_id}", "/v1/datasets/{reference}", "/v1/models/{reference}",
                     "/v1/webhooks/{webhook_id}")
    )  # fmt: skip
    for path, body in (
        ("exports", {"job": job, "format": "parquet"}),
        ("exports", {"dataset": dataset, "format": "parquet"}),
        ("models", {"name": "m", "dataset": dataset}),
        ("jobs", {"model": model, "all": 1}),
        ("jobs", {"model": "mnist", "all": 1, "webhook": hook}),
        ("jobs", {"model": "mnist", "balance": {"dataset": dataset}}),
        ("reports", {"job": job}),
        ("reports", {"model": model}),
        ("reports", {"model": "mnist", "real": dataset}),
        ("models/mnist/figures", {"dataset": dataset}),
        ("pipelines", RECIPE | {"notify": {"webhook": hook}}),
    ):
        answer = api("POST", f"/v1/{path}", key=stranger, json=body)
        assert answer.status_code == 404, (path, body, answer.text)
    compared = api("GET", f"/v1/models/compare?model=mnist&model={model}", key=stranger)
    assert compared.status_code == 404


def test_shared_model_makes_images_for_others_and_stays_its_owners(api: Api) -> None:
    model = things(api)["/v1/models/{reference}"]
    stranger = api.new_key("stranger", "write")
    wanted = {"model": "mine", "all": 1, "sampler": "prior", "gate": None}
    assert api("POST", "/v1/jobs", key=stranger, json=wanted).status_code == 404
    shared = api("PATCH", model, json={"visibility": "public"})
    assert (shared.status_code, shared.json()["visibility"]) == (200, "public")
    assert api("POST", "/v1/jobs", key=stranger, json=wanted).status_code == 202
    for method in ("PATCH", "DELETE"):
        refused = api(method, model, key=stranger, json={"visibility": "private"})
        assert refused.status_code in {403, 404}, refused.text
    # Figures and reports would show the images that it was trained on.
    figures = api("POST", f"{model}/figures", key=stranger, json={}).json()
    assert figures["id"] != api("POST", f"{model}/figures", json={}).json()["id"]
    report = api("POST", "/v1/reports", key=stranger, json={"model": "mine"})
    assert (report.status_code, report.json()["field"]) == (422, "real")
    assert api("PATCH", model, json={"visibility": "private"}).status_code == 200
    assert api("GET", model, key=stranger).status_code == 404


def test_name_of_a_public_model_is_not_taken_over(api: Api) -> None:
    model = things(api)["/v1/models/{reference}"]
    with writing(api.engine) as session:
        session.execute(
            update(Model).where(Model.id == UUID(model.rpartition("/")[2])).values(name="mnist")
        )
    refused = api("PATCH", model, json={"visibility": "public"})
    assert refused.status_code == 409
    assert "public model of another owner's" in refused.json()["detail"]


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
    lists = ["/v1/jobs", "/v1/exports", "/v1/models", "/v1/datasets", "/v1/pipelines"]
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
    for model in ("x" * 200, "mnist@0", "\N{SNOWMAN}"):
        answer = api("POST", "/v1/jobs", json={"model": model, "all": 1})
        assert answer.status_code == 404, answer.text
    answer = api("POST", "/v1/jobs", json={"model": "mnist", "labels": {"\u0000": 1}})
    assert answer.status_code == 422


def test_ready_says_which_part_is_away_and_what_is_wrong_to_administrators_alone(api: Api) -> None:
    fine = {"database": "ok", "schema": "ok", "storage": "ok"}
    writer = api.new_key("me", "write")
    for answer in (
        api.client.get("/readyz"),
        api("GET", "/readyz", key=writer),
        api("GET", "/readyz", key="nonsense"),
    ):
        assert answer.status_code == 503
        assert answer.json()["parts"] == {**fine, "broker": "unavailable"}
    parts = api("GET", "/readyz").json()["parts"]
    assert parts == {**fine, "broker": "DATAGEN_BROKER_URL names none"}


def test_ready_names_neither_host_nor_user_nor_database_without_a_key(api: Api) -> None:
    names = ("inner-host", "inner-user", "inner-password", "inner-database")
    host, user, password, database = names
    state: Any = api.client.app.state  # type: ignore[attr-defined] # it is ours
    # As if the server of the database had gone after the API's start.
    state.backends.engine.dispose()
    url = f"postgresql+psycopg://{user}:{password}@{host}.invalid:1/{database}"
    state.backends.engine = open_engine(url)
    for headers in ({}, {"Authorization": "Bearer nonsense"}):
        answer = api.client.get("/readyz", headers=headers)
        assert answer.status_code == 503
        assert answer.json()["parts"]["database"] == "unavailable"
        assert not [name for name in names if name in answer.text + str(answer.headers)]
    # There was something to keep back.
    assert host in str(state.looks.found)


def test_every_body_has_an_example_that_the_route_takes(api: Api) -> None:
    """None is refused for what it holds; some name things that are not there."""
    document, tried = api.client.get("/openapi.json").json(), 0
    for template, methods in document["paths"].items():
        for method, operation in methods.items():
            body = operation.get("requestBody", {}).get("content", {}).get("application/json")
            if body is None:
                continue
            path = template.replace("{reference}", "nobodys")
            path = path.replace("{job_id}", ANY_ID).replace("{export_id}", ANY_ID)
            path = path.replace("{key_id}", "3fa9c1d20b7e")
            answer = api(method.upper(), path, json=body["example"])
            assert answer.status_code in {200, 201, 202, 404}, (method, template, answer.text)
            tried += 1
    assert tried >= 14


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
