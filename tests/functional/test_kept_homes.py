"""Homes that older versions made: upgraded by this one, whole, and gone on from."""

from __future__ import annotations

import hashlib
import json
import tarfile
from collections.abc import Callable
from pathlib import Path

import pyarrow.parquet as pq
import pytest
from commands import Datagen
from kept_home import EXPECTED
from running import Service, wait_until

from datagen.client import Client
from datagen.client.resources import Run
from datagen.db import migrate
from datagen.images import decode_pngs

HOMES = sorted(Path(__file__).parents[1].joinpath("data", "homes").glob("*.tar.xz"))
# Without one, the test below would have nothing to do and pass.
assert HOMES

pytestmark = pytest.mark.timeout(600)


@pytest.mark.parametrize("kept", HOMES, ids=lambda path: path.name.partition(".")[0])
def test_home_of_an_older_version_is_upgraded_read_and_gone_on_from(
    services: Callable[..., Service], datagen: Datagen, tmp_path: Path, kept: Path
) -> None:
    home = tmp_path / "home"
    with tarfile.open(kept) as archive:
        archive.extractall(home, filter="data")
    expected = json.loads((home / EXPECTED).read_text())

    upgraded = datagen.run("db", "upgrade", "--json", environment={"DATAGEN_HOME": str(home)})

    assert (upgraded.code, upgraded.json["revision"]) == (0, migrate.head())
    service = services(home, workers=1)
    service.start()
    client = service.client
    assert_all_is_there(service, expected)

    job = client.jobs.extend(expected["job"], {"3": 5})
    assert client.jobs.wait(job.id).state == "succeeded"
    service.assert_whole(job.id)
    digests = [sample.digest for sample in client.jobs.samples(job.id)]
    # What was there is the same; what is new came to it.
    assert set(expected["digests"]) < set(digests)
    assert len(digests) == len(expected["digests"]) + 5
    assert sorted(exported(service, job.id, tmp_path)) == sorted(digests)

    run = client.runs.wait(run_of(client, "nightly").id)
    assert run.state == "succeeded", run.error
    assert_same_images_again(client, expected["run"]["job"])
    checked = datagen.run("db", "check", "--json", environment={"DATAGEN_HOME": str(home)})
    assert (checked.code, checked.json["problems"]) == (0, [])
    assert service.stop() == 0
    wait_until(lambda: not service.survivors())


def assert_all_is_there(service: Service, expected: dict[str, object]) -> None:
    """What the older version made is read, and is the same."""
    client = service.client
    assert str(client.datasets.get("insects").id) == expected["dataset"]
    model = client.models.get("insects")
    assert {"id": str(model.id), "digest": model.digest} == expected["model"]
    job = str(expected["job"])
    assert [sample.digest for sample in client.jobs.samples(job)] == expected["digests"]
    assert hashlib.sha256(client.jobs.image(job, 0)).hexdigest() == expected["digests"][0]  # type: ignore[index]
    for export_id, digest in dict(expected["exports"]).items():  # type: ignore[call-overload]
        assert client.exports.get(export_id).digest == digest
        archive = service.home / "storage" / "exports"
        (path,) = [found for found in archive.rglob("*.zip") if export_id in str(found)]
        assert hashlib.sha256(path.read_bytes()).hexdigest() == digest
    assert str(client.webhooks.list().items[0].id) == expected["webhook"]
    assert client.pipelines.get("nightly").next_due_at is not None
    run = client.runs.get(expected["run"]["id"])  # type: ignore[index]
    assert (run.state, str(run.job)) == ("succeeded", expected["run"]["job"])  # type: ignore[index]
    with Client(service.url, str(expected["key"])) as reader:
        assert reader.models.list().items


def assert_same_images_again(client: Client, job_id: str) -> None:
    """A job of the older version, made again by its own model and seed, but for rounding."""
    before = client.jobs.get(job_id)
    again = client.jobs.create(
        str(before.model.id),
        {label.label: label.stored for label in before.labels},
        seed=before.seed, sampler=before.sampler, temperature=before.temperature, gate=None,
    )  # fmt: skip
    assert client.jobs.wait(again.id).state == "succeeded"
    pairs = [
        [decode_pngs([client.jobs.image(job, row)])[0].astype(int) for job in (before.id, again.id)]
        for row in range(before.images_stored)
    ]
    assert len(pairs) >= 6
    # Another processor rounds otherwise.
    assert max(int(abs(one - other).max()) for one, other in pairs) <= 2


def run_of(client: Client, pipeline: str) -> Run:
    """A run started now, once the one that the schedule missed at two in the morning has ended."""
    client.pipelines.pause(pipeline)
    for run in client.pipelines.history(pipeline).items:
        client.runs.wait(run.id)
    return client.pipelines.run(pipeline)


def exported(service: Service, job_id: object, folder: Path) -> list[str]:
    """Digests of the images of a new export of a job."""
    made = service.client.exports.wait(service.client.exports.create(job_id, "parquet").id)
    out = service.client.exports.download(made.id, folder / "out")
    tables = [pq.read_table(path, columns=["image"]) for path in Path(out).rglob("*.parquet")]
    images = [png for one in tables for png in one["image"].combine_chunks().field("bytes")]
    return [hashlib.sha256(png.as_py()).hexdigest() for png in images]
