from __future__ import annotations

import os
import tempfile
from datetime import UTC, datetime
from pathlib import Path

import pytest
from sqlalchemy import update

from datagen.db.session import now, writing
from datagen.db.tables import Batch, Export, Model, Report, new_id
from datagen.schemas import JobCreate
from datagen.scratch import LOCK, PREFIX, scratch
from datagen.service import batches, jobs
from datagen.service.sweep import sweep
from datagen.storage import INCOMING


def put(storage, key, *, age=7200):
    """Store a file that was last changed `age` seconds ago."""
    storage.put(key, b"content")
    moment = datetime.now(UTC).timestamp() - age
    os.utime(Path(storage.root, key), (moment, moment))
    return key


def left(storage):
    return {found.key for found in storage.list("")}


def add(engine, owner, kind, **values):
    """A row of work that is the owner's."""
    with writing(engine) as session:
        moment = now(session)
        row = kind(id=new_id(), owner_id=owner.id, created_at=moment, available_at=moment, **values)
        session.add(row)
    return row


@pytest.fixture
def batch(engine, settings, owner, model, batch_ids):
    """A batch that a worker has claimed."""
    with writing(engine) as session:
        _, messages = jobs.create(session, settings, owner.id, JobCreate(model="pets", all=1))
    with writing(engine) as session:
        return batches.claim(session, settings, batch_ids(messages)[0])


def end(engine, batch, key):
    with writing(engine) as session:
        session.execute(
            update(Batch)
            .where(Batch.id == batch.batch_id)
            .values(state="succeeded", shard_key=key, ended_at=now(session))
        )


def shard(batch, digest):
    return f"jobs/{batch.job_id}/{batch.start:012d}-{batch.stop:012d}-{digest}.parquet"


def test_shard_of_an_overtaken_worker_is_removed_and_the_named_one_stays(
    engine, storage, settings, batch
):
    named, orphan = put(storage, shard(batch, "a")), put(storage, shard(batch, "b"))
    end(engine, batch, named)

    assert sweep(engine, storage, settings) == 1
    assert left(storage) == {named}
    assert not storage.exists(orphan)


def test_shard_that_a_running_batch_may_yet_name_stays(engine, storage, settings, batch):
    key = put(storage, shard(batch, "a"))

    assert sweep(engine, storage, settings) == 0
    assert left(storage) == {key}


def test_young_file_stays(engine, storage, settings):
    key = put(storage, "uploads/ready-1", age=60)

    assert sweep(engine, storage, settings) == 0
    assert left(storage) == {key}


def test_what_no_job_export_or_training_ever_had_is_removed(engine, storage, settings):
    for key in (
        f"jobs/{new_id()}/000000000000-000000000005-ab.parquet",
        f"jobs/{new_id()}/odd-name",
        "jobs/not-an-id/000000000000-000000000005-ab.parquet",
        "jobs/loose",
        f"jobs/{new_id()}/99999999999999999999-1.parquet",
        f"exports/{new_id()}/ab.zip",
        f"training/{new_id()}/000001.safetensors",
        "uploads/ready-1",
        INCOMING + "half-written",
    ):
        put(storage, key)

    assert sweep(engine, storage, settings) == 9
    assert left(storage) == set()
    assert list(storage.list(INCOMING)) == []


def test_weights_that_a_model_names_stay(engine, storage, settings, model):
    with writing(engine) as session:
        session.execute(
            update(Model).values(examples_key="models/e2.safetensors", index_key="models/i.bin")
        )
    keys = (model.checkpoint_key, model.judge_key, "models/e2.safetensors", "models/i.bin")
    named = {put(storage, str(key)) for key in keys}
    orphan = put(storage, "models/orphan.safetensors")

    assert sweep(engine, storage, settings) == 1
    assert left(storage) == named
    assert not storage.exists(orphan)
    with writing(engine) as session:
        session.execute(update(Model).values(removed_at=now(session)))
    assert sweep(engine, storage, settings) == 4


def test_files_that_a_report_names_stay_while_it_needs_them(
    engine, storage, settings, owner, model
):
    plain = {"model_id": model.id, "dataset_key": "sample:mnist", "quick": True, "progress": {}}
    done = add(engine, owner, Report, **plain, state="succeeded")
    archive, orphan = (put(storage, f"reports/{done.id}/{name}.zip") for name in "ab")
    with writing(engine) as session:
        session.execute(update(Report).values(archive_key=archive))
    running, cancelled = (
        add(engine, owner, Report, **plain, state=state) for state in ("running", "cancelled")
    )
    kept = put(storage, f"reports/{running.id}/000001.json")
    given_up = put(storage, f"reports/{cancelled.id}/000001.json")

    assert sweep(engine, storage, settings) == 2
    assert left(storage) == {archive, kept}
    assert not storage.exists(orphan)
    assert not storage.exists(given_up)


def test_archive_that_an_export_names_stays(engine, storage, settings, owner, batch):
    plain = {"job_id": batch.job_id, "format": "parquet", "images_total": 3}
    done = add(engine, owner, Export, **plain, state="succeeded", archive_key="exports/x")
    named, orphan = (put(storage, f"exports/{done.id}/{name}.zip") for name in "ab")
    with writing(engine) as session:
        session.execute(update(Export).values(archive_key=named))
    running = add(engine, owner, Export, **plain, state="running")
    pending = put(storage, f"exports/{running.id}/c.zip")

    assert sweep(engine, storage, settings) == 1
    assert left(storage) == {named, pending}
    assert not storage.exists(orphan)


def test_state_of_a_training_goes_when_the_training_has_ended(engine, storage, settings, model):
    key = put(storage, f"training/{model.id}/000001.safetensors")
    with writing(engine) as session:
        session.execute(update(Model).values(state="running", state_key=key))
    assert sweep(engine, storage, settings) == 0

    with writing(engine) as session:
        session.execute(update(Model).values(state="succeeded", state_key=None))
    assert sweep(engine, storage, settings) == 1


def test_more_files_than_are_looked_at_together_are_all_swept(
    engine, storage, settings, batch, monkeypatch
):
    monkeypatch.setattr("datagen.service.sweep.AT_ONCE", 3)
    named = put(storage, shard(batch, "named"))
    for number in range(10):
        put(storage, shard(batch, f"orphan{number}"))
    end(engine, batch, named)

    assert sweep(engine, storage, settings) == 10
    assert left(storage) == {named}


def test_temporary_folder_of_a_killed_process_is_swept_too(
    engine, storage, settings, tmp_path, monkeypatch
):
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "tmp"))
    abandoned = tmp_path / "tmp" / f"{PREFIX}upload-1"
    (abandoned / "files").mkdir(parents=True)
    (abandoned / LOCK).touch()
    with scratch("export") as held:
        assert sweep(engine, storage, settings) == 0
        assert held.is_dir()
    assert not abandoned.exists()
