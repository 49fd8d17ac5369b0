"""A stored answer belongs to one key or session and one request, and holds no secret."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import pytest
from application import Api, bodies
from sqlalchemy import select

from datagen.api.sites import COOKIE
from datagen.db.session import now, reading, writing
from datagen.db.tables import ApiKey, Export, Replay, new_id
from datagen.schemas import SHOWN_ONCE
from datagen.service import keys, sign_ins
from datagen.service.keys import Principal

JOB = {"model": "mnist", "all": 1}
LINKS = "/v1/me/sign-in-links"
# Words by which fields are called that let somebody in.
TELLING = ("key", "secret", "token", "signature", "password", "url")


def post(api: Api, path: str, *, repeat: str = "k", key: str | None = None, **more: Any) -> Any:
    headers = {"Idempotency-Key": repeat, **more.pop("headers", {})}
    return api("POST", path, key=key, headers=headers, **more)


def stored(api: Api) -> list[Replay]:
    with reading(api.engine) as session:
        return list(session.scalars(select(Replay)))


def principal(api: Api) -> Principal:
    with reading(api.engine) as session:
        return keys.principal_of(session, api.key.split("_")[1])


def signed_in(api: Api) -> str:
    with writing(api.engine) as session:
        return sign_ins.begin(session, principal(api))[0]


def export(api: Api) -> str:
    """The path of an export that has ended."""
    with writing(api.engine) as session:
        moment = now(session)
        row = Export(
            id=new_id(), owner_id=principal(api).owner_id, format="parquet", state="succeeded",
            images_total=1, images_written=1, archive_key="exports/x.zip", digest="d" * 64, bytes=1,
            created_at=moment, available_at=moment, ended_at=moment,
        )  # fmt: skip
        session.add(row)
    return f"/v1/exports/{row.id}"


def test_smaller_key_does_not_get_what_a_larger_one_was_answered(api: Api) -> None:
    reader = api.new_key("me", "read")
    mine = post(api, LINKS)
    theirs = post(api, LINKS, key=reader)
    assert mine.status_code == theirs.status_code == 201
    assert mine.json()["url"] != theirs.json()["url"]
    token = theirs.json()["url"].rpartition("/")[2]
    with writing(api.engine) as session:
        assert sign_ins.use_link(session, token).scopes == {"read"}


def test_scope_is_looked_at_before_a_stored_answer(api: Api) -> None:
    key = api.new_key("me", "write")
    assert post(api, "/v1/jobs", key=key, json=JOB).status_code == 202
    with writing(api.engine) as session:
        row = session.get_one(ApiKey, key.split("_")[1])
        row.scopes = ["read"]
    api.client.app.state.callers.forget()  # type: ignore[attr-defined] # it is ours
    refused = post(api, "/v1/jobs", key=key, json=JOB)
    assert refused.status_code == 403
    assert "idempotency-replayed" not in refused.headers


def test_revoked_key_gets_no_stored_answer(api: Api) -> None:
    key = api.new_key("me", "write")
    assert post(api, "/v1/jobs", key=key, json=JOB).status_code == 202
    assert api("POST", f"/v1/keys/{key.split('_')[1]}/revoke").status_code == 200
    assert post(api, "/v1/jobs", key=key, json=JOB).status_code == 401


def test_two_keys_of_one_owner_have_nothing_to_do_with_each_other(api: Api) -> None:
    other = api.new_key("me", "write")
    first, second = post(api, "/v1/jobs", json=JOB), post(api, "/v1/jobs", key=other, json=JOB)
    assert first.json()["id"] != second.json()["id"]


def test_session_repeats_like_a_key_and_apart_from_it(api: Api) -> None:
    cookie = signed_in(api)
    headers = {"Sec-Fetch-Site": "same-origin", "Idempotency-Key": "k"}

    def by_session(text: str) -> Any:
        return api.client.post(
            "/v1/jobs", json=JOB, headers=headers | {"Cookie": f"{COOKIE}={text}"}
        )

    first, again = by_session(cookie), by_session(cookie)
    assert first.status_code == again.status_code == 202
    assert again.headers["idempotency-replayed"] == "true"
    assert again.json()["id"] == first.json()["id"]
    other = post(api, "/v1/jobs", json=JOB)
    assert other.json()["id"] != first.json()["id"]


def test_key_is_no_session_and_a_session_is_no_key_however_short_ago_it_opened(api: Api) -> None:
    cookie = signed_in(api)
    for _ in range(2):
        by_session = api.client.get("/v1/me", headers={"Cookie": f"{COOKIE}={cookie}"})
        assert by_session.status_code == 200
        assert api("GET", "/v1/me").status_code == 200
        assert api("GET", "/v1/me", key=cookie).status_code == 401
        as_session = api.client.get("/v1/me", headers={"Cookie": f"{COOKIE}={api.key}"})
        assert as_session.status_code == 401


def test_session_creates_no_links_that_would_outlive_it(api: Api) -> None:
    headers = {"Cookie": f"{COOKIE}={signed_in(api)}", "Sec-Fetch-Site": "same-origin"}
    refused = api.client.post(LINKS, headers=headers)
    assert refused.status_code == 403
    assert "Authorization" in refused.json()["detail"]


@pytest.mark.parametrize(
    ("content", "headers"),
    [
        (b"other", {}),
        (b"bodY", {}),
        (b"body", {"Content-Type": "application/x-tar"}),
        (b"body", {"Content-Type": "application/octet-stream; charset=latin-1"}),
    ],
)
def test_upload_with_another_body_or_type_is_refused(
    api: Api, content: bytes, headers: dict[str, str]
) -> None:
    kind = {"Content-Type": "application/octet-stream"}
    path = "/v1/datasets?name=d"
    first = post(api, path, content=b"body", headers=kind)
    assert first.status_code == 422
    again = post(api, path, content=b"body", headers=kind)
    assert again.headers["idempotency-replayed"] == "true"
    assert again.json() == first.json()
    other = post(api, path, content=content, headers=kind | headers)
    assert other.status_code == 422
    assert other.json()["field"] == "Idempotency-Key"


def test_key_is_looked_at_before_the_body(api: Api) -> None:
    reader = api.new_key("me", "read")
    assert api("POST", "/v1/jobs", key=reader, content=b"no JSON").status_code == 403
    assert api("POST", "/v1/jobs", key="nonsense", content=b"no JSON").status_code == 401


def operations(api: Api) -> Iterator[tuple[str, str, list[tuple[str, Any]]]]:
    """Method, path and the fields of every successful answer, however deep they lie in it."""
    document = api.client.get("/openapi.json").json()
    schemas = document["components"]["schemas"]
    for path, methods in document["paths"].items():
        for method, operation in methods.items():
            for status, answer in operation["responses"].items():
                schema = answer.get("content", {}).get("application/json", {}).get("schema", {})
                fields = list(fields_of(schema, schemas, set()))
                if status.startswith("2") and fields:
                    yield method.upper(), path, fields


def fields_of(schema: Any, schemas: Any, seen: set[str]) -> Iterator[tuple[str, Any]]:
    """Name and schema of all fields of a schema and of all that it refers to."""
    if isinstance(schema, list):
        for part in schema:
            yield from fields_of(part, schemas, seen)
        return
    if not isinstance(schema, dict):
        return
    if name := schema.get("$ref", "").rpartition("/")[2]:
        if name not in seen:
            yield from fields_of(schemas[name], schemas, seen | {name})
        return
    for name, field in schema.get("properties", {}).items():
        yield name, field
        yield from fields_of(field, schemas, seen)
    for word in ("items", "anyOf", "oneOf", "allOf", "prefixItems", "additionalProperties"):
        yield from fields_of(schema.get(word), schemas, seen)


def test_fields_are_found_however_deep_they_lie() -> None:
    schemas = {
        "Page": {"properties": {"items": {"type": "array", "items": {"$ref": "#/s/Key"}}}},
        "Key": {"properties": {"next": {"anyOf": [{"$ref": "#/s/Page"}, {"type": "null"}]},
                               "secret": {"type": "string"}}},
    }  # fmt: skip
    found = dict(fields_of({"$ref": "#/s/Page"}, schemas, set()))
    assert set(found) == {"items", "next", "secret"}


def test_every_field_that_lets_somebody_in_is_marked(api: Api) -> None:
    """What is called like a secret is one, or stands here with what it is in truth."""
    harmless = {
        # Where an owner wants to be notified, as the owner wrote it.
        ("/v1/webhooks/{webhook_id}", "url"),
        ("/v1/webhooks", "url"),
        ("/v1/webhooks/{webhook_id}/rotate", "url"),
        # The key without its secret.
        ("/v1/me", "key"),
    }
    for _, path, fields in operations(api):
        for name, schema in fields:
            if any(word in name.split("_") for word in TELLING) and (path, name) not in harmless:
                assert schema.get(SHOWN_ONCE), (path, name)


def test_no_secret_is_stored_with_an_answer(api: Api) -> None:
    showing = {
        path: [name for name, schema in fields if schema.get(SHOWN_ONCE)]
        for method, path, fields in operations(api)
        if method == "POST" and any(schema.get(SHOWN_ONCE) for _, schema in fields)
    }
    assert set(showing) == {
        "/v1/keys",
        "/v1/keys/{key_id}/rotate",
        "/v1/me/sign-in-links",
        "/v1/exports/{export_id}/links",
        "/v1/webhooks",
        "/v1/webhooks/{webhook_id}/rotate",
    }
    webhook = {"url": "https://93.184.215.14/"}
    hook = api("POST", "/v1/webhooks", json=webhook).json()["id"]
    other = api.new_key("me", "read").split("_")[1]
    for template, names in showing.items():
        path = template.replace("{key_id}", other).replace("{webhook_id}", hook)
        path = path.replace("/v1/exports/{export_id}", export(api))
        body = {"json": webhook} if path == "/v1/webhooks" else bodies(path)
        answer = post(api, path, repeat=path, **body)
        assert answer.status_code == 201, answer.text
        again = post(api, path, repeat=path, **body)
        assert again.status_code == 409, path
        assert "is not stored" in again.json()["detail"]
        if location := answer.headers.get("location"):
            assert location in again.json()["detail"]
        rows = [row for row in stored(api) if row.key == path]
        assert [row.body for row in rows] == [None]
        for name in names:
            assert answer.json()[name] not in json.dumps(rows[0].headers)
