"""A real service for tests: `datagen up` as a user starts it, in processes of its own."""

from __future__ import annotations

import hashlib
import json
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Any
from uuid import UUID

import httpx
import psutil
import pyarrow.parquet as pq
import pytest
from environments import as_variables, clean_environment
from sqlalchemy import Engine, func, select

from datagen.client import Client
from datagen.db.session import open_engine, reading
from datagen.db.tables import Batch, Job, JobLabel, Sample
from datagen.embedded import valkey
from datagen.schemas import ENDED
from datagen.service.sweep import sweep
from datagen.settings import Settings
from datagen.storage import FileStorage

# Of a service whose processes are killed: what they had is taken up again within seconds.
IMPATIENT = {"lease_seconds": 2, "tick_seconds": 0.5, "backoff_seconds": 0.1, "resend_seconds": 3}
# What `python -P -m …` and the server's binary look like in a list of processes.
PROGRAMS = {
    "valkey": ("valkey-server",),
    "api": ("datagen.embedded.server",),
    "worker": ("workers", "worker", "preview,quick,interactive,bulk,train"),
    "quick-worker": ("workers", "worker", "--queues preview,quick --"),
    "deliver-worker": ("workers", "worker", "--queues deliver"),
    "export-worker": ("workers", "worker", "export"),
    "control-worker": ("workers", "worker", "control"),
    "beat": ("workers", "beat"),
}


def wait_until(condition: Callable[[], Any], seconds: float = 120.0, *, pause: float = 0.01) -> Any:
    """The first true value of the condition; fails where there is none in time."""
    deadline = time.monotonic() + seconds
    while not (value := condition()):
        assert time.monotonic() < deadline, "waited in vain"
        time.sleep(pause)
    return value


def ended_of(http: httpx.Client, path: str, seconds: float = 120.0) -> Any:
    """What is at a path of the API once it has ended."""

    def read() -> Any:
        found = http.get(path).raise_for_status().json()
        return found if found["state"] in ENDED else None

    return wait_until(read, seconds)


def lives(process: psutil.Process) -> bool:
    """Whether a process runs, and is not only waiting for its parent to notice its end."""
    try:
        return process.is_running() and process.status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


@dataclass
class Service:
    """A running `datagen up` and its home."""

    home: Path
    environment: dict[str, str] = field(default_factory=dict)
    folder: Path | None = None

    def __post_init__(self) -> None:
        self.engine: Engine | None = None
        self._seen: dict[int, psutil.Process] = {}

    def start(self) -> dict[str, Any]:
        """Start it; returns what the command says once it is ready."""
        self.process = subprocess.Popen(
            [sys.executable, "-P", "-m", "datagen.cli", "up", "--port", "0", "--json"],
            env=clean_environment() | {"DATAGEN_HOME": str(self.home)} | self.environment,
            cwd=self.folder or self.home.parent,
            stdout=subprocess.PIPE,
            text=True,
        )
        said: dict[str, Any] = json.loads(self._output().readline() or "{}")
        assert said, f"datagen up ended with {self.process.wait(5)}"
        self.url = said["url"]
        self.client = Client(self.url, (self.home / "api-key").read_text().strip())
        own = f"sqlite:///{self.home / 'datagen.db'}"
        self.engine = open_engine(self.environment.get("DATAGEN_DATABASE_URL", own))
        return said

    def _output(self) -> IO[str]:
        assert self.process.stdout is not None
        return self.process.stdout

    def tree(self) -> list[psutil.Process]:
        """All processes of the service, and a note of them for `survivors`."""
        root = psutil.Process(self.process.pid)
        found = [root, *root.children(recursive=True)]
        self._seen |= {process.pid: process for process in found}
        return found

    def program(self, name: str) -> psutil.Process:
        """The first process of a program; waits while the program is being restarted."""
        return wait_until(lambda: self.running_program(name))

    def running_program(self, name: str) -> psutil.Process | None:
        """The first process of a program; None while there is none."""
        for process in self.tree():
            try:
                words = process.cmdline()
                parent = process.ppid()
            except psutil.Error:
                continue
            text = " ".join(words)
            if parent == self.process.pid and all(part in text for part in PROGRAMS[name]):
                return process
        return None

    def pool(self) -> list[psutil.Process]:
        """The torch worker's children that run batches."""
        return self.pool_of(self.program("worker"))

    def pool_of(self, worker: psutil.Process) -> list[psutil.Process]:
        """A worker's children that do its tasks."""
        children = []
        for process in worker.children():
            try:
                if "--billiard-fork" in process.cmdline():
                    children.append(process)
            except psutil.Error:
                continue
        self._seen |= {process.pid: process for process in children}
        return children

    def survivors(self) -> list[psutil.Process]:
        """Processes of the service that were seen and still run."""
        return [process for process in self._seen.values() if lives(process)]

    def stop(self) -> int:
        """End it as an orchestrator does; returns the exit code."""
        self.tree()
        self.process.send_signal(signal.SIGTERM)
        return self.close()

    def kill(self) -> None:
        """Kill the supervisor, and nothing else."""
        self.tree()
        self.process.kill()
        self.close()

    def kill_if_running(self) -> None:
        """What a test calls that did not get to its end."""
        if hasattr(self, "process") and self.process.poll() is None:
            self.kill()

    def close(self) -> int:
        """Wait for the end and let go of everything."""
        code = self.process.wait(30)
        self._output().close()
        self.client.close()
        if self.engine is not None:
            self.engine.dispose()
        return code

    # What the database says.

    def batches(self, job_id: UUID) -> list[Batch]:
        """The job's batches, by start."""
        assert self.engine is not None
        with reading(self.engine) as session:
            return list(
                session.scalars(select(Batch).where(Batch.job_id == job_id).order_by(Batch.start))
            )

    def running(self, job_id: UUID) -> dict[UUID, int]:
        """The job's batches that a worker has, with their attempts."""
        return {one.id: one.attempt for one in self.batches(job_id) if one.state == "running"}

    def at_work(self) -> bool:
        """Whether a worker has a batch of any job."""
        assert self.engine is not None
        with reading(self.engine) as session:
            running = select(Batch.id).where(Batch.state == "running").limit(1)
            return session.scalar(running) is not None

    def wait_for_end(self, job_id: UUID, seconds: float = 300.0) -> str:
        """The state in which the job has ended."""
        assert self.engine is not None
        engine = self.engine

        def ended() -> str | None:
            with reading(engine) as session:
                state = session.scalar(select(Job.state).where(Job.id == job_id))
            return state if state in ENDED else None

        return str(wait_until(ended, seconds))

    def assert_whole(self, job_id: UUID) -> None:
        """Promise 1: every image is there once, and everything agrees with everything."""
        assert self.engine is not None
        storage = FileStorage(self.home / "storage")
        with reading(self.engine) as session:
            job = session.get_one(Job, job_id)
            parts = session.scalars(select(JobLabel).where(JobLabel.job_id == job_id)).all()
            counts = Counter(session.scalars(select(Sample.label).where(Sample.job_id == job_id)))
            rows = session.execute(
                select(Sample.index, Sample.digest)
                .where(Sample.job_id == job_id)
                .order_by(Sample.index)
            ).all()
            total = session.scalar(
                select(func.sum(JobLabel.requested)).where(JobLabel.job_id == job_id)
            )
        assert job.state == "succeeded", job.error
        # A job that was extended has several parts of a label.
        requested, kept = Counter[int](), Counter[int]()
        for part in parts:
            requested[part.label] += part.requested
            kept[part.label] += part.stored
        assert counts == requested
        assert counts == kept
        assert [row.index for row in rows] == list(range(int(total or 0)))
        stored: list[bytes] = []
        for batch in self.batches(job_id):
            assert batch.state == "succeeded"
            shard = storage.get(str(batch.shard_key))
            assert hashlib.sha256(shard).hexdigest() == batch.shard_digest
            with storage.open(str(batch.shard_key)) as file:
                images = pq.read_table(file, columns=["image"])["image"].combine_chunks()
            stored += [hashlib.sha256(png).digest() for png in images.field("bytes").to_pylist()]
        assert stored == [row.digest for row in rows]

    def orphans_after_sweep(self) -> set[str]:
        """Stored shards that no row names, after a sweep for which nothing is too young."""
        assert self.engine is not None
        storage = FileStorage(self.home / "storage")
        sweep(self.engine, storage, Settings(home=self.home, sweep_seconds=0.001))
        with reading(self.engine) as session:
            named = set(
                session.scalars(select(Batch.shard_key).where(Batch.shard_key.is_not(None)))
            )
        return {found.key for found in storage.list("jobs/")} - named


@contextmanager
def started(service: Service) -> Iterator[Service]:
    """Start a service; at the end stop it, and see that nothing of it is left."""
    service.start()
    yield service
    assert service.stop() == 0
    wait_until(lambda: not service.survivors())


@pytest.fixture(scope="module")
def services() -> Iterator[Callable[..., Service]]:
    """Makes services; whatever the tests leave running is killed at the end."""
    made: list[Service] = []

    def make(home: Path, *, folder: Path | None = None, **environment: object) -> Service:
        service = Service(home, as_variables(**environment), folder)
        made.append(service)
        return service

    yield make
    for service in made:
        service.kill_if_running()
    for service in made:
        wait_until(lambda one=service: not one.survivors(), 20.0)  # type: ignore[misc]
        # A killed stack leaves the folder of its socket to the next one, which does not come here.
        valkey.remove_socket_folder(service.home / "valkey")
