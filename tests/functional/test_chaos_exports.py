from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest
from running import IMPATIENT, Service, started, wait_until

from datagen.export.manifest import problems

# Workers that import torch again and again take long where others use the cores.
pytestmark = pytest.mark.timeout(600)

PER_LABEL = 1500


@pytest.fixture(scope="module")
def sets(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder that the operator lets exports be put into."""
    return tmp_path_factory.mktemp("sets")


@pytest.fixture(scope="module")
def service(
    services: Callable[..., Service], sets: Path, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Service]:
    service = services(
        tmp_path_factory.mktemp("chaos") / "home",
        workers=2,
        **IMPATIENT,
        export_destinations=f"disk={sets.as_uri()}",
    )
    with started(service):
        yield service


@pytest.fixture(scope="module")
def job(service: Service) -> Any:
    made = service.client.jobs.create("mnist", per_label=PER_LABEL, seed=1)
    return service.client.jobs.wait(made.id)


def kill_while_it_writes(
    service: Service, export_id: Any, begun: Callable[[], bool] = lambda: True
) -> None:
    """Kill -9 the export worker while it writes."""

    def tried() -> bool:
        worker = service.program("export-worker")
        everything = [worker, *worker.children(recursive=True)]
        for process in everything:
            process.suspend()
        export = service.client.exports.get(export_id)
        inside = export.state == "running" and begun()
        for process in everything:
            if process.is_running():
                process.kill() if inside else process.resume()
        assert inside or export.state in {"queued", "running"}, export
        return inside

    wait_until(tried)


def test_export_survives_kill_9_in_the_middle(service: Service, job: Any, tmp_path: Path) -> None:
    plain = service.client.exports.wait(service.client.exports.create(job.id, "fiftyone").id)
    export = service.client.exports.create(job.id, "fiftyone")
    kill_while_it_writes(service, export.id)

    ended = service.client.exports.wait(export.id, timeout=300)

    assert (ended.state, ended.digest) == ("succeeded", plain.digest)
    stored = list((service.home / "storage" / "exports").rglob("*.zip"))
    assert len([path for path in stored if str(export.id) in str(path)]) == 1
    out = service.client.exports.download(export.id, tmp_path / "out")
    assert problems(out) == []


def test_destination_shows_nothing_until_all_is_there(
    service: Service, job: Any, sets: Path
) -> None:
    export = service.client.exports.create(
        job.id, "imagefolder", destination="disk", path="digits/today"
    )
    incoming = sets / "digits" / f"today.incoming-{export.id}"
    kill_while_it_writes(service, export.id, (incoming / "train").exists)
    assert not (sets / "digits" / "today").exists()

    ended = service.client.exports.wait(export.id, timeout=300)

    assert (ended.state, ended.location) == ("succeeded", "disk/digits/today"), ended.error
    assert [path.name for path in (sets / "digits").iterdir()] == ["today"]
    assert problems(sets / "digits" / "today") == []
    manifest = (sets / "digits" / "today" / "manifest.json").read_bytes()
    assert ended.digest == hashlib.sha256(manifest).hexdigest()

    again = service.client.exports.create(
        job.id, "imagefolder", destination="disk", path="digits/today"
    )
    refused = service.client.exports.wait(again.id, timeout=300)
    assert refused.state == "failed"
    assert "There is an export at 'digits/today'" in str(refused.error)


def test_shard_that_was_lost_is_made_again_by_the_workers(service: Service, job: Any) -> None:
    first = service.batches(job.id)[0]
    shard = service.home / "storage" / str(first.shard_key)
    data = shard.read_bytes()
    shard.unlink()
    lost = service.client.exports.wait(service.client.exports.create(job.id, "npz").id)
    assert (lost.state, str(first.shard_key) in str(lost.error)) == ("failed", True)

    export = service.client.exports.create(job.id, "npz", repair=True)
    mended = service.client.exports.wait(export.id, timeout=300)

    assert mended.state == "succeeded", mended.error
    assert shard.read_bytes() == data
    service.assert_whole(job.id)


def test_no_process_is_left_of_those_that_were_killed(service: Service) -> None:
    def one_export_worker() -> bool:
        return service.program("export-worker").status() != psutil.STATUS_ZOMBIE

    assert wait_until(one_export_worker)
