"""Kill -9 at every transaction of a run: each step is done once in effect, and the run ends well.

The run reads its source, trains, plans, generates, is checked, delivers to two places, clears up
the deliveries before it, and notifies. A process works on it and kills itself just before or just
after its n-th transaction; another one then goes on. Some of these points here, and all of them
with `--every-point`, which `make test-long` gives.
"""

from __future__ import annotations

import signal
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import killed_pipeline
import numpy as np
import pytest
from pipeline_world import CLASS_NAMES, World, images
from sqlalchemy import select

from datagen.db.session import reading, writing
from datagen.db.tables import Batch, Dataset, Delivery, Export, Job, Model, Report, Run, Sample
from datagen.images import encode_png
from datagen.schemas import STEPS, PipelineApply, WebhookCreate
from datagen.service import pipelines, webhooks

# More than any run has; past the last one the process ends by itself.
MOST_TRANSACTIONS = 80
SAMPLED = {"before": (4, 13, 19), "after": (8, 16)}

pytestmark = pytest.mark.timeout(900)


def photos(folder: Path, seed: int) -> None:
    """Another set of real images, six of the first class, one and three of the others."""
    made = images(value=seed * 7)
    for label, name in enumerate(CLASS_NAMES):
        (folder / name).mkdir(parents=True, exist_ok=True)
        rows = np.flatnonzero(made.labels == label)
        for number, png in enumerate(encode_png(np.ascontiguousarray(made.images[rows]))):
            (folder / name / f"{number}.png").write_bytes(png)


@pytest.fixture
def world(database_url: str, owner: object, tmp_path: Path) -> Iterator[World]:
    made = killed_pipeline.world_of(database_url, tmp_path)
    with writing(made.engine) as session:
        hook = webhooks.create(session, made.owner.id, WebhookCreate(url="https://ci.example/x"))
        recipe = PipelineApply.model_validate(
            {
                "name": "nightly",
                "source": {
                    "dataset": "photos",
                    "refresh": {"source": f"{tmp_path.as_uri()}/photos", "split": {"train": 1.0}},
                },
                "model": {"train": {"when": "always"}},
                "plan": {"fill": 6},
                "gate": None,
                "checks": {"min_fidelity": 0.9},
                "deliver": [
                    {"format": "parquet", "merge": True, "keep": 1},
                    {"format": "npz", "destination": "disk", "name": "{run}", "keep": 1},
                ],
                "notify": {"webhook": str(hook.id), "on": "always"},
            }
        )
        pipelines.apply(session, made.settings, made.owner.id, recipe)
    yield made
    made.engine.dispose()


def points(config: pytest.Config) -> list[tuple[str, int]]:
    if config.getoption("every_point"):
        return [(moment, n) for moment in SAMPLED for n in range(1, MOST_TRANSACTIONS)]
    return [(moment, n) for moment, numbers in SAMPLED.items() for n in numbers]


def test_run_ends_well_wherever_its_process_is_killed(
    world: World, database_url: str, tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    over: set[str] = set()
    tried = 0
    for moment, number in points(request.config):
        if moment in over:
            continue
        tried += 1
        photos(tmp_path / "photos", tried)
        run = world.start()
        # What this process would send is lost with it.
        world.queue.waiting.clear()
        child = subprocess.run(
            [sys.executable, killed_pipeline.__file__, database_url, str(tmp_path), str(run.id),
             str(number), moment],
            capture_output=True, text=True, check=False, timeout=120,
            env={"PYTHONPATH": ":".join(sys.path)},
        )  # fmt: skip
        assert child.returncode in {0, -signal.SIGKILL}, child.stderr
        if child.returncode == 0:
            over.add(moment)
        world.finish(run.id)
        assert_once(world, run.id, tried, tmp_path, (moment, number))
    if request.config.getoption("every_point"):
        assert over == set(SAMPLED), "a run has more transactions than were tried"


def assert_once(world: World, run_id: object, tried: int, folder: Path, point: object) -> None:
    run = world.read(run_id)
    assert run.state == "succeeded", (point, run.error)
    assert {step.name: step.state for step in run.steps} == dict.fromkeys(STEPS, "succeeded"), point
    with reading(world.engine) as session:
        rows = {
            kind: session.scalars(select(kind)).all()
            for kind in (Run, Dataset, Model, Job, Report, Export, Delivery)
        }
        stored = Counter(session.scalars(select(Sample.label).where(Sample.job_id == run.job)))
        batches = session.scalars(select(Batch.state).where(Batch.job_id == run.job)).all()
    # One more of each with every run, and of what is delivered the last of each kind.
    for kind in (Run, Dataset, Model, Job, Report, Delivery):
        assert len(rows[kind]) == tried, (point, kind)
    assert {str(row.id) for row in rows[Export]} == set(map(str, run.exports)), point
    assert stored == {1: 5, 2: 3}, point
    assert set(batches) == {"succeeded"}, point
    (there,) = (folder / "out").iterdir()
    assert (there.name, (there / "manifest.json").exists()) == (str(run_id), True), point
