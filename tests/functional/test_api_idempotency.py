"""A request that is sent twice, or fifty times at once, is done once."""

from __future__ import annotations

import uuid
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import httpx
import pytest

pytestmark = pytest.mark.xdist_group("stack")

BODY = {"model": "mnist", "labels": {"3": 1}, "gate": None}


def post(stack: Any, key: str, path: str = "/v1/jobs", body: Any = BODY) -> httpx.Response:
    return stack.http.post(path, json=body, headers={"Idempotency-Key": key})


def test_request_that_comes_again_gets_the_first_answer(stack: Any) -> None:
    key = uuid.uuid4().hex
    first, again = post(stack, key), post(stack, key)
    assert first.status_code == again.status_code == 202
    assert first.content == again.content
    assert first.headers["location"] == again.headers["location"]
    assert first.headers["content-type"] == again.headers["content-type"]
    assert "idempotency-replayed" not in first.headers
    assert again.headers["idempotency-replayed"] == "true"
    assert again.headers["x-request-id"] != first.headers["x-request-id"]
    assert post(stack, uuid.uuid4().hex).json()["id"] != first.json()["id"]


def test_refusal_is_repeated(stack: Any) -> None:
    key, body = uuid.uuid4().hex, {"model": "nosuch", "all": 1}
    first, again = post(stack, key, body=body), post(stack, key, body=body)
    assert first.status_code == again.status_code == 404
    assert first.json() == again.json()


@pytest.mark.parametrize("other", ["body", "path", "query"])
def test_other_request_under_the_same_key_is_refused(stack: Any, other: str) -> None:
    key = uuid.uuid4().hex
    job = post(stack, key).json()
    path = {"path": f"/v1/jobs/{job['id']}/extend", "query": "/v1/jobs?dry_run=true"}
    body = BODY | {"seed": 1} if other == "body" else BODY
    answer = post(stack, key, path.get(other, "/v1/jobs"), body)
    assert answer.status_code == 422
    assert answer.json()["field"] == "Idempotency-Key"
    assert "was used for another request" in answer.json()["detail"]


def test_fifty_at_once_make_one_job(stack: Any) -> None:
    key = uuid.uuid4().hex
    body = BODY | {"metadata": {"key": key}}
    with ThreadPoolExecutor(50) as pool:
        answers = list(pool.map(lambda _: post(stack, key, body=body), range(50)))
    done = [answer.json()["id"] for answer in answers if answer.status_code == 202]
    waiting = [answer for answer in answers if answer.status_code == 409]
    assert len(done) + len(waiting) == 50
    assert len(set(done)) == 1
    assert {answer.json()["type"] for answer in waiting} <= {"urn:datagen:problem:in-flight"}
    assert {answer.headers["retry-after"] for answer in waiting} <= {"1"}
    listed = stack.http.get("/v1/jobs", params={"limit": 200}).json()["items"]
    assert [job["metadata"].get("key") for job in listed].count(key) == 1


def test_keys_of_two_owners_have_nothing_to_do_with_each_other(stack: Any) -> None:
    key = uuid.uuid4().hex
    mine = post(stack, key).json()
    other = stack.http.post("/v1/keys", json={"owner": "team-c"}).json()["key"]
    headers = {"Authorization": f"Bearer {other}", "Idempotency-Key": key}
    with httpx.Client(base_url=stack.url, headers=headers, trust_env=False) as http:
        theirs = http.post("/v1/jobs", json=BODY)
    assert theirs.status_code == 202
    assert theirs.json()["id"] != mine["id"]


def test_key_that_was_made_is_not_kept_for_a_second_telling(stack: Any) -> None:
    key = uuid.uuid4().hex
    made = post(stack, key, "/v1/keys", {"owner": "team-c"})
    assert made.status_code == 201
    again = post(stack, key, "/v1/keys", {"owner": "team-c"})
    assert again.status_code == 409
    assert "its answer is not stored" in again.json()["detail"]
    secret = made.json()["key"].split("_")[2]
    for name in ("datagen.db", "datagen.db-wal"):
        assert secret.encode() not in (stack.home / name).read_bytes()


@pytest.mark.parametrize("key", ["", "x" * 201, "é", "a\tb"])
def test_key_that_cannot_be_one_is_refused(stack: Any, key: str) -> None:
    headers = {b"Idempotency-Key": key.encode("latin-1")}
    answer = stack.http.post("/v1/jobs", json=BODY, headers=headers)
    assert answer.status_code == 422
    assert answer.json()["field"] == "Idempotency-Key"


def test_request_without_a_key_to_the_api_is_401_and_keeps_nothing(stack: Any) -> None:
    key = uuid.uuid4().hex
    with httpx.Client(base_url=stack.url, trust_env=False) as http:
        for _ in range(2):
            answer = http.post("/v1/jobs", json=BODY, headers={"Idempotency-Key": key})
            assert answer.status_code == 401
    assert post(stack, key).status_code == 202


def upload(stack: Any, key: str, *parts: bytes, name: str = "d") -> httpx.Response:
    """A body that says nothing of its length."""
    return stack.http.post(
        f"/v1/datasets?name={name}", content=iter(parts), headers={"Idempotency-Key": key}
    )


def test_upload_in_chunks_is_compared_by_its_bytes(stack: Any) -> None:
    key = uuid.uuid4().hex
    first, again = upload(stack, key, b"bo", b"dy"), upload(stack, key, b"b", b"ody")
    assert first.status_code == again.status_code == 422
    assert again.headers["idempotency-replayed"] == "true"
    assert again.json() == first.json()
    other = upload(stack, key, b"bo", b"dx")
    assert other.status_code == 422
    assert other.json()["field"] == "Idempotency-Key"


def test_upload_that_was_refused_unread_may_come_again(stack: Any) -> None:
    key = uuid.uuid4().hex
    for _ in range(2):
        answer = upload(stack, key, *[b"x" * 65_536] * 20, name="No!")
        assert answer.status_code == 422
        assert answer.json()["field"] == "name"
        assert "idempotency-replayed" not in answer.headers


def test_body_beyond_the_limit_leaves_the_key_free(stack: Any) -> None:
    key = uuid.uuid4().hex
    headers = {"Idempotency-Key": key}
    large = b" " * 3_000_000
    assert stack.http.post("/v1/jobs", content=large, headers=headers).status_code == 413
    assert post(stack, key).status_code == 202
    # A route that reads no body does its work whatever was sent.
    headers = {"Idempotency-Key": uuid.uuid4().hex}
    for _ in range(2):
        answer = stack.http.post("/v1/me/sign-in-links", content=large, headers=headers)
        assert answer.status_code == 201


@pytest.mark.parametrize("key", ["read", "wrong"])
def test_body_is_not_read_for_a_key_that_may_not_send_it(stack: Any, key: str) -> None:
    made = stack.http.post("/v1/keys", json={"owner": "team-c", "scopes": ["read"]}).json()["key"]
    text = made if key == "read" else made[:-4] + "aaaa"
    # A body beyond the limit would be 413, were it read.
    body = iter([b" " * 65_536] * 64)
    with httpx.Client(base_url=stack.url, trust_env=False) as http:
        headers = {"Authorization": f"Bearer {text}"}
        answer = http.post("/v1/jobs", content=body, headers=headers)
    assert answer.status_code == (403 if key == "read" else 401)
