"""A pipeline with all its steps, run by real processes that are killed while they are at them."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest
from digits import write_digits
from running import Service, started, wait_until

from datagen.schemas import ENDED

pytestmark = pytest.mark.timeout(1800)

LOPSIDED = (300, 150, 60, 30, 20, 300, 150, 60, 30, 20)
FILL = 2000
# Whose process is killed while the run is at a step.
VICTIMS = {
    "refresh": ("export-worker",),
    "train": ("worker", "control-worker"),
    "generate": ("worker", "beat", "control-worker"),
    "check": ("worker",),
    "deliver": ("export-worker", "control-worker"),
}


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    write_digits(tmp_path / "photos" / "train", LOPSIDED)
    return tmp_path / "photos"


@pytest.fixture
def service(
    services: Callable[..., Service], database_url: str, tmp_path: Path
) -> Iterator[Service]:
    service = services(
        tmp_path / "home",
        workers=1,
        database_url=database_url,
        lease_seconds=3,
        tick_seconds=0.5,
        backoff_seconds=0.1,
        resend_seconds=3,
        dataset_roots=tmp_path.as_uri(),
        export_destinations=f"disk={(tmp_path / 'out').as_uri()}",
    )
    with started(service):
        yield service


def recipe(photos: Path) -> dict[str, Any]:
    return {
        "name": "nightly",
        "source": {"dataset": "photos", "refresh": photos.as_uri()},
        "model": {
            "train": {
                "when": "always", "preset": "small", "epochs": 2, "refine_epochs": 0,
                "judge_epochs": 2,
            }
        },
        "plan": {"fill": FILL},
        "gate": None,
        "checks": {"max_copies": 1.0, "images": 1000},
        "deliver": [
            {"format": "imagefolder", "merge": True, "destination": "disk", "name": "filled"},
            {"format": "npz"},
        ],
    }  # fmt: skip


def test_run_ends_well_though_processes_are_killed_at_each_step(
    service: Service, photos: Path, tmp_path: Path
) -> None:
    client = service.client
    client.pipelines.apply(recipe(photos))
    run = client.pipelines.run("nightly")
    left = {step: list(names) for step, names in VICTIMS.items()}
    killed = Counter[str]()

    def ended() -> bool:
        found = run.refresh()
        at = next((step.name for step in found.steps if step.state == "running"), None)
        if at is not None and left.get(at):
            name = left[at].pop()
            process: psutil.Process = service.program(name)
            for one in (process, *process.children(recursive=True)):
                one.kill()
            killed[at] += 1
        return found.state in ENDED

    # The report takes minutes, and every look a share of its core.
    wait_until(ended, 1500, pause=0.1)
    run = run.refresh()

    assert run.state == "succeeded", run.error
    assert killed["train"] == len(VICTIMS["train"])
    assert killed["generate"] + killed["check"] + killed["deliver"] >= 3, killed
    manifest = json.loads((tmp_path / "out" / "filled" / "manifest.json").read_text())
    assert set(manifest["counts"]["train"].values()) == {FILL}
    assert [one.state for one in map(client.exports.get, run.exports)] == ["succeeded"] * 2
    assert len(client.jobs.list().items) == 1
    assert len(client.reports.list().items) == 1
    assert len(client.datasets.list().items) == 1
    assert sum(model.name == "nightly" for model in client.models.list().items) == 1
