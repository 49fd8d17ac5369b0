"""An S3 server that fails: work goes on until it is whole, or fails with a sentence."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator
from pathlib import Path
from urllib.parse import urlsplit

import fsspec
import pytest
from digits import write_digits
from faulty_proxy import Faults, faulty
from running import IMPATIENT, Service, started, wait_until
from s3 import S3

from datagen.errors import DatagenError
from datagen.export.manifest import problems

pytestmark = pytest.mark.timeout(900)


@pytest.fixture(scope="module")
def proxied(s3: S3) -> Iterator[tuple[int, Faults]]:
    port = urlsplit(s3.endpoint).port
    assert port is not None
    with faulty(port) as made:
        yield made


@pytest.fixture
def faults(proxied: tuple[int, Faults]) -> Iterator[Faults]:
    yield proxied[1]
    proxied[1].clear()


@pytest.fixture(scope="module")
def service(
    services: Callable[..., Service],
    s3: S3,
    proxied: tuple[int, Faults],
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[Service]:
    service = services(
        tmp_path_factory.mktemp("s3") / "home",
        workers=1,
        batch_size=100,
        **IMPATIENT | {"lease_seconds": 3},
        max_attempts=20,
        storage_url=f"s3://{s3.bucket}/faulty",
    )
    service.environment |= s3.environment | {"AWS_ENDPOINT_URL": f"http://127.0.0.1:{proxied[0]}"}
    with started(service):
        yield service


def fail(faults: Faults, name: str) -> None:
    """Have the server fail for some connections."""
    faults.times = 12
    if name == "5xx":
        faults.refuse = 30
    elif name == "slow":
        faults.delay, faults.times = 1.0, None
    elif name == "half-written":
        faults.cut_request_after = 3_000
    else:
        faults.cut_after = 2_000


@pytest.mark.parametrize("name", ["5xx", "slow", "half-written", "reset"])
def test_job_and_export_are_whole_though_the_store_fails_for_a_while(
    service: Service, s3: S3, faults: Faults, name: str, tmp_path: Path
) -> None:
    client = service.client
    fail(faults, name)
    job = client.jobs.create("mnist", {"3": 300, "8": 100}, seed=1)
    assert service.wait_for_end(job.id) == "succeeded"
    export = client.exports.wait(client.exports.create(job.id, "imagefolder").id, timeout=300)
    assert export.state == "succeeded", export.error
    assert faults.staged
    faults.clear()

    digests = [sample.digest for sample in client.jobs.samples(job.id)]
    assert len(digests) == 400
    words = s3.environment
    store = fsspec.filesystem(
        "s3",
        endpoint_url=s3.endpoint,
        key=words["AWS_ACCESS_KEY_ID"],
        secret=words["AWS_SECRET_ACCESS_KEY"],
    )
    for batch in service.batches(job.id):
        stored = store.cat_file(f"{s3.bucket}/faulty/{batch.shard_key}")
        assert hashlib.sha256(stored).hexdigest() == batch.shard_digest
    out = client.exports.download(export.id, tmp_path / "out")
    assert problems(out) == []
    assert len(list((out / "train").rglob("*.png"))) == 400


def test_server_that_is_away_for_long_fails_the_work_with_a_sentence(
    services: Callable[..., Service], s3: S3, tmp_path: Path
) -> None:
    port = urlsplit(s3.endpoint).port
    assert port is not None
    with faulty(port) as (front, faults):
        service = services(
            tmp_path / "home", workers=1, backoff_seconds=0.1, tick_seconds=0.5, resend_seconds=2,
            max_attempts=2, storage_url=f"s3://{s3.bucket}/away",
        )  # fmt: skip
        service.environment |= s3.environment | {"AWS_ENDPOINT_URL": f"http://127.0.0.1:{front}"}
        service.start()
        # Its model is loaded from then on, and only what is made has to be stored.
        assert service.wait_for_end(service.client.jobs.create("mnist", {"3": 5}).id) == "succeeded"
        faults.refuse = 1_000_000
        job = service.client.jobs.create("mnist", {"3": 10})
        assert service.wait_for_end(job.id) == "failed"
        error = str(service.client.jobs.get(job.id).error)
        # What the server said, in its own words.
        assert error == (
            "Images 0 to 9 could not be made in 2 attempts: OSError: [Errno 16] Reduce your "
            "request rate."
        )
        assert service.client.jobs.get(job.id).images_stored == 0
        faults.clear()
        again = service.client.jobs.retry(job.id)
        assert service.wait_for_end(again.id) == "succeeded"
        assert service.stop() == 0
        wait_until(lambda: not service.survivors())


@pytest.mark.parametrize("name", ["5xx", "half-written"])
def test_upload_that_the_store_does_not_take_is_refused_and_whole_when_it_comes_again(
    service: Service, faults: Faults, name: str, tmp_path: Path
) -> None:
    write_digits(tmp_path / "photos", [60] * 2)
    faults.times = 1_000_000
    faults.refuse = 1_000_000 if name == "5xx" else 0
    faults.cut_request_after = 3_000 if name == "half-written" else None
    with pytest.raises(DatagenError) as refused:
        service.client.datasets.add(f"photos-{name}", tmp_path / "photos")
    assert "Traceback" not in str(refused.value)
    assert not any(one.name == f"photos-{name}" for one in service.client.datasets.list().items)
    faults.clear()
    made = service.client.datasets.add(f"photos-{name}", tmp_path / "photos")
    assert sum(map(sum, made.counts.values())) == 120
