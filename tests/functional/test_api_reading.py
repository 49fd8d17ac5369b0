"""Pages with links, answers that have not changed, and the files of /docs."""

from __future__ import annotations

from typing import Any

import httpx
import pytest

pytestmark = pytest.mark.xdist_group("stack")


def test_link_leads_through_all_pages(stack: Any, job: Any) -> None:
    url, seen = f"/v1/jobs/{job['id']}/samples?limit=20&label=3", []
    while url:
        answer = stack.http.get(url)
        seen += [sample["index"] for sample in answer.json()["items"]]
        url = answer.links.get("next", {}).get("url", "")
        assert not url or url.startswith("/v1/jobs/")
    assert seen == list(range(30))


@pytest.mark.parametrize(
    "path", ["/v1/jobs", "/v1/models", "/v1/exports", "/v1/datasets", "/v1/reports", "/v1/keys"]
)
def test_last_page_has_no_link(stack: Any, job: Any, path: str) -> None:
    answer = stack.http.get(path, params={"limit": 1000})
    assert answer.json()["next_cursor"] is None
    assert "link" not in answer.headers


def test_what_has_not_changed_is_not_sent_again(stack: Any, job: Any) -> None:
    path = f"/v1/jobs/{job['id']}"
    first = stack.http.get(path)
    tag = first.headers["etag"]
    assert tag.startswith('W/"')
    assert first.headers["cache-control"] == "private, no-cache"
    for given in (tag, tag.removeprefix("W/"), f'"x", {tag}', "*"):
        again = stack.http.get(path, headers={"If-None-Match": given})
        assert (again.status_code, again.content) == (304, b""), given
        assert again.headers["etag"] == tag
    for given in ('"x"', "", "W/x"):
        assert stack.http.get(path, headers={"If-None-Match": given}).content == first.content


def test_tag_changes_with_what_is_said(stack: Any) -> None:
    made = stack.created("/v1/jobs", {"model": "mnist", "labels": {"3": 1}, "gate": None})
    path = f"/v1/jobs/{made['id']}"
    tag = stack.http.get(path).headers["etag"]
    stack.ended(path)
    changed = stack.http.get(path, headers={"If-None-Match": tag})
    assert changed.status_code == 200
    assert changed.headers["etag"] != tag


def test_errors_and_files_keep_tags_of_their_own(stack: Any, job: Any) -> None:
    missing = stack.http.get("/v1/jobs/00000000-0000-7000-8000-000000000000")
    assert "etag" not in missing.headers
    image = stack.http.get(f"/v1/jobs/{job['id']}/samples/0/image")
    assert image.headers["etag"].startswith('"')


def test_documentation_comes_from_here_alone(stack: Any) -> None:
    page = httpx.get(stack.url + "/docs", trust_env=False)
    assert page.status_code == 200
    assert "script-src 'self'" in page.headers["content-security-policy"]
    assert "://" not in page.text
    assert "<script>" not in page.text
    for name in ("swagger-ui.css", "swagger-ui-bundle.js", "start.js", "swagger-ui.LICENSE"):
        asset = httpx.get(f"{stack.url}/docs/assets/{name}", trust_env=False)
        assert asset.status_code == 200, name
        assert asset.headers["x-content-type-options"] == "nosniff"
    for odd in ("../app.py", "%2e%2e/app.py", "..%2fapp.py", ""):
        asked = httpx.get(f"{stack.url}/docs/assets/{odd}", trust_env=False)
        assert asked.status_code in {404, 405}, odd
