from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from running import Service, wait_until

pytestmark = pytest.mark.timeout(1500)

BATCHES = 2_000
BATCH_SIZE = 100
# What an allocator may keep for good; a leak of one image a batch would be more.
ALLOWED_GROWTH = 40_000_000


def test_memory_does_not_grow_over_two_thousand_batches(
    services: Callable[..., Service], tmp_path: Path
) -> None:
    service = services(tmp_path / "home", workers=1, batch_size=BATCH_SIZE)
    service.start()
    job = service.client.jobs.create("mnist", {"3": BATCHES * BATCH_SIZE})

    def memory_after(batches: int) -> dict[int, int]:
        wait_until(
            lambda: service.client.jobs.get(job.id).images_stored >= batches * BATCH_SIZE, 900.0
        )
        return {process.pid: process.memory_info().rss for process in service.tree()}

    early, late = memory_after(BATCHES // 4), memory_after(BATCHES)
    grown = {pid: late[pid] - rss for pid, rss in early.items() if pid in late}
    assert len(grown) >= 8
    assert max(grown.values()) < ALLOWED_GROWTH, grown
    assert service.wait_for_end(job.id) == "succeeded"
    service.assert_whole(job.id)
    assert service.stop() == 0
    wait_until(lambda: not service.survivors())
