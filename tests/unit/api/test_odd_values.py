"""Values that are legal in JSON, in queries and in tables, and that nothing can be done with."""

from __future__ import annotations

import base64
import io
import json
from datetime import UTC, datetime
from typing import Any
from urllib.parse import quote, urlsplit
from uuid import UUID

import numpy as np
import pytest
from application import Api
from sqlalchemy import Engine, select, text, update

from datagen.db.session import reading, writing
from datagen.db.tables import Pipeline, Run
from datagen.service import pipeline_ticks

# As they stand in JSON: half of a surrogate pair, and U+0000.
UNFIT = ("\\ud800", "\\u0000")


BODIES = {
    "/v1/jobs": [
        {"model": "$", "all": 1},
        {"model": "mnist", "labels": {"$": 1}},
        {"model": "mnist", "all": 1, "metadata": {"a": [{"b": "$"}]}},
        {"model": "mnist", "all": 1, "metadata": {"$": 1}},
        {"model": "mnist", "all": 1, "exports": ["$"]},
    ],
    "/v1/exports": [
        {"dataset": "$", "format": "parquet"},
        {"dataset": "d", "format": "$"},
        {"dataset": "d", "format": "parquet", "labels": ["$"]},
        {"dataset": "d", "format": "parquet", "license": "MIT $"},
        {"dataset": "d", "format": "parquet", "destination": "x", "path": "$"},
    ],
    "/v1/models": [{"name": "m", "dataset": "$"}, {"name": "m", "dataset": "d", "$": 1}],
    "/v1/models/mnist/preview": [{"labels": {"$": 1}}],
    "/v1/models/mnist/decode": [{"latents": [[0]], "labels": ["$"]}],
    "/v1/models/mnist/figures": [{"dataset": "$"}],
    "/v1/reports": [{"model": "$"}, {"model": "mnist", "real": "$"}],
    "/v1/datasets": [{"name": "d", "source": "$"}, {"name": "d", "source": "x", "license": "a$"}],
    "/v1/keys": [{"owner": "$"}, {"owner": "o", "scopes": ["$"]}],
    "/v1/webhooks": [{"url": "https://example.com/$"}],
    "/v1/pipelines": [
        {"name": "n", "source": {"dataset": "$"}, "model": "m", "plan": {"fill": 1}},
        {"name": "n", "source": {"dataset": "d"}, "model": "m", "plan": {"labels": {"$": 1}}},
    ],
}


@pytest.mark.parametrize("unfit", UNFIT)
def test_text_that_cannot_be_kept_is_422_in_every_body(api: Api, unfit: str) -> None:
    for path, bodies in BODIES.items():
        for body in bodies:
            answer = api.sent(path, json.dumps(body).replace("$", unfit))

            assert answer.status_code == 422, (path, body, answer.text)
            assert answer.json()["detail"].endswith((".", ".)"))
    for path in ("/v1/jobs", "/v1/exports", "/v1/pipelines"):
        assert api("GET", path).json()["items"] == []


@pytest.mark.parametrize("escape", ['"\\ud800"', '"\\0"'])
def test_text_that_cannot_be_kept_is_422_in_a_recipe_of_yaml(api: Api, escape: str) -> None:
    recipe = f"name: n\nsource: {{dataset: {escape}}}\nmodel: m\nplan: {{fill: 1}}\n"

    assert api.sent("/v1/pipelines", recipe, "application/yaml").status_code == 422


@pytest.mark.parametrize("text", ["%00", "a%00b", "%ff", "%ed%a0%80", "%c3"])
def test_a_query_that_is_no_text_is_422(api: Api, text: str) -> None:
    for path in (
        "/v1/jobs?model=", "/v1/jobs?cursor=", "/v1/keys?owner=", "/v1/models?", "/jobs?state=",
        "/v1/datasets?name=d&license=", "/v1/models/mnist/figures?dataset=", "/v1/exports?job=",
    ):  # fmt: skip
        answer = api("GET", path + text)

        assert answer.status_code == 422, (path, answer.text)
    assert api("GET", "/v1/keys?owner=" + quote("é\N{GRINNING FACE}")).status_code == 200


def test_a_path_that_is_no_text_is_404(api: Api) -> None:
    for path in ("models", "datasets", "pipelines", "keys", "jobs", "exports", "reports", "runs"):
        for odd in ("a%00b", "%ff", "%ed%a0%80"):
            assert api("GET", f"/v1/{path}/{odd}").status_code == 404
    for odd in ("a%00b", "%ff", "x" * 400):
        latents = {"latents": [[0.0]], "labels": ["3"]}
        assert api("POST", f"/v1/models/{odd}/decode", json=latents).status_code == 404
        assert api("POST", f"/v1/models/{odd}/preview", json={"all": 1}).status_code == 404


def test_numbers_that_are_none_are_422(api: Api) -> None:
    for path, body in (
        ("/v1/exports", '{"dataset": "d", "format": "parquet", "min_score": NaN}'),
        ("/v1/exports", '{"dataset": "d", "format": "parquet", "splits": {"train": Infinity}}'),
        ("/v1/datasets", '{"name": "d", "source": "x", "split": {"train": NaN}}'),
        ("/v1/jobs", '{"model": "mnist", "all": 1, "metadata": {"a": [-Infinity]}}'),
        ("/v1/pipelines", ('{"name": "n", "source": {"dataset": "d"}, "model": "m", '
         '"plan": {"fill": 1}, "checks": {"min_fidelity": NaN}}')),
    ):  # fmt: skip
        answer = api.sent(path, body)

        assert answer.status_code == 422, (path, body, answer.text)


def test_a_job_whose_metadata_an_older_version_kept_is_shown(api: Api) -> None:
    job = api.sent("/v1/jobs", '{"model": "mnist", "all": 1}').json()
    with writing(api.engine) as session:
        bad = {"bad": '{"a": "x\\ud800"}'}
        session.execute(text("UPDATE jobs SET metadata = :bad"), bad)

    shown = api("GET", f"/v1/jobs/{job['id']}")

    assert shown.json()["metadata"] == {"a": "x\ufffd"}
    assert api("GET", "/v1/jobs").json()["items"] == [shown.json()]


# A column that another version, or a hand, filled with what this one has no form for.
BAD_ROWS = {
    "jobs": ("jobs", "UPDATE jobs SET gate = '[1]' WHERE id = :id"),
    "exports": ("exports", "UPDATE exports SET warnings = '{\"a\": 1}' WHERE id = :id"),
    "models": ("models", "UPDATE models SET options = '[1]' WHERE id = :id"),
    "datasets": ("datasets", "UPDATE datasets SET class_names = '[1]' WHERE id = :id"),
    "pipelines": ("pipelines", "UPDATE pipelines SET recipe = '[1]' WHERE id = :id"),
    "reports": ("reports", "UPDATE reports SET progress = '[1]' WHERE id = :id"),
    "pipelines/nightly/runs": (
        "pipeline_runs",
        "UPDATE pipeline_runs SET steps = '[1]' WHERE id = :id",
    ),
}


def two_of_each(api: Api) -> dict[str, list[str]]:
    """Two rows in every list; their ids, the newest first."""
    image = io.BytesIO()
    np.savez(image, x_train=np.zeros((4, 28, 28), np.uint8), y_train=np.array([0, 1, 0, 1]))
    made: dict[str, list[str]] = {}

    def make(name: str, path: str, body: dict[str, Any]) -> None:
        answer = api("POST", path, json=body)
        assert answer.is_success, answer.text
        made.setdefault(name, []).insert(0, answer.json()["id"])

    for number in (1, 2):
        recipe = {
            "name": "nightly" if number == 1 else "other", "source": {"dataset": "d1"},
            "model": "mnist", "plan": {"fill": 5}, "on_overlap": "queue",
        }  # fmt: skip
        given = api("POST", f"/v1/datasets?name=d{number}", content=image.getvalue())
        assert given.is_success, given.text
        made.setdefault("datasets", []).insert(0, given.json()["id"])
        make("jobs", "/v1/jobs", {"model": "mnist", "all": 1})
        make("exports", "/v1/exports", {"dataset": "d1", "format": "parquet"})
        make("models", "/v1/models", {"name": f"m{number}", "dataset": "d1"})
        make("reports", "/v1/reports", {"model": "mnist"})
        make("pipelines", "/v1/pipelines", recipe)
        make("pipelines/nightly/runs", "/v1/pipelines/nightly/runs", {})
    return made


def test_a_row_that_cannot_be_shown_takes_no_list_with_it(api: Api) -> None:
    made = two_of_each(api)
    for name, (newer, older) in made.items():
        listed = [one["id"] for one in api("GET", f"/v1/{name}").json()["items"]]
        assert {newer, older} <= set(listed), name
        table, change = BAD_ROWS[name]
        with writing(api.engine) as session:
            session.execute(text(change), {"id": as_stored(api.engine, newer)})

        left = [one["id"] for one in api("GET", f"/v1/{name}").json()["items"]]

        assert left == [one for one in listed if one != newer], (name, table)


def test_pages_show_the_rows_beside_one_that_cannot_be(api: Api) -> None:
    made = two_of_each(api)
    for name, (newer, _) in made.items():
        with writing(api.engine) as session:
            session.execute(text(BAD_ROWS[name][1]), {"id": as_stored(api.engine, newer)})
    link = api("POST", "/v1/me/sign-in-links").json()["url"]
    api.client.get(urlsplit(link).path)

    for path in ("/", "/jobs", "/models", "/datasets", "/pipelines", "/pipelines/nightly"):
        answer = api.client.get(path, headers={"Accept": "text/html"})

        assert answer.status_code == 200, (path, answer.text)


def as_stored(engine: Engine, row_id: str) -> object:
    """An id as its column has it."""
    return UUID(row_id).hex if engine.dialect.name == "sqlite" else UUID(row_id)


MOMENTS = [
    ("0001-01-01T00:00:00Z", 422),
    ("0001-01-01T00:00:00+14:00", 422),
    ("0001-01-01T00:00:00-14:00", 422),
    ("9999-12-31T23:59:59Z", 422),
    ("9999-12-31T23:59:59-12:00", 422),
    ("9999-12-31T23:59:59+14:00", 422),
    ("9999-12-31T23:59:59.999999999999-23:59", 422),
    ("0000-01-01T00:00:00Z", 422),
    ("2026-06-30T23:59:60Z", 422),
    ("2026-01-01T00:00:00", 422),
    ("2026-01-01T24:00:00Z", 422),
    ("-1e300", 422),
    ("99999999999999999999", 422),
    ("NaN", 422),
    ("0001-01-02T00:00:00Z", 200),
    ("0001-01-02T14:00:00+14:00", 200),
    ("9999-12-29T11:59:59-12:00", 200),
    ("2026-01-01T00:00:00.123456789+00:00", 200),
]


@pytest.mark.parametrize(("moment", "status"), MOMENTS)
def test_moments_at_the_ends_of_the_calendar_in_filters(api: Api, moment: str, status: int) -> None:
    for name in ("created_after", "created_before"):
        answer = api("GET", f"/v1/jobs?{name}={quote(moment)}")

        assert answer.status_code == status, answer.text
        assert status == 200 or answer.json()["field"] == name


def recipe(**schedule: object) -> dict[str, Any]:
    return {
        "name": "nightly", "source": {"dataset": "d"}, "model": "mnist", "plan": {"fill": 5},
        "schedule": schedule,
    }  # fmt: skip


@pytest.mark.parametrize(("moment", "status"), MOMENTS)
def test_moments_at_the_ends_of_the_calendar_in_schedules(
    api: Api, moment: str, status: int
) -> None:
    for end in ("start", "end"):
        for when in ({"cron": "0 2 * * *"}, {"every": "366d", "jitter": "366d"}):
            for zone in ("UTC", "Pacific/Kiritimati", "Etc/GMT+12"):
                body = recipe(**when, **{end: moment}, timezone=zone)
                answer = api("POST", "/v1/pipelines/validate", json=body)

                assert answer.status_code == status, (body, answer.text)
                if status == 422:
                    continue
                applied = api("POST", "/v1/pipelines", json=body)
                assert applied.status_code in {200, 201}, applied.text
                with writing(api.engine) as session:
                    pipeline_ticks.make_due_runs(session)
                assert api("GET", "/v1/pipelines/nightly/next").status_code == 200
                shown = api("GET", "/v1/pipelines/nightly").json()
                assert (shown["next_due_at"] is None) == (shown["next_due_note"] is not None)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"timezone": "Nowhere/Gone", "cron": "0 2 * * *"}, "no time zone"),
        ({"cron": "nonsense"}, "change its cron"),
        ({"every": -5}, "another version"),
    ],
)
def test_a_pipeline_whose_next_time_cannot_be_computed_shows_so_and_holds_up_no_other(
    api: Api, change: dict[str, object], words: str
) -> None:
    good = api("POST", "/v1/pipelines", json=recipe(every="1h") | {"name": "good"}).json()
    bad = api("POST", "/v1/pipelines", json=recipe(every="1h")).json()
    with writing(api.engine) as session:
        session.execute(update(Pipeline).values(next_due_at=datetime(2026, 1, 1, tzinfo=UTC)))
        session.get_one(Pipeline, UUID(bad["id"])).recipe = recipe(**change)

    with writing(api.engine) as session:
        pipeline_ticks.make_due_runs(session)

    with reading(api.engine) as session:
        due = session.scalars(select(Run.pipeline_id)).all()
    assert UUID(good["id"]) in due
    shown = api("GET", "/v1/pipelines/nightly").json()
    assert shown["next_due_at"] is None
    assert words in shown["next_due_note"]
    assert {one["id"] for one in api("GET", "/v1/pipelines").json()["items"]} == {
        good["id"], bad["id"]
    }  # fmt: skip
    assert api("GET", "/v1/pipelines/nightly/next").json()["times"] == []
    for path in ("pause", "resume", "runs", "dry-run"):
        assert api("POST", f"/v1/pipelines/nightly/{path}").status_code < 500
    link = api("POST", "/v1/me/sign-in-links").json()["url"]
    api.client.get(urlsplit(link).path)
    page = api.client.get("/pipelines/nightly", headers={"Accept": "text/html"})
    assert page.status_code == 200
    assert words in page.text
    # Others can still be applied, and so can this one.
    assert api("POST", "/v1/pipelines", json=recipe(every="2h")).json()["next_due_at"] is not None


CURSORS = [
    "true", "false", "0.5", "1e400", "NaN", "-1", str(2**63), str(2**200), "null", "[]", "{}",
    '"x"', "[[1]]", "[true, 1]", "[0.5, true]", "[NaN, 1]", "[1e400, 1]", "[0.5, 1e30]",
    f"[0.5, {2**80}]", "[1, 2, 3]", '["0001-01-01T00:00:00+14:00", "a"]',
    '["9999-12-31T23:59:59-12:00", "a"]', '["2026-01-01T00:00:00", "a"]', '["2026-01-01", 5]',
    '["2026-01-01T00:00:00Z", "\\ud800"]', '["2026-01-01T00:00:00Z", "\\u0000"]',
    '{"2026-01-01T00:00:00Z": 1, "b": 2}', '"ab"', "[" * 90,
]  # fmt: skip


def test_cursors_that_were_made_up_are_422_on_every_list(api: Api) -> None:
    job = api.sent("/v1/jobs", '{"model": "mnist", "all": 1}').json()
    api("POST", "/v1/pipelines", json=recipe(every="1h"))
    link = api("POST", "/v1/me/sign-in-links").json()["url"]
    api.client.get(urlsplit(link).path)
    lists = [
        "/v1/jobs", "/v1/exports", "/v1/models", "/v1/datasets", "/v1/reports", "/v1/pipelines",
        "/v1/pipelines/nightly/runs", "/v1/keys", f"/v1/jobs/{job['id']}/samples",
        f"/jobs/{job['id']}/gallery", "/jobs", "/models", "/datasets", "/pipelines",
    ]  # fmt: skip
    made_up = [base64.urlsafe_b64encode(one.encode()).decode().rstrip("=") for one in CURSORS]
    for path in lists:
        for said, cursor in [*zip(CURSORS, made_up, strict=True), ("", "!"), ("", "é"), ("", "")]:
            answer = api("GET", path, params={"cursor": cursor})

            assert answer.status_code == 422, (path, said, cursor, answer.text)
