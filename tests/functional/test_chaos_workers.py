from __future__ import annotations

from collections.abc import Callable, Iterator
from uuid import UUID

import psutil
import pytest
from redis import Redis
from running import IMPATIENT, Service, started, wait_until

from datagen.service.batches import FIRST_BATCH

# Workers that import torch again and again take long where others use the cores.
pytestmark = pytest.mark.timeout(600)

PER_LABEL = 600


@pytest.fixture(scope="module")
def service(
    services: Callable[..., Service], tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Service]:
    service = services(
        tmp_path_factory.mktemp("chaos") / "home",
        workers=2,
        batch_size=500,
        **IMPATIENT,
    )
    with started(service):
        yield service


def job_in_work(service: Service, seed: int) -> UUID:
    """A job of which some batches are stored and others are not."""
    job = service.client.jobs.create("mnist", per_label=PER_LABEL, seed=seed)
    wait_until(lambda: any(batch.state == "succeeded" for batch in service.batches(job.id)))
    return job.id


def kill_in_mid_batch(
    service: Service, job_id: UUID, victims: Callable[[], list[psutil.Process]]
) -> dict[UUID, int]:
    """Kill -9 while the pool runs batches; returns these batches with their attempts."""

    def tried() -> dict[UUID, int]:
        # Stopped first, so that no batch ends between the look and the kill.
        pool = service.pool()
        for process in pool:
            process.suspend()
        # Smaller ones may be run by the worker that is kept for them.
        attempts = {
            batch.id: batch.attempt
            for batch in service.batches(job_id)
            if batch.state == "running" and batch.stop - batch.start > FIRST_BATCH
        }
        for process in victims() if attempts else []:
            process.kill()
        for process in pool:
            if process.is_running():
                process.resume()
        return attempts

    return dict(wait_until(tried))


def assert_was_run_again(service: Service, job_id: UUID, killed: dict[UUID, int]) -> None:
    assert killed
    attempts = {batch.id: batch.attempt for batch in service.batches(job_id)}
    assert all(attempts[batch_id] > attempt for batch_id, attempt in killed.items())


def assert_succeeded_whole(service: Service, job_id: UUID) -> None:
    assert service.wait_for_end(job_id) == "succeeded"
    service.assert_whole(job_id)
    assert service.orphans_after_sweep() == set()


def test_job_survives_kill_9_of_the_pool(service: Service) -> None:
    job_id = job_in_work(service, seed=1)
    killed = kill_in_mid_batch(service, job_id, service.pool)
    assert_succeeded_whole(service, job_id)
    assert_was_run_again(service, job_id, killed)


def test_job_survives_kill_9_of_the_worker(service: Service) -> None:
    job_id = job_in_work(service, seed=2)
    worker = service.program("worker")
    pool = service.pool()
    killed = kill_in_mid_batch(service, job_id, lambda: [worker])
    wait_until(lambda: not any(process.is_running() for process in (worker, *pool)))
    assert_succeeded_whole(service, job_id)
    assert_was_run_again(service, job_id, killed)


def test_job_survives_kill_9_of_the_broker(service: Service) -> None:
    job_id = job_in_work(service, seed=3)
    broker = service.program("valkey")
    broker.kill()
    assert_succeeded_whole(service, job_id)
    assert service.program("valkey").pid != broker.pid


def test_job_survives_the_loss_of_every_message(service: Service) -> None:
    job_id = job_in_work(service, seed=4)
    with Redis(unix_socket_path=str(service.home / "valkey" / "valkey.sock")) as broker:
        broker.flushall()
    assert_succeeded_whole(service, job_id)


def test_a_request_while_the_broker_is_away_is_kept(service: Service) -> None:
    broker = service.program("valkey")
    broker.suspend()
    try:
        job = service.client.jobs.create("mnist", per_label=10, seed=5)
        assert service.client.jobs.get(job.id).state == "queued"
    finally:
        broker.resume()
    assert_succeeded_whole(service, job.id)


def test_same_request_gives_the_same_images_after_all_this(service: Service) -> None:
    first = service.client.jobs.create("mnist", per_label=50, seed=1)
    again = service.client.jobs.create("mnist", per_label=50, seed=1)
    for job in (first, again):
        assert service.wait_for_end(job.id) == "succeeded"
    digests = [
        [sample.digest for sample in service.client.jobs.samples(job.id)] for job in (first, again)
    ]
    assert len(digests[0]) == 500
    assert digests[0] == digests[1]
