"""Pipelines with real rows, files and exports, and workers that do what a test lets them.

Batches are pixels that are their own index, trainings and reports are written down as ended; every
other use case is the service's own. Messages may be lost at any point: `tick` finds what goes on.
"""

from __future__ import annotations

import hashlib
import io
import json
import time
import zipfile
from datetime import timedelta
from uuid import UUID

import numpy as np
from sqlalchemy import func, select, update

from datagen.datasets.reading import Opened, ReadReport
from datagen.db.session import now, reading, writing
from datagen.db.tables import Model, Report, Run
from datagen.images import LabelledImages, encode_png
from datagen.queue import ADVANCE_RUN, RUN_BATCH, RUN_EXPORT, RUN_STEP, MemoryQueue
from datagen.schemas import ENDED, PipelineApply
from datagen.service import (
    batches,
    datasets,
    export_writing,
    pipeline_ticks,
    pipelines,
    run_work,
    running,
    runs,
    stale,
)
from datagen.service.batch_work import BatchResult
from datagen.shards import SampleBatch, ShardInfo, write_shard

RECIPE = {
    "name": "nightly",
    "source": {"dataset": "defects"},
    "model": "pets",
    "plan": {"fill": 6},
    "gate": None,
    "seed": 5,
    "deliver": [{"format": "parquet", "merge": True}],
}
CLASS_NAMES = ["ant", "bee", "cat"]
COUNTS = (6, 1, 3)


def images(counts=COUNTS, value=0):
    labels = np.repeat(np.arange(len(counts)), counts)
    pixels = np.arange(len(labels) * 16).reshape(-1, 1, 4, 4) + value
    return LabelledImages((pixels % 256).astype(np.uint8), labels, tuple(CLASS_NAMES))


def made(storage, work):
    """Do a worker's part: 4 x 4 images whose pixels are their index, in a stored shard.

    The scores of five images in a row are 0.1, 0.3, 0.5, 0.7 and 0.9.
    """
    index = np.arange(work.start, work.stop, dtype=np.int64)
    pixels = np.broadcast_to(
        (index % 256).astype(np.uint8)[:, None, None, None], (len(index), 1, 4, 4)
    )
    images = encode_png(np.ascontiguousarray(pixels))
    samples = SampleBatch(
        indices=index,
        labels=work.labels(),
        scores=0.1 + (index % 5) * 0.2,
        judged_labels=work.labels(),
        attempts=np.zeros(len(index), dtype=np.int64),
        sources=np.full((len(index), 2), -1, dtype=np.int64),
        digests=[hashlib.sha256(image).digest() for image in images],
        images=images,
    )
    info = ShardInfo(
        work.class_names,
        str(work.job_id),
        work.model_name,
        work.model_version,
        work.files.generator.digest,
        work.seed,
        work.temperature,
    )
    shard = write_shard(samples, info)
    key = f"jobs/{work.job_id}/{work.start:012d}.parquet"
    storage.put(key, shard)
    return BatchResult(
        shard_key=key,
        shard_digest=hashlib.sha256(shard).hexdigest(),
        shard_bytes=len(shard),
        device="cpu-fp32",
        torch_version="2",
        samples=samples,
        seconds={},
    )


class World:
    """An owner's pipelines, and workers that do what they are told when the test lets them."""

    def __init__(self, engine, storage, settings, owner):
        self.engine, self.storage, self.owner = engine, storage, owner
        self.settings = settings.model_copy(update={"batch_size": 4, "resend_seconds": 0.001})
        self.queue = MemoryQueue(
            {
                ADVANCE_RUN: self._advance,
                RUN_STEP: self._step,
                RUN_BATCH: self._batch,
                RUN_EXPORT: self._export,
                **dict.fromkeys(
                    ("datagen.make_batches", "datagen.run_training", "datagen.run_report",
                     "datagen.deliver"),
                    lambda **_: None,
                ),
            }
        )  # fmt: skip

    def _advance(self, run_id):
        self.queue.send(running.advance(self.engine, self.storage, self.settings, UUID(run_id)))

    def _step(self, run_id):
        self.queue.send(run_work.run(self.engine, self.storage, self.settings, UUID(run_id)))

    def _batch(self, batch_id):
        with writing(self.engine) as session:
            work = batches.claim(session, self.settings, UUID(batch_id))
        if work is not None:
            with writing(self.engine) as session:
                messages = batches.close(session, work, made(self.storage, work))
            self.queue.send(messages or [])

    def _export(self, export_id):
        export_writing.run(self.engine, self.storage, self.settings, UUID(export_id))

    def dataset(self, split=None, name="defects"):
        splits = {"train": split or images(), "test": images((1, 1, 1), 100)}
        ingested = datasets.store(self.storage, Opened(splits, ReadReport()))
        with writing(self.engine) as session:
            return datasets.register(session, self.owner.id, name, ingested)

    def apply(self, **changes):
        wanted = PipelineApply.model_validate(RECIPE | changes)
        with writing(self.engine) as session:
            return pipelines.apply(session, self.settings, self.owner.id, wanted)[0]

    def start(self, name="nightly"):
        with writing(self.engine) as session:
            run, messages = runs.start(session, self.owner.id, name)
        self.queue.send(messages)
        return run

    def tick(self):
        with writing(self.engine) as session:
            pipeline_ticks.make_due_runs(session)
        with writing(self.engine) as session:
            messages = pipeline_ticks.go_on(session, self.settings)
        self.queue.send(messages)
        return messages

    def settle(self, rounds=12):
        """Let workers and ticks go on until nothing is left to do."""
        for _ in range(rounds):
            self.queue.run_all()
            if not self.tick():
                return
        raise AssertionError("it never comes to rest")

    def finish(self, run_id, seconds=60.0):
        """Go on, whatever was left behind, until the run has ended."""
        deadline = time.monotonic() + seconds
        while (run := self.read(run_id)).state not in ENDED:
            assert time.monotonic() < deadline, run
            self.close_trainings()
            self.close_reports()
            with writing(self.engine) as session:
                self.queue.send(stale.requeue_stale(session, self.settings))
            self.tick()
            self.queue.run_all()
            time.sleep(0.01)
        return run

    def close_trainings(self):
        """Write down every training as ended."""
        with writing(self.engine) as session:
            session.execute(
                update(Model)
                .where(Model.state == "queued")
                .values(
                    state="succeeded", digest="d", checkpoint_key="d", judge_digest="e",
                    judge_key="e", ended_at=now(session),
                )
            )  # fmt: skip

    def close_reports(self, fidelity=0.97, copies=0.0, outcome="helps"):
        """Write down every report as ended, with what it found."""
        found = {
            "fidelity": {"balanced": fidelity},
            "copying": {"copy_rate": copies},
            "verdict": {"outcome": outcome},
        }
        data = io.BytesIO()
        with zipfile.ZipFile(data, "w") as archive:
            archive.writestr("report.json", json.dumps(found))
        self.storage.put("reports/r.zip", data.getvalue())
        with writing(self.engine) as session:
            session.execute(
                update(Report)
                .where(Report.state == "queued")
                .values(
                    state="succeeded", archive_key="reports/r.zip", digest="d", outcome=outcome,
                    sentence="They help.", ended_at=now(session),
                )
            )  # fmt: skip

    def done(self, **changes):
        """A run, to its end."""
        if changes or not self.exists():
            self.apply(**changes)
        run = self.start()
        self.settle()
        return self.read(run.id)

    def exists(self):
        with reading(self.engine) as session:
            return bool(pipelines.list_pipelines(session, self.owner.id).items)

    def read(self, run_id):
        with reading(self.engine) as session:
            return runs.read(session, self.owner.id, run_id)

    def history(self, name="nightly"):
        with reading(self.engine) as session:
            return runs.history(session, self.owner.id, name).items

    def cancel(self, run_id):
        with writing(self.engine) as session:
            run, messages = runs.cancel(session, self.settings, self.owner.id, run_id)
        self.queue.send(messages)
        return run

    def count(self, kind):
        with reading(self.engine) as session:
            return session.scalar(select(func.count()).select_from(kind))

    def one(self, kind, row_id):
        with reading(self.engine) as session:
            return session.get(kind, row_id)

    def change(self, kind, row_id, **values):
        with writing(self.engine) as session:
            session.execute(update(kind).where(kind.id == row_id).values(**values))

    def waited(self, run_id):
        with writing(self.engine) as session:
            past = now(session) - timedelta(seconds=1)
            session.execute(update(Run).where(Run.id == run_id).values(available_at=past))


def states(run):
    """The state of each step of a run."""
    return {step.name: step.state for step in run.steps}


def said(run, name):
    """The log of a step."""
    return " ".join(line.text for step in run.steps if step.name == name for line in step.log)
