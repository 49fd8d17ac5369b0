"""The whole stack on a real S3 server in place of a folder."""

from __future__ import annotations

import hashlib
import http.server
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from commands import Datagen, Ran
from running import Service, started
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
    with started(service):
        yield service


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
    # Newer buckets of AWS, and SeaweedFS, refuse links of the older signature.
    assert "X-Amz-Algorithm=AWS4-HMAC-SHA256" in link.url
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


def upgraded(datagen: Datagen, s3: S3, home: Path, bucket: str, *options: str, **more: str) -> Ran:
    environment = s3.environment | {
        "DATAGEN_HOME": str(home),
        "DATAGEN_STORAGE_URL": f"s3://{bucket}/store",
    }
    home.mkdir(exist_ok=True)
    return datagen.run("db", "upgrade", *options, environment=environment | more)


@pytest.mark.parametrize("region", ["us-east-1", "eu-central-1"])
def test_upgrade_creates_the_bucket_where_it_is_missing(
    datagen: Datagen, s3: S3, tmp_path: Path, region: str
) -> None:
    name, at = f"fresh-{region}", {"AWS_DEFAULT_REGION": region}
    first = upgraded(datagen, s3, tmp_path / "home", name, **at)
    assert first.code == 0, first.err
    assert f"The bucket '{name}' was missing and is created." in first.out
    again = upgraded(datagen, s3, tmp_path / "home", name, "--json", **at)
    assert (again.code, again.json["bucket"]) == (0, "there")
    assert httpx.get(f"{s3.endpoint}/{name}").status_code == 200


def test_upgrade_leaves_the_store_alone_where_it_is_set_or_no_bucket(
    datagen: Datagen, s3: S3, tmp_path: Path
) -> None:
    ran = upgraded(datagen, s3, tmp_path / "home", "untouched", "--no-bucket", "--json")
    assert (ran.code, ran.json["bucket"]) == (0, None)
    assert httpx.get(f"{s3.endpoint}/untouched").status_code == 404
    local = datagen.run(
        "db", "upgrade", "--json", environment={"DATAGEN_HOME": str(tmp_path / "home")}
    )
    assert (local.code, local.json["bucket"]) == (0, None)


@pytest.fixture
def refusing() -> Iterator[tuple[str, dict[str, int]]]:
    """A server that refuses: its URL, and the status that it answers each method with."""
    statuses: dict[str, int] = {}

    class Refusing(http.server.BaseHTTPRequestHandler):
        def refuse(self) -> None:
            body = b"<Error><Code>AccessDenied</Code><Message>Access Denied</Message></Error>"
            self.send_response(statuses[self.command])
            self.send_header("Content-Length", str(len(body) if self.command != "HEAD" else 0))
            self.end_headers()
            if self.command != "HEAD":
                self.wfile.write(body)

        do_HEAD = do_PUT = refuse  # noqa: N815 - the library's names

        def log_message(self, *_: object) -> None:
            pass

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Refusing) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}", statuses
        server.shutdown()


def test_bucket_that_may_not_be_looked_at_or_created_is_one_sentence(
    datagen: Datagen, s3: S3, tmp_path: Path, refusing: tuple[str, dict[str, int]]
) -> None:
    url, statuses = refusing
    statuses |= {"HEAD": 403, "PUT": 403}
    told = {"AWS_ENDPOINT_URL": url}
    hidden = upgraded(datagen, s3, tmp_path / "home", "theirs", **told)
    assert (hidden.code, "may not be looked at" in hidden.out) == (0, True), hidden.err
    statuses["HEAD"] = 404
    missing = upgraded(datagen, s3, tmp_path / "home", "theirs", **told)
    assert missing.code == 1
    assert "The bucket 'theirs' is missing and cannot be created (Access Denied)" in missing.err
    away = upgraded(datagen, s3, tmp_path / "home", "theirs", AWS_ENDPOINT_URL="http://127.0.0.1:9")
    assert away.code == 1
    assert "see that it runs" in away.err
