"""Keys over HTTP and by command, and what each of them opens."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import httpx
import pytest

pytestmark = pytest.mark.xdist_group("stack")


@contextmanager
def asking_with(stack: Any, key: str) -> Iterator[httpx.Client]:
    headers = {"Authorization": f"Bearer {key}"}
    with httpx.Client(base_url=stack.url, headers=headers, trust_env=False) as http:
        yield http


def made(stack: Any, **wanted: Any) -> Any:
    answer = stack.http.post("/v1/keys", json={"owner": "team-a"} | wanted)
    assert answer.status_code == 201, answer.text
    assert answer.headers["location"] == f"/v1/keys/{answer.json()['id']}"
    return answer.json()


def test_key_is_shown_once_and_opens_for_its_owner(stack: Any) -> None:
    key = made(stack, scopes=["read"], expires_in=3600)
    with asking_with(stack, key["key"]) as http:
        me = http.get("/v1/me").json()
    assert (me["owner"], me["key"]["id"], me["key"]["scopes"]) == ("team-a", key["id"], ["read"])
    assert me["key"]["expires_at"] == key["expires_at"]
    secret = key["key"].split("_")[2]
    listed = stack.http.get("/v1/keys", params={"owner": "team-a", "limit": 1000})
    assert key["id"] in [one["id"] for one in listed.json()["items"]]
    assert secret not in listed.text
    assert secret not in stack.http.get(f"/v1/keys/{key['id']}").text
    assert secret not in (stack.home / "datagen.db").read_bytes().decode("latin-1")


def test_keys_are_for_administrators_alone(stack: Any) -> None:
    key = made(stack, scopes=["read", "write"])
    with asking_with(stack, key["key"]) as http:
        for method, path in (
            ("POST", "/v1/keys"),
            ("GET", "/v1/keys"),
            ("GET", f"/v1/keys/{key['id']}"),
            ("POST", f"/v1/keys/{key['id']}/revoke"),
            ("POST", f"/v1/keys/{key['id']}/rotate"),
        ):
            answer = http.request(method, path, json={"owner": "team-a"})
            assert answer.status_code == 403, path
            assert "scope 'admin'" in answer.json()["detail"]


def test_revoked_key_opens_nothing(stack: Any) -> None:
    key = made(stack)
    revoked = stack.http.post(f"/v1/keys/{key['id']}/revoke").json()
    again = stack.http.post(f"/v1/keys/{key['id']}/revoke").json()
    assert (revoked["state"], again) == ("revoked", revoked)
    with asking_with(stack, key["key"]) as http:
        assert http.get("/v1/me").status_code == 401
    assert stack.http.post(f"/v1/keys/{key['id']}/rotate", json={}).status_code == 409


def test_key_that_asks_cannot_revoke_itself(stack: Any) -> None:
    mine = stack.http.get("/v1/me").json()["key"]["id"]
    answer = stack.http.post(f"/v1/keys/{mine}/revoke")
    assert answer.status_code == 409
    assert "rotate it" in answer.json()["detail"]


@pytest.mark.parametrize("grace", [0, 600])
def test_rotated_key_is_replaced_and_opens_for_its_grace(stack: Any, grace: int) -> None:
    key = made(stack, scopes=["read"])
    fresh = stack.http.post(f"/v1/keys/{key['id']}/rotate", json={"grace": grace}).json()
    assert (fresh["owner"], fresh["scopes"]) == ("team-a", ["read"])
    with asking_with(stack, key["key"]) as old, asking_with(stack, fresh["key"]) as new:
        assert old.get("/v1/me").status_code == (200 if grace else 401)
        assert new.get("/v1/me").status_code == 200


@pytest.mark.parametrize(
    ("wanted", "field"),
    [
        ({"owner": "Team A"}, "owner"),
        ({"owner": "team-a", "scopes": []}, "scopes"),
        ({"owner": "team-a", "scopes": ["all"]}, "scopes.0"),
        ({"owner": "team-a", "expires_in": 0}, "expires_in"),
        ({"owner": "team-a", "quota_images": -1}, "quota_images"),
        ({"owner": "team-a", "colour": "red"}, "colour"),
        ({}, "owner"),
    ],
)
def test_bad_request_for_a_key_names_the_field(stack: Any, wanted: Any, field: str) -> None:
    answer = stack.http.post("/v1/keys", json=wanted)
    assert answer.status_code == 422
    assert answer.json()["field"] == field


def test_keys_come_in_pages_newest_first(stack: Any) -> None:
    keys = [made(stack, owner="team-pages")["id"] for _ in range(5)]
    seen, cursor = [], None
    while True:
        query = {"owner": "team-pages", "limit": 2} | ({} if cursor is None else {"cursor": cursor})
        page = stack.http.get("/v1/keys", params=query).json()
        seen += [key["id"] for key in page["items"]]
        cursor = page["next_cursor"]
        if cursor is None:
            break
    assert seen == keys[::-1]
    assert stack.http.get("/v1/keys", params={"cursor": "eyJ4Ijox"}).status_code == 422
    for name in ("nosuchkey", "x" * 60, "a%00b", "..%2f"):
        assert stack.http.get(f"/v1/keys/{name}").status_code == 404


def test_quota_belongs_to_the_owner_and_is_shown(stack: Any) -> None:
    key = made(stack, owner="team-small", quota_images=10)
    with asking_with(stack, key["key"]) as http:
        assert http.get("/v1/me").json()["images"] == {"quota": 10, "used": 0}
        refused = http.post("/v1/jobs", json={"model": "mnist", "labels": {"3": 11}})
        assert refused.status_code == 422
        assert "10 of the quota of 10 are left" in refused.json()["detail"]


def test_commands_make_show_and_end_keys(stack: Any) -> None:
    wanted = ("key", "create", "--owner", "team-b", "--scopes", "read", "--expires", "90d")
    ran = stack.command(*wanted, "--quota-images", "1000000")
    assert ran.code == 0, ran.err
    key = ran.out.strip()
    assert key.startswith("dg_")
    assert "not shown again" in ran.err
    listed = stack.command("key", "list", "--owner", "team-b")
    assert key.split("_")[1] in listed.out
    assert key not in listed.out
    fresh = stack.command("key", "rotate", key, "--grace", "1h", "--json").json
    assert fresh["owner"] == "team-b"
    revoked = stack.command("key", "revoke", fresh["id"], "--json").json
    assert revoked["state"] == "revoked"
    bad = stack.command("key", "create", "--owner", "team-b", "--expires", "soon")
    assert bad.code == 2
    assert "--expires is 'soon'" in bad.err
    none = stack.command("key", "revoke", "nosuchkey")
    assert none.code == 1
    assert "There is no key 'nosuchkey'" in none.err
