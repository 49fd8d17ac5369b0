from __future__ import annotations

import random
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from uuid import UUID

import psutil
import pytest
from redis import Redis
from redis.exceptions import RedisError
from running import Service, wait_until

pytestmark = pytest.mark.timeout(1500)

CHAOS_SECONDS = 180.0
LEASE_SECONDS = 3.0
PER_LABEL = 3_000
JOBS_AT_ONCE = 3


class Chaos:
    """Does something terrible to a service, as a seed says."""

    def __init__(self, service: Service, seed: int) -> None:
        self._service = service
        self._chance = random.Random(seed)
        self.done: list[str] = []

    def strike(self) -> None:
        """One blow, while a batch is being made."""
        wait_until(self._is_at_work, 60.0)
        blow = self._chance.choice(
            [
                self._kill_pool,
                self._kill_program,
                self._freeze_pool,
                self._freeze_broker,
                self._flush,
            ]
        )
        with suppress(psutil.NoSuchProcess, RedisError):
            self.done.append(blow())

    def pause(self) -> None:
        """The peace between two blows."""
        time.sleep(self._chance.uniform(1.0, 8.0))

    def _is_at_work(self) -> bool:
        return self._service.at_work()

    def _kill_pool(self) -> str:
        pool = self._service.pool()
        for process in self._chance.sample(pool, self._chance.randint(0, len(pool))):
            process.kill()
        return "kill -9 in the pool"

    def _kill_program(self) -> str:
        name = self._chance.choice(
            ["valkey", "api", "worker", "export-worker", "control-worker", "beat"]
        )
        self._service.program(name).kill()
        return f"kill -9 {name}"

    def _freeze_pool(self) -> str:
        # Longer than the lease: another worker takes the batch over, and this one wakes up stale.
        self._freeze(self._service.pool(), 2.5 * LEASE_SECONDS)
        return "freeze the pool past its leases"

    def _freeze_broker(self) -> str:
        self._freeze([self._service.program("valkey")], self._chance.uniform(1.0, 10.0))
        return "freeze the broker"

    @staticmethod
    def _freeze(processes: list[psutil.Process], seconds: float) -> None:
        for process in processes:
            process.suspend()
        time.sleep(seconds)
        for process in processes:
            with suppress(psutil.NoSuchProcess):
                process.resume()

    def _flush(self) -> str:
        path = self._service.home / "valkey" / "valkey.sock"
        with Redis(unix_socket_path=str(path), socket_timeout=2) as broker:
            broker.flushall()
        return "FLUSHALL"


@pytest.mark.parametrize("seed", [1, 2])
def test_every_job_ends_whole_whatever_is_done_to_the_service(
    services: Callable[..., Service], tmp_path: Path, seed: int
) -> None:
    service = services(
        tmp_path / "home",
        workers=2,
        batch_size=500,
        max_attempts=100,
        lease_seconds=LEASE_SECONDS,
        tick_seconds=0.5,
        backoff_seconds=0.1,
        resend_seconds=5,
    )
    service.start()
    chaos = Chaos(service, seed)
    jobs: list[UUID] = []
    deadline = time.monotonic() + CHAOS_SECONDS
    while time.monotonic() < deadline:
        open_jobs = [
            job for job in service.client.jobs.list(limit=10).items if job.ended_at is None
        ]
        if len(open_jobs) < JOBS_AT_ONCE:
            made = service.client.jobs.create("mnist", per_label=PER_LABEL, exports=["parquet"])
            jobs.append(made.id)
        chaos.strike()
        chaos.pause()

    told = f"seed {seed}: {', '.join(chaos.done)}"
    assert len(set(chaos.done)) >= 4, told
    for job_id in jobs:
        assert service.wait_for_end(job_id, 240.0) == "succeeded", told
        service.assert_whole(job_id)
        for export_id in service.client.jobs.get(job_id).exports:
            assert service.client.exports.wait(export_id, timeout=120).state == "succeeded", told
    assert any(batch.attempt > 1 for job_id in jobs for batch in service.batches(job_id)), told
    assert service.orphans_after_sweep() == set()
    assert service.stop() == 0
    wait_until(lambda: not service.survivors())
