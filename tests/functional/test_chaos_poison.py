from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from uuid import UUID

import pytest
from running import Service, wait_until

# Workers that import torch again and again take long where others use the cores.
pytestmark = pytest.mark.timeout(600)

MAX_ATTEMPTS = 3
# The first batch of a job is small and gets through; the second takes seconds.
POISONED = 40_000


def start_that_is_killed(service: Service, job_id: UUID, starts: int) -> bool:
    """Whether the poisoned batch was caught running, for the first time since `starts` starts."""
    pool = service.pool()
    for process in pool:
        process.suspend()
    batch = service.batches(job_id)[-1]
    caught = batch.state == "running" and batch.attempt > starts
    for process in pool:
        if caught:
            process.kill()
        elif process.is_running():
            process.resume()
    return caught


def test_poison_is_tried_so_often_and_no_more_and_harms_no_other_job(
    services: Callable[..., Service], tmp_path: Path
) -> None:
    service = services(
        tmp_path / "home",
        workers=1,
        batch_size=POISONED,
        max_attempts=MAX_ATTEMPTS,
        lease_seconds=2,
        tick_seconds=0.5,
        backoff_seconds=0.5,
        resend_seconds=3,
    )
    service.start()
    poison = service.client.jobs.create("mnist", {"3": POISONED}, seed=1)
    wait_until(lambda: service.batches(poison.id)[0].state == "succeeded")
    other = service.client.jobs.create("mnist", per_label=10, seed=2)

    for starts in range(MAX_ATTEMPTS):
        wait_until(lambda before=starts: start_that_is_killed(service, poison.id, before))

    assert service.wait_for_end(poison.id) == "failed"
    assert service.batches(poison.id)[-1].attempt == MAX_ATTEMPTS
    failed = service.client.jobs.get(poison.id)
    assert f"in {MAX_ATTEMPTS} attempts" in str(failed.error)
    assert "killed" in str(failed.error)
    assert failed.images_stored == 256

    assert service.wait_for_end(other.id) == "succeeded"
    service.assert_whole(other.id)

    export = service.client.exports.create(poison.id, "parquet")
    assert service.client.exports.wait(export.id, timeout=60).images_written == 256
    assert service.stop() == 0
    wait_until(lambda: not service.survivors())
