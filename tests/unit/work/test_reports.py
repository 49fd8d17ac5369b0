from __future__ import annotations

import io
import json
import zipfile
from contextlib import nullcontext
from datetime import timedelta
from uuid import UUID

import numpy as np
import pytest
from sqlalchemy import update
from tiny import CLASS_NAMES, LITTLE_EFFORT, striped_set

from datagen.datasets.reading import Opened, ReadReport
from datagen.db.session import now, reading, writing
from datagen.db.tables import Model, Report
from datagen.errors import Conflict, InvalidRequest, NotFound
from datagen.images import LabelledImages
from datagen.quality.report import step_names
from datagen.queue import RUN_PREVIEW, RUN_REPORT, Message
from datagen.schemas import JobCreate, ReportCreate
from datagen.service import datasets, jobs, reports
from datagen.service.stale import requeue_stale
from datagen.work import giving_way
from datagen.work import reports as work_room
from datagen.work.reports import run_report


@pytest.fixture(autouse=True)
def _little_effort(monkeypatch):
    monkeypatch.setattr(work_room, "QUICK", LITTLE_EFFORT)
    # Tests share the cores already; a second thread each would only wait for the others.
    monkeypatch.setattr(work_room, "all_threads", lambda _: nullcontext())


@pytest.fixture
def dataset(engine, storage, owner):
    splits = {"train": striped_set(240), "test": striped_set(120, seed=1)}
    stored = datasets.store(storage, Opened(splits, ReadReport(source="npz")))
    with writing(engine) as session:
        return datasets.register(session, owner.id, "real", stored)


@pytest.fixture
def ask(engine, owner, queue):
    def create(**wanted):
        with writing(engine) as session:
            report, messages = reports.create(
                session, owner.id, ReportCreate(**({"quick": True} | wanted))
            )
        queue.send(messages)
        return report

    return create


@pytest.fixture
def run(engine, storage, queue, settings):
    def step(**changes):
        own = settings.model_copy(update=changes)

        def run_one(report_id):
            run_report(engine, storage, queue, own, UUID(report_id))

        queue.tasks = dict(queue.tasks) | {RUN_REPORT: run_one}
        return queue.run_all()

    return step


@pytest.fixture
def job(engine, settings, owner, model, queue, worker, work_off):
    with writing(engine) as session:
        made, messages = jobs.create(
            session, settings, owner.id, JobCreate(model="stripes", all=40, seed=3)
        )
    queue.send(messages)
    work_off(worker())
    return made


def only(real, *labels):
    """The images of some labels."""
    kept = np.isin(real.labels, labels)
    return LabelledImages(real.images[kept], real.labels[kept], real.class_names)


def kept_as(engine, storage, owner, **splits):
    stored = datasets.store(storage, Opened(splits, ReadReport(source="npz")))
    with writing(engine) as session:
        datasets.register(session, owner.id, "partly", stored)


def row_of(engine, report):
    with reading(engine) as session:
        return session.get_one(Report, report.id)


def found_in(storage, row):
    with zipfile.ZipFile(io.BytesIO(storage.get(row.archive_key))) as archive:
        assert sorted(archive.namelist()) == ["report.html", "report.json"]
        return json.loads(archive.read("report.json"))


def test_report_on_a_job_is_kept_with_its_verdict(engine, storage, owner, dataset, job, ask, run):
    asked = ask(job=job.id, real="real")
    run()

    row = row_of(engine, asked)
    found = found_in(storage, row)
    assert (row.state, row.error) == ("succeeded", None)
    assert row.outcome == found["verdict"]["outcome"]
    assert row.sentence == found["verdict"]["sentence"]
    assert found["subject"]["job"] == str(job.id)
    assert found["subject"]["images"] == 60
    assert found["subject"]["real"] == "real@1"
    with reading(engine) as session:
        data, kind, _ = reports.read_file(session, storage, owner.id, asked.id, "report.html")
    assert kind.startswith("text/html")
    assert row.sentence.encode() in data


def test_report_on_a_model_makes_as_many_of_each_label(engine, storage, dataset, model, ask, run):
    asked = ask(model="stripes", real="real", images=30)
    run()

    found = found_in(storage, row_of(engine, asked))
    assert np.sum(found["fidelity"]["confusion"], axis=1).tolist() == [10, 10, 10]
    assert found["subject"]["job"] is None


def test_report_in_slices_is_the_same_as_in_one(engine, storage, dataset, job, ask, run):
    whole, sliced = ask(job=job.id, real="real"), None
    run()
    sliced = ask(job=job.id, real="real")
    tasks = run(slice_seconds=0.0)

    assert tasks == len(step_names(LITTLE_EFFORT))
    one, two = (found_in(storage, row_of(engine, each)) for each in (whole, sliced))
    assert one == two
    assert not [key for key in (f.key for f in storage.list("reports/")) if "json" in key]


@pytest.mark.parametrize("database_kind", ["sqlite"])
def test_slice_of_a_report_ends_after_a_step_where_somebody_waits(
    engine, settings, storage, dataset, job, ask, queue, monkeypatch
):
    monkeypatch.setattr(giving_way, "LEAST_SECONDS", 0.0)
    monkeypatch.setattr(giving_way, "TIMES_THE_BEGINNING", 0.0)
    asked = ask(job=job.id, real="real")
    queue.waiting.clear()
    queue.send([Message(RUN_PREVIEW)])
    assert run_report(engine, storage, queue, settings, asked.id)

    row = row_of(engine, asked)
    assert row.state == "queued"
    assert len(json.loads(storage.get(row.state_key))) == 1
    assert [message.task for message in queue.waiting] == [RUN_PREVIEW, RUN_REPORT]


def test_report_goes_on_after_its_worker_was_killed(
    engine, settings, storage, dataset, job, ask, run, queue
):
    asked = ask(job=job.id, real="real")
    with writing(engine) as session:
        session.execute(
            update(Report).values(
                state="running",
                attempt=1,
                lease_until=now(session) - timedelta(seconds=1),
            )
        )
    with writing(engine) as session:
        patient = settings.model_copy(update={"backoff_seconds": 0.0})
        requeue_stale(session, patient)
        queue.send(requeue_stale(session, patient))
    run(backoff_seconds=0.0)

    assert row_of(engine, asked).state == "succeeded"


def test_cancelled_report_stays_so(engine, owner, dataset, job, ask, run):
    asked = ask(job=job.id, real="real")
    with writing(engine) as session:
        assert reports.cancel(session, owner.id, asked.id).state == "cancelled"
    run()

    assert row_of(engine, asked).state == "cancelled"
    with writing(engine) as session, pytest.raises(Conflict, match="already"):
        reports.cancel(session, owner.id, asked.id)


def test_labels_without_real_images_are_left_out_and_noted(engine, storage, owner, job, ask, run):
    names = ("class 0", "class 2", "another")
    splits = {
        "train": striped_set(240, names=names), "test": striped_set(90, seed=1, names=names)
    }  # fmt: skip
    stored = datasets.store(storage, Opened(splits, ReadReport(source="npz")))
    with writing(engine) as session:
        datasets.register(session, owner.id, "others", stored)
    asked = ask(job=job.id, real="others")
    run()

    found = found_in(storage, row_of(engine, asked))
    assert [one["part"] for one in found["not_computed"] if "class 1" in one["reason"]] == [
        "labels"
    ]
    assert set(found["fidelity"]["per_class"]) == {"class 0", "class 2"}


def test_real_images_without_a_held_out_split_are_divided(engine, storage, owner, job, ask, run):
    stored = datasets.store(storage, Opened({"train": striped_set(240)}, ReadReport(source="npz")))
    with writing(engine) as session:
        datasets.register(session, owner.id, "whole", stored)
    asked = ask(job=job.id, real="whole")
    run()

    found = found_in(storage, row_of(engine, asked))
    assert found["subject"]["training_images"] + found["subject"]["held_out_images"] == 240
    assert found["subject"]["held_out_images"] == 48


def test_job_that_runs_or_is_empty_is_no_subject(engine, settings, owner, model, dataset, ask):
    with writing(engine) as session:
        made, _ = jobs.create(session, settings, owner.id, JobCreate(model="stripes", all=4))
    with pytest.raises(Conflict, match="report on it when it has ended"):
        ask(job=made.id, real="real")
    with writing(engine) as session:
        jobs.cancel(session, owner.id, made.id)
    with pytest.raises(InvalidRequest, match="no images"):
        ask(job=made.id, real="real")


def test_real_images_must_be_named_and_fit(engine, storage, owner, model, job, ask):
    with pytest.raises(InvalidRequest, match="name a dataset") as unnamed:
        ask(job=job.id)
    assert unnamed.value.field == "real"
    with pytest.raises(NotFound):
        ask(job=job.id, real="nope")
    for name, images in {
        "large": LabelledImages(np.zeros((9, 1, 12, 12), np.uint8), np.arange(9) % 3, CLASS_NAMES),
        "other": striped_set(90, names=("x", "y", "z")),
    }.items():
        stored = datasets.store(storage, Opened({"train": images}, ReadReport(source="npz")))
        with writing(engine) as session:
            datasets.register(session, owner.id, name, stored)
    with pytest.raises(InvalidRequest, match=r"images of 1x12x12 .* makes 1x9x7"):
        ask(job=job.id, real="large")
    with pytest.raises(InvalidRequest, match="no label in common"):
        ask(job=job.id, real="other")


def test_model_without_labels_is_no_subject(engine, model, dataset, ask):
    with writing(engine) as session:
        session.execute(update(Model).values(config={"family": "vae"}))
    with pytest.raises(InvalidRequest, match="report on a job of it"):
        ask(model="stripes", real="real")


@pytest.mark.parametrize("wanted", [{}, {"job": UUID(int=1), "model": "m"}])
def test_subject_is_one_job_or_one_model(wanted):
    with pytest.raises(ValueError, match="one of 'job' and 'model'"):
        ReportCreate(**wanted)


def test_damaged_real_images_fail_the_report_at_once(engine, storage, dataset, job, ask, run):
    asked = ask(job=job.id, real="real")
    for file in storage.list("datasets/"):
        storage.put(file.key, b"spoilt")
    run()

    row = row_of(engine, asked)
    assert row.state == "failed"
    assert row.attempt == 1
    assert row.error


@pytest.mark.parametrize("error", [NotFound("It is gone."), Conflict("It has changed.")])
def test_error_that_no_waiting_helps_ends_the_report_at_once(
    engine, storage, settings, queue, dataset, job, ask, error
):
    class Refusing:
        def get(self, key):
            raise error

        open = get

    asked = ask(job=job.id, real="real")
    run_report(engine, Refusing(), queue, settings, asked.id)

    row = row_of(engine, asked)
    assert (row.state, row.attempt, row.error) == ("failed", 1, error.detail)


def test_dataset_that_reports_measured_by_leaves_a_tombstone(engine, owner, dataset, job, ask, run):
    asked = ask(job=job.id, real="real")
    with writing(engine) as session, pytest.raises(Conflict, match="cancel that first"):
        datasets.remove(session, owner.id, "real")
    run()
    with writing(engine) as session:
        datasets.remove(session, owner.id, "real")
    with reading(engine) as session:
        assert reports.read(session, owner.id, asked.id).outcome is not None


def test_removed_report_is_gone(engine, owner, dataset, job, ask, run):
    asked = ask(job=job.id, real="real")
    with writing(engine) as session, pytest.raises(Conflict):
        reports.remove(session, owner.id, asked.id)
    run()
    with writing(engine) as session:
        reports.remove(session, owner.id, asked.id)
    with reading(engine) as session, pytest.raises(NotFound):
        reports.read(session, owner.id, asked.id)


def test_class_without_training_images_is_left_out_and_named(
    engine, storage, owner, model, ask, run
):
    kept_as(
        engine, storage, owner, train=only(striped_set(240), 0, 2), test=striped_set(120, seed=1)
    )
    with writing(engine) as session:
        session.execute(update(Model).values(metrics={"training_images_per_class": [9, 0, 9]}))
    asked = ask(model="stripes", real="partly", images=30)
    run()

    row = row_of(engine, asked)
    assert (row.state, row.error) == ("succeeded", None)
    found = found_in(storage, row)
    assert np.sum(found["fidelity"]["confusion"], axis=1).tolist() == [15, 0, 15]
    assert set(found["fidelity"]["per_class"]) == {"class 0", "class 2"}
    assert found["subject"]["held_out_images"] == 80
    assert found["usefulness"]["synthetic_alone"] is not None
    said = " ".join(found["notes"])
    assert "The model stripes@1 had no training images of 'class 1'" in said
    assert "The real images have no training images of 'class 1'" in said
    with reading(engine) as session:
        data, _, _ = reports.read_file(session, storage, owner.id, asked.id, "report.html")
    assert "no training images of &#x27;class 1&#x27;" in data.decode()


def test_class_without_held_out_images_is_named(engine, storage, owner, job, ask, run):
    held_out = only(striped_set(120, seed=1), 0, 2)
    kept_as(engine, storage, owner, train=striped_set(240), test=held_out)
    asked = ask(job=job.id, real="partly")
    run()

    found = found_in(storage, row_of(engine, asked))
    assert "none held out of 'class 1'" in found["notes"][0]
    assert set(found["fidelity"]["per_class"]) == set(CLASS_NAMES)
    assert set(found["fidelity"]["evaluator"]["per_class"]) == {"class 0", "class 2"}


def test_class_of_one_real_image_is_measured_and_named(engine, storage, owner, job, ask, run):
    whole = striped_set(240)
    rows = np.flatnonzero((whole.labels != 1) | (np.arange(240) == 1))
    train = LabelledImages(whole.images[rows], whole.labels[rows], CLASS_NAMES)
    kept_as(engine, storage, owner, train=train)
    asked = ask(job=job.id, real="partly")
    run()

    row = row_of(engine, asked)
    assert (row.state, row.error) == ("succeeded", None)
    assert "one real training image of 'class 1'" in " ".join(found_in(storage, row)["notes"])


def test_real_images_whose_held_out_ones_are_all_of_other_classes_are_divided(
    engine, storage, owner, job, ask, run
):
    kept_as(
        engine, storage, owner, train=only(striped_set(240), 0, 2), test=only(striped_set(120), 1)
    )  # fmt: skip
    asked = ask(job=job.id, real="partly")
    run()

    row = row_of(engine, asked)
    assert (row.state, row.error) == ("succeeded", None)
    assert found_in(storage, row)["subject"]["held_out_images"] == 32
