"""A thousand faults while jobs, exports and pipelines run: not an image is lost or doubled.

Half of them on SQLite and half on PostgreSQL. Before the first fault the same jobs are done in
peace; images come from a job's seed alone, so those of the chaos must be the same bytes.
"""

from __future__ import annotations

import hashlib
import io
import json
import random
import threading
import time
import zipfile
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from uuid import UUID

import pyarrow.parquet as pq
import pytest
from chaos import Chaos, in_background
from digits import write_digits
from running import IMPATIENT, Service, started, wait_until
from sqlalchemy import func, select
from sqlalchemy.exc import OperationalError

from datagen.db.session import reading
from datagen.db.tables import Export, ExportJob, Job, Run, Sample
from datagen.errors import DatagenError
from datagen.schemas import ENDED

pytestmark = pytest.mark.timeout(1800)

FAULTS = 500
# Between two faults; with what they take themselves, some five hundred come in ten minutes.
SHORTEST_PEACE, LONGEST_PEACE = 0.1, 1.6
# After so many faults the next one waits until a job has ended, or for so long: where processes
# are killed faster than they start, the faults would find nothing at work.
FAULTS_AT_ONCE, LONGEST_WAIT = 20, 45.0
# The least that must be done meanwhile for the test to mean anything, on the busiest machine.
LEAST_JOBS, LEAST_RUNS = 15, 3
SEEDS = range(4)
PER_LABEL = 200
JOBS_AT_ONCE = 3
FILL = 60
EVERY = 15
LOPSIDED = (30, 15, 6, 3, 2, 30, 15, 6, 3, 2)
END_SECONDS = 600.0


@dataclass
class User:
    """Asks for jobs and exports as long as it may, whatever the answers are.

    Attributes:
        service: what is asked.
        asked: jobs that were asked for, by seed; a request may have ended without an answer.
        answered: those of which an answer told.
    """

    service: Service
    asked: Counter[int] = field(default_factory=Counter)
    answered: Counter[int] = field(default_factory=Counter)

    def keep_busy(self, over: threading.Event) -> None:
        """Have some jobs at work until it is over."""
        chance = random.Random(7)
        while not over.wait(0.2):
            try:
                if len(self.open_jobs()) >= JOBS_AT_ONCE:
                    continue
            except OperationalError:
                # Connections are cut, and this is one of them.
                continue
            seed = chance.choice(SEEDS)
            self.asked[seed] += 1
            try:
                made = self.service.client.jobs.create(
                    "mnist", per_label=PER_LABEL, seed=seed, exports=["parquet"]
                )
            except DatagenError:
                continue
            self.answered[seed] += 1
            if chance.random() < 0.5:
                self._follow(made.id)

    def _follow(self, job_id: UUID) -> None:
        """Have another export of an ended job, whole or not at all."""
        try:
            self.service.client.jobs.wait(job_id, timeout=20)
            self.service.client.exports.create(job_id, "npz")
        except (DatagenError, TimeoutError):
            return

    def open_jobs(self) -> list[UUID]:
        """Jobs of anybody that have not ended."""
        assert self.service.engine is not None
        with reading(self.service.engine) as session:
            return list(session.scalars(select(Job.id).where(Job.state.not_in(sorted(ENDED)))))


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
        workers=2,
        database_url=database_url,
        batch_size=200,
        max_attempts=100,
        **IMPATIENT,
        pipeline_seconds=1,
        dataset_roots=tmp_path.as_uri(),
        export_destinations=f"disk={(tmp_path / 'out').as_uri()}",
    )
    with started(service):
        yield service


def test_no_image_is_lost_or_doubled_by_five_hundred_faults(
    service: Service,
    photos: Path,
    tmp_path: Path,
    database_kind: str,
    database_url: str,
    capsys: pytest.CaptureFixture[str],
) -> None:
    calm = {seed: calm_digests(service, seed) for seed in SEEDS}
    calm_jobs = {job for job, _ in jobs_by_seed(service)}
    service.client.pipelines.apply(recipe(photos))
    chaos = Chaos(service, database_url, random.Random(1), float(IMPATIENT["lease_seconds"]))
    user = User(service)
    began = time.monotonic()
    try:
        with in_background(user.keep_busy):
            while chaos.done.total() < FAULTS:
                chaos.strike()
                time.sleep(chaos.chance.uniform(SHORTEST_PEACE, LONGEST_PEACE))
                if chaos.done.total() % FAULTS_AT_ONCE == 0:
                    wait_for_an_end(service, chaos)
    finally:
        chaos.recover(all_of_it=True)
    seconds = time.monotonic() - began
    service.client.pipelines.pause("nightly")
    wait_until(lambda: not unended(service), END_SECONDS)

    runs = assert_runs_are_whole(service, tmp_path / "out")
    made = Counter[int]()
    images = again = 0
    for job_id, seed in jobs_by_seed(service):
        service.assert_whole(job_id)
        images += len(digests(service, job_id))
        again += sum(batch.attempt > 1 for batch in service.batches(job_id))
        if job_id not in calm_jobs and job_id not in runs:
            assert digests(service, job_id) == calm[seed]
            made[seed] += 1
    # Each request made one job; one that had no answer, one or none.
    assert user.answered <= made <= user.asked
    exports = assert_exports_are_whole(service)
    assert service.orphans_after_sweep() == set()
    with capsys.disabled():
        print(  # noqa: T201 - the figure that this test is for
            f"\n{database_kind}: {chaos.summary()} in {seconds:,.0f} s; {made.total()} jobs, "
            f"{len(runs)} runs, {exports} exports, {images:,} images, {again} batches done again, "
            "0 lost, 0 doubled."
        )
    assert not chaos.never_staged(), chaos.summary()
    # A fault that strikes nothing at work shows nothing.
    assert again > 0, chaos.summary()
    assert made.total() >= LEAST_JOBS, chaos.summary()
    assert len(runs) >= LEAST_RUNS, chaos.summary()


def wait_for_an_end(service: Service, chaos: Chaos) -> None:
    """Strike nothing until a job has ended; what was stopped goes on when its time is over."""
    before, until = ended(service), time.monotonic() + LONGEST_WAIT
    while time.monotonic() < until and ended(service) == before:
        chaos.recover()
        time.sleep(0.2)


def ended(service: Service) -> int | None:
    """How many jobs have ended; None while the connection to the database is cut."""
    assert service.engine is not None
    try:
        with reading(service.engine) as session:
            return session.scalar(
                select(func.count()).select_from(Job).where(Job.state.in_(sorted(ENDED)))
            )
    except OperationalError:
        return None


def recipe(photos: Path) -> dict[str, object]:
    return {
        "name": "nightly",
        "source": {"dataset": "photos", "refresh": photos.as_uri()},
        "model": "mnist",
        "plan": {"fill": FILL},
        "gate": None,
        "deliver": [
            {"format": "imagefolder", "merge": True, "destination": "disk", "name": "{run}"},
            {"format": "npz"},
        ],
        "schedule": {"every": EVERY},
        "on_overlap": "skip",
        "retries": 10,
    }


def calm_digests(service: Service, seed: int) -> list[bytes]:
    """Those of the images of a job that nobody disturbs."""
    made = service.client.jobs.create("mnist", per_label=PER_LABEL, seed=seed)
    assert service.wait_for_end(made.id) == "succeeded"
    service.assert_whole(made.id)
    return digests(service, made.id)


def digests(service: Service, job_id: UUID) -> list[bytes]:
    """Digests of a job's images, by index."""
    assert service.engine is not None
    with reading(service.engine) as session:
        found = select(Sample.digest).where(Sample.job_id == job_id).order_by(Sample.index)
        return list(session.scalars(found))


def jobs_by_seed(service: Service) -> list[tuple[UUID, int]]:
    """All jobs, with their seeds."""
    assert service.engine is not None
    with reading(service.engine) as session:
        return [(row.id, row.seed) for row in session.execute(select(Job.id, Job.seed))]


def unended(service: Service) -> int:
    """Jobs, exports and runs that still go on."""
    assert service.engine is not None
    with reading(service.engine) as session:
        counts = [
            session.scalar(
                select(func.count()).select_from(kind).where(kind.state.not_in(sorted(ENDED)))
            )
            for kind in (Job, Export, Run)
        ]
    return sum(count or 0 for count in counts)


def assert_exports_are_whole(service: Service) -> int:
    """Each archive is what its row says, and holds the images of its job, each once."""
    assert service.engine is not None
    with reading(service.engine) as session:
        rows = session.scalars(select(Export).where(Export.location.is_(None))).all()
        total = session.scalar(select(func.count()).select_from(Export))
    for row in rows:
        assert row.state == "succeeded", row.error
        assert row.images_written == row.images_total
        archive = (service.home / "storage" / str(row.archive_key)).read_bytes()
        assert hashlib.sha256(archive).hexdigest() == row.digest
        with reading(service.engine) as session:
            jobs = session.scalars(select(ExportJob.job_id).where(ExportJob.export_id == row.id))
            (job_id,) = jobs.all()
        if row.format == "parquet":
            assert Counter(archived(archive)) == Counter(digests(service, job_id))
    return total or 0


def archived(archive: bytes) -> Iterator[bytes]:
    """Digests of the images of a Parquet export."""
    with zipfile.ZipFile(io.BytesIO(archive)) as files:
        for name in files.namelist():
            if name.endswith(".parquet"):
                table = pq.read_table(io.BytesIO(files.read(name)), columns=["image"])
                column = table["image"].combine_chunks().field("bytes")
                yield from (hashlib.sha256(png).digest() for png in column.to_pylist())


def assert_runs_are_whole(service: Service, out: Path) -> set[UUID]:
    """Each due time has one run, each run one job and what it delivers; returns the jobs."""
    assert service.engine is not None
    with reading(service.engine) as session:
        runs = session.scalars(select(Run)).all()
        named = Counter(
            session.scalars(select(Export.location).where(Export.location.is_not(None)))
        )
    assert all(count == 1 for count in Counter(run.due_at for run in runs).values())
    jobs = set()
    for run in runs:
        if run.state == "cancelled":
            # The one before it still went on, and the recipe says to skip it.
            assert run.job_id is None
            continue
        assert run.state == "succeeded", (run.error, run.steps)
        assert run.job_id is not None
        assert run.job_id not in jobs
        jobs.add(run.job_id)
        assert named[f"disk/{run.id}"] == 1
        manifest = json.loads((out / str(run.id) / "manifest.json").read_text())
        assert set(manifest["counts"]["train"].values()) == {FILL}
    assert {path.name for path in out.iterdir()} == {
        str(run.id) for run in runs if run.state == "succeeded"
    }
    return jobs
