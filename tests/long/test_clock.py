"""The clock of a whole stack is set, a day forward or back, while jobs, exports and runs go on."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from clocks import Clock, clock_of
from digits import write_digits
from running import IMPATIENT, Service, started, wait_until
from sqlalchemy import select

from datagen.db.session import reading
from datagen.db.tables import Run

pytestmark = pytest.mark.timeout(900)

DAY = 86_400.0
HOUR = timedelta(hours=1)
TRAINED: dict[str, Any] = {"preset": "small", "epochs": 3, "refine_epochs": 0, "judge_epochs": 1}


@pytest.fixture
def clock(empty_database_url: str, tmp_path: Path) -> Clock:
    return clock_of(tmp_path, empty_database_url)


@pytest.fixture
def service(services: Callable[..., Service], clock: Clock, tmp_path: Path) -> Iterator[Service]:
    service = services(
        tmp_path / "home",
        # A training may have one of them, a slice at a time.
        workers=2,
        slice_seconds=2,
        database_url=clock.database_url,
        batch_size=200,
        **IMPATIENT | {"lease_seconds": 3},
        pipeline_seconds=1,
    )
    service.environment |= clock.environment
    with started(service):
        yield service


@pytest.fixture
def digits(service: Service, tmp_path: Path) -> str:
    service.client.datasets.add("digits", write_digits(tmp_path / "photos", [30] * 10))
    return "digits"


def hourly(client: Any) -> None:
    client.pipelines.apply(
        {
            "name": "hourly",
            "source": {"dataset": "digits"},
            "model": "mnist",
            "plan": {"add": 2},
            "gate": None,
            "deliver": [{"format": "npz"}],
            "schedule": {"every": 3600},
            "on_overlap": "queue",
        }
    )


def runs_of(service: Service) -> list[Run]:
    assert service.engine is not None
    with reading(service.engine) as session:
        return list(session.scalars(select(Run).order_by(Run.due_at)))


@pytest.mark.parametrize("kill", [False, True], ids=["workers live", "workers are killed"])
@pytest.mark.parametrize("jumps", [(DAY,), (-DAY,), (DAY, 0.0)], ids=["forward", "back", "both"])
def test_day_more_or_less_loses_nothing_doubles_nothing_and_holds_nothing_up(
    service: Service, clock: Clock, digits: str, jumps: tuple[float, ...], kill: bool
) -> None:
    client = service.client
    hourly(client)
    job = client.jobs.create("mnist", per_label=400, seed=1, exports=["parquet"])
    model = client.models.create("own", digits, **TRAINED)
    for seconds in jumps:
        before = {batch.id for batch in service.batches(job.id) if batch.state == "succeeded"}
        clock.set_ahead(seconds)
        if kill:
            for process in service.pool():
                process.kill()
        # The healing tick and workers go on: something more is done well before a day is over.
        wait_until(lambda seen=before: progressed(service, job.id, seen), 300.0)
    run = client.pipelines.run("hourly")

    assert service.wait_for_end(job.id, 240.0) == "succeeded"
    service.assert_whole(job.id)
    export = client.exports.wait(client.jobs.get(job.id).exports[0], timeout=120)
    assert (export.state, export.images_written) == ("succeeded", 4000)
    assert client.models.wait(model.id, timeout=300).state == "succeeded"
    assert client.runs.wait(run.id, timeout=120).state == "succeeded"
    assert len(client.jobs.list(limit=50).items) == 1 + len(runs_of(service))
    # A day forward is one run and not twenty-four; a day back is none, and no due time twice.
    causes = Counter(one.cause for one in runs_of(service))
    assert causes["schedule"] <= 1, causes
    assert (causes["schedule"] == 1) == (DAY in jumps)
    # The next due time is an hour away at most, by the clock as it is now.
    wait_until(lambda: 0 < ahead(service, clock, jumps[-1]) <= HOUR.total_seconds() + 5, 60.0)


def progressed(service: Service, job_id: Any, before: set[Any]) -> bool:
    batches = service.batches(job_id)
    return all(one.state == "succeeded" for one in batches) or any(
        one.state == "succeeded" and one.id not in before for one in batches
    )


def ahead(service: Service, clock: Clock, shift: float) -> float:
    """Seconds until the pipeline is due, by the stack's clock."""
    due = service.client.pipelines.get("hourly").next_due_at
    return float(due.timestamp() - clock.real_now() - shift)
