"""Kill -9 of the process that trains, at several points: the model is the one of a calm run."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from digits import write_digits
from running import IMPATIENT, Service, started, wait_until
from sqlalchemy import select

from datagen.db.session import reading
from datagen.db.tables import Model

# Workers that import torch again and again take long where others use the cores.
pytestmark = pytest.mark.timeout(900)

# Some twenty slices on a quick machine.
OPTIONS: dict[str, Any] = {
    "preset": "small", "epochs": 200, "refine_epochs": 1, "judge_epochs": 2, "seed": 3,
}  # fmt: skip
KILLS = 3


@pytest.fixture(scope="module")
def service(
    services: Callable[..., Service], tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Service]:
    service = services(
        tmp_path_factory.mktemp("trainings") / "home",
        workers=1,
        **IMPATIENT,
        # Short, so that a killed slice is not the whole training.
        slice_seconds=0.2,
        max_attempts=20,
    )
    with started(service):
        yield service


@pytest.fixture(scope="module")
def dataset(service: Service, tmp_path_factory: pytest.TempPathFactory) -> str:
    folder = tmp_path_factory.mktemp("photos")
    service.client.datasets.add("digits", write_digits(folder, [80] * 3))
    return "digits"


def row_of(service: Service, model_id: Any) -> Model:
    assert service.engine is not None
    with reading(service.engine) as session:
        return session.scalars(select(Model).where(Model.id == model_id)).one()


def kill_while_it_trains(service: Service, model_id: Any, after: int) -> int:
    """Kill -9 the pool while it is at an attempt later than `after`; returns which one."""

    def tried() -> int:
        pool = service.pool()
        for process in pool:
            process.suspend()
        row = row_of(service, model_id)
        inside = row.state == "running" and row.attempt > after
        for process in pool:
            if process.is_running():
                process.kill() if inside else process.resume()
        assert row.state in {"queued", "running"}, row.error
        return row.attempt if inside else 0

    return int(wait_until(tried, 300.0))


def test_training_that_is_killed_goes_on_from_its_last_slice_to_the_same_model(
    service: Service, dataset: str
) -> None:
    models = service.client.models
    calm = models.wait(models.create("calm", dataset, **OPTIONS).id)
    assert calm.state == "succeeded", calm.error
    slices = row_of(service, calm.id).attempt
    assert slices > KILLS, "too quick to be killed at several points"

    model = models.create("killed", dataset, **OPTIONS)
    attempt = 0
    for _ in range(KILLS):
        attempt = kill_while_it_trains(service, model.id, attempt)
    ended = models.wait(model.id)

    assert ended.state == "succeeded", ended.error
    assert ended.digest == calm.digest
    row = row_of(service, model.id)
    # It went on, and did not begin again with each kill.
    assert KILLS < row.attempt <= slices + 2 * KILLS
    assert list((service.home / "storage" / "training").rglob("*.safetensors")) == []
    job = service.client.jobs.create("killed", per_label=5)
    assert service.wait_for_end(job.id) == "succeeded"


def test_training_that_kills_every_worker_fails_with_a_sentence(
    services: Callable[..., Service], tmp_path: Path
) -> None:
    service = services(
        tmp_path / "home", workers=1, lease_seconds=1, tick_seconds=0.3, backoff_seconds=0.1,
        resend_seconds=2, max_attempts=2,
    )  # fmt: skip
    service.start()
    service.client.datasets.add("digits", write_digits(tmp_path / "photos", [40] * 2))
    model = service.client.models.create("doomed", "digits", **OPTIONS | {"epochs": 500})
    attempt = 0
    for _ in range(2):
        attempt = kill_while_it_trains(service, model.id, attempt)
    ended = service.client.models.wait(model.id)
    assert ended.state == "failed"
    assert "2 attempts" in str(ended.error)
    assert "killed" in str(ended.error)
    job = service.client.jobs.create("mnist", per_label=2)
    assert service.wait_for_end(job.id) == "succeeded"
    assert service.stop() == 0
    wait_until(lambda: not service.survivors())
