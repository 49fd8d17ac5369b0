"""How quickly due pipelines become runs and begin, and what a tick costs that finds none.

    python -m benchmarks.pipelines [--postgresql postgresql+psycopg://…] [--many 100000]

The database that --postgresql names must be empty. Prints a table as Markdown, and as its last
line one JSON object.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import os
import statistics
import sys
import tempfile
import time
from datetime import timedelta
from pathlib import Path
from typing import Any
from uuid import UUID

from sqlalchemy import Engine, func, insert, select, update
from sqlalchemy.orm import Session

from benchmarks.machine import machine
from datagen.db.migrate import upgrade
from datagen.db.session import now, open_engine, writing
from datagen.db.tables import Dataset, Model, Pipeline, Run, new_id
from datagen.queue import Message
from datagen.service import keys, pipeline_ticks, running
from datagen.settings import Settings
from datagen.storage import FileStorage

PIPELINES, DUE, BEATS, TICKS = 10_000, 1_000, 3, 21
ROWS_AT_ONCE = 5_000
SETTINGS = Settings()
# Nothing is stored, and nothing read.
STORAGE = FileStorage(Path(tempfile.gettempdir()))
RECIPE = {
    "name": "nightly",
    "source": {"dataset": "defects"},
    "model": "defects",
    "plan": {"fill": 5000},
    "deliver": [{"format": "parquet", "merge": True}],
    "schedule": {"cron": "0 2 * * *", "timezone": "Europe/Berlin"},
}


def fill(engine: Engine, owner_id: UUID, start: int, stop: int) -> None:
    """Pipelines that are due tomorrow."""
    for first in range(start, stop, ROWS_AT_ONCE):
        with writing(engine) as session:
            moment = now(session)
            rows = [
                {
                    "id": new_id(), "owner_id": owner_id, "name": f"p{number}", "version": 1,
                    "recipe": RECIPE, "paused": False, "created_at": moment,
                    "updated_at": moment, "next_due_at": moment + timedelta(days=1),
                }
                for number in range(first, min(stop, first + ROWS_AT_ONCE))
            ]  # fmt: skip
            session.execute(insert(Pipeline), rows)


def add_dataset_and_model(session: Session, owner_id: UUID) -> None:
    """Rows that runs find; no image of theirs is looked at."""
    moment = now(session)
    pixels = {"class_names": ["scratch", "dent"], "image_shape": [1, 28, 28]}
    dataset = Dataset(
        id=new_id(), owner_id=owner_id, name="defects", version=1, digest="a" * 64,
        counts={"train": [100, 10]}, report={}, storage_prefix="datasets/a", created_at=moment,
        **pixels,
    )  # fmt: skip
    session.add(dataset)
    session.add(
        Model(
            id=new_id(), owner_id=owner_id, name="defects", version=1, state="succeeded",
            visibility="private", dataset_id=dataset.id, options={}, config={"family": "cvae"},
            metrics={}, progress={}, digest="b" * 64, available_at=moment, created_at=moment,
            ended_at=moment, **pixels,
        )
    )  # fmt: skip


def make(engine: Engine) -> int:
    """One transaction that makes runs."""
    with writing(engine) as session:
        return pipeline_ticks.make_due_runs(session)


def going_on(engine: Engine) -> list[Message]:
    """One look for runs that can go on."""
    with writing(engine) as session:
        return pipeline_ticks.go_on(session, SETTINGS)


def beat(url: str, ready: Any, go: Any, claimed: Any) -> None:
    """A process that makes runs until none is due, and then begins those that it finds."""
    engine = open_engine(url)
    with writing(engine) as session:
        session.execute(select(func.count()).select_from(Run))
    ready.release()
    go.wait()
    while make(engine):
        pass
    claimed.release()
    while messages := going_on(engine):
        for message in messages:
            run_id = UUID(message.arguments["run_id"])
            running.advance(engine, STORAGE, SETTINGS, run_id)


def at_once(url: str, engine: Engine) -> dict[str, float]:
    """Seconds until all that are due in one minute have runs and wait for their jobs, by three."""
    with writing(engine) as session:
        ids = session.scalars(select(Pipeline.id).limit(DUE)).all()
        due = now(session) - timedelta(seconds=30)
        session.execute(update(Pipeline).where(Pipeline.id.in_(ids)).values(next_due_at=due))
    spawn = multiprocessing.get_context("spawn")
    ready, go = spawn.Semaphore(0), spawn.Event()
    over = spawn.Semaphore(0)
    beats = [spawn.Process(target=beat, args=(url, ready, go, over)) for _ in range(BEATS)]
    for one in beats:
        one.start()
    for _ in beats:
        ready.acquire()
    began = time.perf_counter()
    go.set()
    for _ in beats:
        over.acquire()
    claimed = time.perf_counter() - began
    for one in beats:
        one.join()
    begun = time.perf_counter() - began
    with writing(engine) as session:
        runs = session.scalar(select(func.count()).select_from(Run))
        waiting = session.scalar(
            select(func.count(func.distinct(Run.job_id))).where(Run.waits_for == "job")
        )
    return {"claimed": claimed, "begun": begun, "runs": runs or 0, "jobs": waiting or 0}


def measured(url: str, many: int) -> dict[str, Any]:
    """Both figures on one database."""
    upgrade(url)
    engine = open_engine(url)
    with writing(engine) as session:
        owner_id = keys.ensure_owner(session, "bench")
        add_dataset_and_model(session, owner_id)
    fill(engine, owner_id, 0, PIPELINES)
    found: dict[str, Any] = {"due": at_once(url, engine)}
    fill(engine, owner_id, PIPELINES, many)
    seconds = []
    for _ in range(TICKS):
        began = time.perf_counter()
        if make(engine) or going_on(engine):
            raise SystemExit("Something was due that should not be.")
        seconds.append(time.perf_counter() - began)
    found["empty_tick_ms"] = 1000 * statistics.median(seconds)
    engine.dispose()
    return found


def main() -> None:
    """Measure each database in turn."""
    parser = argparse.ArgumentParser(description="Due pipelines, on SQLite and PostgreSQL.")
    parser.add_argument("--postgresql", metavar="URL", help="An empty database to measure, too.")
    parser.add_argument("--many", type=int, default=100_000)
    given = parser.parse_args()
    found: dict[str, dict[str, Any]] = {}
    with tempfile.TemporaryDirectory(prefix="datagen-bench-") as folder:
        urls = {"SQLite": f"sqlite:///{folder}/datagen.db"}
        if given.postgresql:
            urls["PostgreSQL"] = given.postgresql
        for kind, url in urls.items():
            print(kind, file=sys.stderr, flush=True)
            found[kind] = measured(url, given.many)
    print(f"| what | {' | '.join(found)} | target |\n|---|{'---:|' * (len(found) + 1)}")
    due = [one["due"] for one in found.values()]
    took = " | ".join(f"{one['claimed']:.1f} s" for one in due)
    print(f"| {DUE:,} of {PIPELINES:,} due at once, {BEATS} beats: all have runs | {took} | 10 s |")
    runs = " | ".join(f"{one['runs']:,}" for one in due)
    print(f"| runs made of them | {runs} | {DUE:,} |")
    begun = " | ".join(f"{one['begun']:.1f} s" for one in due)
    print(f"| all have begun, and wait for a job each | {begun} | - |")
    jobs = " | ".join(f"{one['jobs']:,}" for one in due)
    print(f"| jobs made by them | {jobs} | {DUE:,} |")
    empty = " | ".join(f"{one['empty_tick_ms']:.1f} ms" for one in found.values())
    print(f"| a tick that finds none, {given.many:,} pipelines | {empty} | 5 ms |")
    print(json.dumps({"machine": machine(os.cpu_count() or 1), "found": found}))


if __name__ == "__main__":
    main()
