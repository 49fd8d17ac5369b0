"""The whole stack on a real S3 server in place of a folder."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from running import Service, wait_until
from s3 import S3

from datagen.export.manifest import problems

pytestmark = pytest.mark.timeout(600)


@pytest.fixture(scope="module")
def service(
    services: Callable[..., Service], s3: S3, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Service]:
    service = services(
        tmp_path_factory.mktemp("s3") / "home",
        workers=1,
        storage_url=f"s3://{s3.bucket}/store",
        export_destinations=f"bucket=s3://{s3.bucket}/sets",
    )
    service.environment |= s3.environment
    service.start()
    yield service
    assert service.stop() == 0
    wait_until(lambda: not service.survivors())


@pytest.fixture(scope="module")
def export(service: Service) -> Any:
    job = service.client.jobs.create("mnist", {"3": 20, "8": 10}, seed=1)
    assert service.client.jobs.wait(job.id).state == "succeeded"
    made = service.client.exports.create(job.id, "imagefolder")
    ended = service.client.exports.wait(made.id)
    assert ended.state == "succeeded", ended.error
    return ended


def test_export_comes_from_s3_whole_and_by_file(
    service: Service, export: Any, tmp_path: Path
) -> None:
    out = service.client.exports.download(export.id, tmp_path / "out")
    assert problems(out) == []
    link = service.client.exports.link(export.id, file="manifest.json")
    assert httpx.get(link.url).content == (out / "manifest.json").read_bytes()
    tar = service.client.exports.link(export.id, archive="tar")
    part = httpx.get(tar.url, headers={"Range": "bytes=512-1023"})
    assert (part.status_code, len(part.content)) == (206, 512)


def test_link_of_a_zip_leads_straight_to_s3(service: Service, s3: S3, export: Any) -> None:
    link = service.client.exports.link(export.id, expires_in=60)
    assert link.url.startswith(s3.endpoint)
    answer = httpx.get(link.url)
    assert hashlib.sha256(answer.content).hexdigest() == export.digest
    assert "attachment" in answer.headers["content-disposition"]


def test_destination_on_s3_holds_the_files(service: Service, s3: S3, export: Any) -> None:
    made = service.client.exports.create(
        export.job, "parquet", destination="bucket", path="digits", overwrite=True
    )
    ended = service.client.exports.wait(made.id)
    assert (ended.state, ended.location) == ("succeeded", "bucket/digits"), ended.error
    listing = httpx.get(f"{s3.endpoint}/{s3.bucket}", params={"prefix": "sets/digits/"}).text
    for name in ("manifest.json", "README.md", "data/train-00000-of-00001.parquet"):
        assert f"sets/digits/{name}" in listing
    assert "unfinished" not in listing
