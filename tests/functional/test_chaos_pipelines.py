"""Several beats, and some of them killed: each due time has one run."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from datetime import timedelta
from pathlib import Path

import pytest
from running import Service, started, wait_until

from datagen.embedded import programs, valkey
from datagen.settings import Settings

pytestmark = pytest.mark.timeout(600)

EVERY = timedelta(seconds=5)
RUNS = 4


@pytest.fixture(scope="module")
def service(
    services: Callable[..., Service], tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Service]:
    service = services(
        tmp_path_factory.mktemp("beats") / "home", workers=1, tick_seconds=0.5, pipeline_seconds=1
    )
    with started(service):
        yield service


@pytest.fixture
def beats(service: Service, tmp_path: Path) -> Iterator[list[subprocess.Popen[bytes]]]:
    """Two beats and a worker for the ticks, beside those of the service."""
    broker = valkey.broker_url(valkey.socket_path(service.home / "valkey"))
    environment = programs.environment(
        Settings(home=service.home, broker_url=broker, tick_seconds=0.5, pipeline_seconds=1)
    )
    python = [sys.executable, "-P", "-m", "workers"]
    with (tmp_path / "log").open("wb") as log:
        made = [
            subprocess.Popen([*python, *words], env=environment, stdout=log, stderr=log)
            for words in (["beat"], ["beat"], ["worker", "--queues", "control"])
        ]
        yield made
        for process in made:
            if process.poll() is None:
                process.terminate()
            process.wait(30)


def test_each_due_time_has_one_run_though_beats_are_many_and_killed(
    service: Service, beats: list[subprocess.Popen[bytes]]
) -> None:
    pipelines = service.client.pipelines
    pipelines.apply(
        {
            "name": "often",
            "source": {"dataset": "nowhere"},
            "model": "mnist",
            "plan": {"fill": 1},
            "schedule": {"every": int(EVERY.total_seconds())},
            # A busy machine may not have ended one before the next is due.
            "on_overlap": "queue",
        }
    )

    def made(count: int) -> bool:
        return len(pipelines.history("often").items) >= count

    wait_until(lambda: made(1))
    service.program("beat").kill()
    os.kill(beats[0].pid, 9)
    wait_until(lambda: made(2))
    service.program("control-worker").kill()
    wait_until(lambda: made(RUNS))
    pipelines.pause("often")

    runs = [service.client.runs.wait(run.id) for run in pipelines.history("often").items]
    due = sorted(run.due_at for run in runs)
    assert due == [due[0] + number * EVERY for number in range(len(due))]
    assert {(run.state, run.cause) for run in runs} == {("failed", "schedule")}
