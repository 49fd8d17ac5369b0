from __future__ import annotations

import hashlib
import io
import json
import zipfile
from typing import Any

import pytest

pytestmark = pytest.mark.xdist_group("stack")


@pytest.fixture(scope="module")
def export(stack: Any, job: Any) -> Any:
    made = stack.created("/v1/exports", {"job": job["id"], "format": "imagefolder"})
    ended = stack.ended(f"/v1/exports/{made['id']}")
    assert ended["state"] == "succeeded", ended
    return ended


def test_export_knows_its_size_and_digest(stack: Any, job: Any, export: Any) -> None:
    assert (export["job"], export["format"]) == (job["id"], "imagefolder")
    assert export["images_written"] == export["images_total"] == 50
    archive = stack.http.get(f"/v1/exports/{export['id']}/download")
    assert hashlib.sha256(archive.content).hexdigest() == export["digest"]
    assert len(archive.content) == export["bytes"]


def test_archive_holds_the_images_and_a_manifest_of_them(stack: Any, export: Any) -> None:
    archive = stack.http.get(f"/v1/exports/{export['id']}/download")
    with zipfile.ZipFile(io.BytesIO(archive.content)) as files:
        assert files.testzip() is None
        images = [name for name in files.namelist() if name.endswith(".png")]
        manifest = json.loads(files.read("manifest.json"))
    assert len(images) == 50
    assert sum(name.startswith("train/3/") for name in images) == 30
    assert manifest


def test_download_has_safe_headers(stack: Any, export: Any) -> None:
    headers = stack.http.get(f"/v1/exports/{export['id']}/download").headers
    assert headers["content-disposition"].startswith('attachment; filename="datagen-imagefolder-')
    assert headers["x-content-type-options"] == "nosniff"
    assert headers["etag"] == f'"{export["digest"]}"'
    assert int(headers["content-length"]) == export["bytes"]


def test_download_continues_by_range(stack: Any, export: Any) -> None:
    path = f"/v1/exports/{export['id']}/download"
    whole = stack.http.get(path).content
    half = len(whole) // 2
    rest = stack.http.get(
        path, headers={"Range": f"bytes={half}-", "If-Range": f'"{export["digest"]}"'}
    )
    assert rest.status_code == 206
    assert rest.headers["content-range"] == f"bytes {half}-{len(whole) - 1}/{len(whole)}"
    assert whole[:half] + rest.content == whole


def test_range_beyond_the_end_is_416(stack: Any, export: Any) -> None:
    path = f"/v1/exports/{export['id']}/download"
    assert stack.http.get(path, headers={"Range": "bytes=999999999-"}).status_code == 416


def test_exports_are_listed_by_job(stack: Any, job: Any, export: Any) -> None:
    found = stack.http.get("/v1/exports", params={"job": job["id"]}).json()["items"]
    assert export["id"] in {one["id"] for one in found}
    nobody = stack.http.get("/v1/exports", params={"job": export["id"]}).json()["items"]
    assert nobody == []


def test_formats_are_listed(stack: Any) -> None:
    assert {"imagefolder", "parquet"} <= set(stack.http.get("/v1/formats").json()["items"])


def test_unknown_format_and_job_are_refused(stack: Any, job: Any) -> None:
    unknown = stack.http.post("/v1/exports", json={"job": job["id"], "format": "nope"})
    assert unknown.status_code == 422
    assert unknown.json()["field"] == "format"
    assert "imagefolder" in unknown.json()["detail"]
    missing = stack.http.post(
        "/v1/exports", json={"job": "00000000-0000-7000-8000-000000000000", "format": "parquet"}
    )
    assert missing.status_code == 404


def test_exports_of_a_job_follow_it(stack: Any) -> None:
    made = stack.created("/v1/jobs", {"model": "mnist", "all": 1, "exports": ["parquet"]})
    ended = stack.ended(f"/v1/jobs/{made['id']}")
    (export_id,) = ended["exports"]
    followed = stack.ended(f"/v1/exports/{export_id}")
    assert (followed["state"], followed["format"]) == ("succeeded", "parquet")
