from __future__ import annotations

import hashlib
import io
import json
import re
import subprocess
import tarfile
import zipfile
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest
from running import wait_until

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
        images = [name for name in files.namelist() if name.startswith("train/") and "png" in name]
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


def test_tar_is_made_on_the_fly_and_continues_by_range(stack: Any, export: Any) -> None:
    path = f"/v1/exports/{export['id']}/download"
    answer = stack.http.get(path, params={"archive": "tar"})
    whole = answer.content
    assert answer.headers["content-type"] == "application/x-tar"
    assert int(answer.headers["content-length"]) == len(whole)
    archive = zipfile.ZipFile(io.BytesIO(stack.http.get(path).content))
    with tarfile.open(fileobj=io.BytesIO(whole)) as tar:
        assert tar.getnames() == archive.namelist()
        for name in tar.getnames()[::7]:
            member = tar.extractfile(name)
            assert member is not None
            assert member.read() == archive.read(name)
    rest = stack.http.get(
        path,
        params={"archive": "tar"},
        headers={"Range": "bytes=10000-", "If-Range": answer.headers["etag"]},
    )
    assert rest.status_code == 206
    assert rest.content == whole[10000:]


def test_single_files_are_fetched_by_their_path(stack: Any, export: Any) -> None:
    base = f"/v1/exports/{export['id']}/files"
    manifest = stack.http.get(f"{base}/manifest.json").json()
    path, told = next(item for item in manifest["files"].items() if item[0].startswith("train/3/"))
    answer = stack.http.get(f"{base}/{path}")
    assert hashlib.sha256(answer.content).hexdigest() == told["sha256"]
    assert answer.headers["etag"] == f'"{told["sha256"]}"'
    assert answer.headers["content-type"] == "image/png"
    part = stack.http.get(f"{base}/{path}", headers={"Range": "bytes=1-3"})
    assert (part.status_code, part.content) == (206, b"PNG")
    again = stack.http.get(f"{base}/{path}", headers={"If-None-Match": answer.headers["etag"]})
    assert again.status_code == 304


def test_every_file_comes_as_a_type_that_the_document_names(stack: Any, export: Any) -> None:
    base = f"/v1/exports/{export['id']}/files"
    paths = stack.http.get("/openapi.json").json()["paths"]
    answers = paths["/v1/exports/{export_id}/files/{path}"]["get"]["responses"]
    for name in ("manifest.json", *stack.http.get(f"{base}/manifest.json").json()["files"]):
        found = stack.http.get(f"{base}/{name}", headers={"Range": "bytes=0-1"})
        assert found.status_code == 206, name
        assert found.headers["content-type"].partition(";")[0] in answers["206"]["content"], name
    assert answers["200"]["content"] == answers["206"]["content"]


@pytest.mark.parametrize("path", ["nothing.png", "../manifest.json", "train", "%2e%2e/x", "a%00"])
def test_file_that_is_not_there_is_404(stack: Any, export: Any, path: str) -> None:
    answer = stack.http.get(f"/v1/exports/{export['id']}/files/{path}")
    assert answer.status_code == 404
    assert answer.headers["content-type"] == "application/problem+json"


def test_link_needs_no_key_and_can_be_continued_by_curl(
    stack: Any, export: Any, tmp_path: Path
) -> None:
    made = stack.http.post(f"/v1/exports/{export['id']}/links", json={})
    assert made.status_code == 201
    url = made.json()["url"]
    out = tmp_path / "export.zip"
    whole = httpx.get(url)
    assert hashlib.sha256(whole.content).hexdigest() == export["digest"]
    out.write_bytes(whole.content[:1000])
    subprocess.run(["curl", "-fsS", "-C", "-", "-o", str(out), url], check=True)
    assert out.read_bytes() == whole.content


def test_link_of_a_file_or_a_tar_gives_that_alone(stack: Any, export: Any) -> None:
    links = f"/v1/exports/{export['id']}/links"
    file = stack.http.post(links, json={"file": "manifest.json"}).json()["url"]
    assert httpx.get(file).json()["format"] == "imagefolder"
    assert httpx.get(file.replace("manifest.json", "README.md")).status_code == 403
    tar = stack.http.post(links, json={"archive": "tar"}).json()["url"]
    assert httpx.get(tar).headers["content-type"] == "application/x-tar"
    assert httpx.get(tar.replace("archive=tar", "archive=zip")).status_code == 403


def test_changed_or_expired_link_is_refused(stack: Any, export: Any) -> None:
    links = f"/v1/exports/{export['id']}/links"
    url = stack.http.post(links, json={"expires_in": 1}).json()["url"]
    later = re.sub(r"expires=(\d+)", lambda found: f"expires={int(found[1]) + 999}", url)
    for changed in (later, url[:-1] + ("0" if url[-1] != "0" else "1"), url.split("signature")[0] +
                    "signature=ä"):  # fmt: skip
        answer = httpx.get(changed)
        assert answer.status_code == 403
        assert "changed" in answer.json()["detail"]
    wait_until(lambda: httpx.get(url).status_code == 403, 10.0)
    assert "expired" in httpx.get(url).json()["detail"]
    assert stack.http.post(links, json={"expires_in": 0}).status_code == 422
    assert stack.http.post(links, json={"file": "nothing"}).status_code == 404


def test_export_of_splits_and_filters(stack: Any, job: Any) -> None:
    made = stack.created(
        "/v1/exports",
        {
            "job": job["id"],
            "format": "npz",
            "splits": {"train": 0.8, "test": 0.2},
            "labels": ["3"],
        },
    )
    assert made["images_total"] == 30
    assert "Synthetic images stand in test" in made["warnings"][0]
    ended = stack.ended(f"/v1/exports/{made['id']}")
    data = stack.http.get(f"/v1/exports/{ended['id']}/files/dataset.npz").content
    with np.load(io.BytesIO(data), allow_pickle=False) as arrays:
        assert (len(arrays["x_train"]), len(arrays["x_test"])) == (24, 6)
        assert set(arrays["y_test"].tolist()) == {3}


@pytest.mark.parametrize(
    ("wanted", "field", "told"),
    [
        ({"splits": {"train": 0.5, "test": 0.4}}, "splits", "add up to 0.9"),
        ({"splits": {"train": 0.5, "dev": 0.5}}, "splits", "no split 'dev'"),
        ({"format": "stylegan"}, "format", "power of two, and these are 28 x 28"),
        ({"labels": ["seven"]}, "labels", "no label 'seven'"),
        ({"indices": [5, 5]}, "indices", "5, 5"),
        ({"min_score": 1.5}, "min_score", "1.5"),
        ({"plan": {"fill": 5}}, "plan", "dataset"),
        ({"format": "webdataset", "labels": ["4"]}, "job", "nothing to export"),
    ],
)
def test_what_cannot_be_exported_is_refused_in_a_sentence(
    stack: Any, job: Any, wanted: Any, field: str, told: str
) -> None:
    answer = stack.http.post("/v1/exports", json={"job": job["id"], "format": "parquet"} | wanted)
    assert answer.status_code == 422
    assert answer.json().get("field") == field
    assert told in answer.json()["detail"]


def test_export_that_ended_cannot_be_cancelled_and_can_be_removed(stack: Any, job: Any) -> None:
    made = stack.created("/v1/exports", {"job": job["id"], "format": "npz"})
    stack.ended(f"/v1/exports/{made['id']}")
    assert stack.http.post(f"/v1/exports/{made['id']}/cancel").status_code == 409
    assert stack.http.delete(f"/v1/exports/{made['id']}").status_code == 204
    assert stack.http.get(f"/v1/exports/{made['id']}").status_code == 404


def test_exports_are_listed_by_job(stack: Any, job: Any, export: Any) -> None:
    found = stack.http.get("/v1/exports", params={"job": job["id"]}).json()["items"]
    assert export["id"] in {one["id"] for one in found}
    nobody = stack.http.get("/v1/exports", params={"job": export["id"]}).json()["items"]
    assert nobody == []


def test_formats_are_listed(stack: Any) -> None:
    found = {one["name"]: one for one in stack.http.get("/v1/formats").json()["items"]}
    assert set(found) >= {
        "fiftyone", "idx", "imagefolder", "npz", "parquet", "stylegan", "tfrecord", "webdataset"
    }  # fmt: skip
    assert (found["idx"]["grey"], found["idx"]["rgb"]) == (True, False)
    assert found["parquet"]["splits"] == ["train", "validation", "test"]


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


def test_destination_that_the_operator_has_not_named_is_refused(stack: Any, job: Any) -> None:
    wanted = {"job": job["id"], "format": "npz", "destination": "s3://anywhere"}
    answer = stack.http.post("/v1/exports", json=wanted)
    assert answer.status_code == 422
    assert answer.json()["field"] == "destination"
    assert "DATAGEN_EXPORT_DESTINATIONS" in answer.json()["detail"]
    stray = stack.http.post("/v1/exports", json={"job": job["id"], "format": "npz", "path": "x"})
    assert stray.status_code == 422
