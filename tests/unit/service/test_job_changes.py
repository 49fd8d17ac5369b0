"""More images of a job, another try, removal, and plans that write nothing."""

from __future__ import annotations

from datetime import timedelta

import pytest
from sqlalchemy import func, select, update

from datagen.db.session import now, reading, writing
from datagen.db.tables import Batch, Dataset, Export, Job, JobLabel, Sample, new_id
from datagen.errors import Conflict, InvalidRequest, NotFound, QuotaExceeded, UnknownLabel
from datagen.queue import REMOVE_JOBS, RUN_BATCH
from datagen.schemas import ExportCreate, JobCreate, JobExtend
from datagen.service import batches, claims, exports, job_changes, job_plans, jobs, samples


def read(engine, owner, job_id):
    with reading(engine) as session:
        return jobs.read(session, owner.id, job_id)


def extend(engine, settings, owner, job_id, **wanted):
    with writing(engine) as session:
        return job_changes.extend(session, settings, owner.id, job_id, JobExtend(**wanted))


def indices(engine, owner, job_id, label=None):
    with reading(engine) as session:
        page = samples.list_samples(session, owner.id, job_id, label=label, limit=1000)
    return [sample.index for sample in page.items]


def rows(engine, kind, *where):
    with reading(engine) as session:
        return session.scalar(select(func.count()).select_from(kind).where(*where))


@pytest.fixture
def dataset(engine, owner):
    """Real images of pets: 5 ants, 2 bees, 5 cats to learn from."""
    row = Dataset(
        id=new_id(), owner_id=owner.id, name="zoo", version=1, digest="a" * 64,
        class_names=["bee", "ant", "cat"], image_shape=[1, 4, 4],
        counts={"train": [2, 5, 5], "test": [9, 9, 9]}, report={}, storage_prefix="datasets/a",
        created_at=None,
    )  # fmt: skip
    with writing(engine) as session:
        row.created_at = now(session)
        session.add(row)
    return row


class TestPlans:
    def plan(self, engine, settings, owner, **wanted):
        with reading(engine) as session:
            request = JobCreate(model="pets", **wanted)
            return job_plans.plan(session, settings, owner.id, request)

    def test_plan_is_what_the_job_then_does(self, engine, tiny, owner, model, job):
        own = tiny.model_copy(update={"quota_images": 100})
        plan = self.plan(engine, own, owner, labels={"cat": 6, "ant": 3}, seed=5)
        assert plan.labels == {"ant": 3, "cat": 6}
        assert (plan.images, plan.images_left) == (9, 100 - 10 - 9)
        with writing(engine) as session:
            made, messages = jobs.create(
                session, own, owner.id, JobCreate(model="pets", labels={"cat": 6, "ant": 3})
            )
        assert plan.batches == rows(engine, Batch, Batch.job_id == made.id) == len(messages)
        assert (plan.sampler, plan.gate) == (made.sampler, made.gate)

    def test_plan_writes_nothing_and_takes_nothing_of_the_quota(self, engine, tiny, owner, model):
        for _ in range(3):
            self.plan(engine, tiny.model_copy(update={"quota_images": 3}), owner, all=1)
        assert rows(engine, Job) == 0

    def test_plan_tells_time_and_storage_by_the_jobs_before(self, engine, tiny, owner, model):
        plan = self.plan(engine, tiny, owner, all=100)
        assert (plan.seconds, plan.bytes) == (None, None)
        with writing(engine) as session:
            request = JobCreate(model="pets", labels={"ant": 10})
            made, _ = jobs.create(session, tiny, owner.id, request)
            moment = now(session)
            # Two batches at the same time, then a break, then one: four seconds of work in all.
            spans = [(0, 2), (0, 2), (10, 12)]
            for batch, (began, ended) in zip(
                session.scalars(select(Batch).where(Batch.job_id == made.id)), spans, strict=True
            ):
                batch.state, batch.shard_bytes = "succeeded", 10 * (batch.stop - batch.start)
                batch.started_at = moment + timedelta(seconds=began)
                batch.ended_at = moment + timedelta(seconds=ended)
        plan = self.plan(engine, tiny, owner, all=100)
        assert plan.seconds == pytest.approx(300 * 4 / 10)
        assert plan.bytes == 3000
        with writing(engine) as session:
            for batch in session.scalars(select(Batch)):
                batch.ended_at = moment + timedelta(milliseconds=1)
        # No estimate says that a job takes no time.
        assert self.plan(engine, tiny, owner, labels={"ant": 1}).seconds == 0.1

    @pytest.mark.parametrize(
        ("wanted", "error"),
        [
            ({"all": 100}, QuotaExceeded),
            ({"labels": {"dog": 1}}, UnknownLabel),
            ({"all": 1, "exports": ["pdf"]}, InvalidRequest),
        ],
    )
    def test_plan_refuses_what_the_job_would_be_refused_for(
        self, engine, tiny, owner, model, wanted, error
    ):
        with pytest.raises(error):
            self.plan(engine, tiny.model_copy(update={"quota_images": 10}), owner, **wanted)


class TestLabels:
    def labels(self, engine, tiny, owner, **wanted):
        with writing(engine) as session:
            made, _ = jobs.create(session, tiny, owner.id, JobCreate(model="pets", **wanted))
        return {part.label: part.requested for part in made.labels}

    def test_labels_are_known_by_their_index_too(self, engine, tiny, owner, model):
        assert self.labels(engine, tiny, owner, labels={"2": 5, "ant": 1}) == {"ant": 1, "cat": 5}

    @pytest.mark.parametrize("name", ["3", "-1", "1.0", "٢", "00000", ""])
    def test_what_is_neither_name_nor_index_is_refused(self, engine, tiny, owner, model, name):
        with pytest.raises(UnknownLabel, match="it knows ant, bee, cat"):
            self.labels(engine, tiny, owner, labels={name: 1})

    def test_label_named_twice_is_refused(self, engine, tiny, owner, model):
        with pytest.raises(InvalidRequest, match="'ant' is asked for twice"):
            self.labels(engine, tiny, owner, labels={"0": 1, "ant": 1})

    def test_balance_fills_up_what_is_missing_in_the_training_images(
        self, engine, tiny, owner, model, dataset
    ):
        to_six = {"dataset": "zoo", "to": 6}
        assert self.labels(engine, tiny, owner, balance=to_six) == {"ant": 1, "bee": 4, "cat": 1}
        assert self.labels(engine, tiny, owner, balance={"dataset": "zoo@1"}) == {"bee": 3}

    def test_balance_that_is_there_already_is_refused(self, engine, tiny, owner, model, dataset):
        with pytest.raises(InvalidRequest, match="nothing to add"):
            self.labels(engine, tiny, owner, balance={"dataset": "zoo", "to": 2})
        with pytest.raises(NotFound):
            self.labels(engine, tiny, owner, balance={"dataset": "none"})

    def test_balance_of_classes_that_the_model_does_not_know_is_refused(
        self, engine, tiny, owner, model, dataset
    ):
        with writing(engine) as session:
            session.get_one(Dataset, dataset.id).class_names = ["bee", "ant", "dog"]
        with pytest.raises(UnknownLabel, match="the label 'dog', which the model 'pets'"):
            self.labels(engine, tiny, owner, balance={"dataset": "zoo"})


class TestExtending:
    def test_extension_takes_the_next_indices(self, engine, tiny, owner, job, store, batch_ids):
        longer, messages = extend(engine, tiny, owner, job.id, labels={"bee": 5, "ant": 2})
        assert (longer.state, longer.images_requested, longer.ended_at) == ("running", 17, None)
        assert longer.seed == job.seed
        for batch_id in batch_ids(messages):
            store(batch_id)
        ended = read(engine, owner, job.id)
        assert (ended.state, ended.images_stored) == ("succeeded", 17)
        assert [(one.label, one.requested, one.stored) for one in ended.labels] == [
            ("ant", 5, 5),
            ("cat", 7, 7),
            ("bee", 5, 5),
        ]
        assert indices(engine, owner, job.id) == list(range(17))
        assert indices(engine, owner, job.id, "ant") == [0, 1, 2, 10, 11]
        assert indices(engine, owner, job.id, "cat") == list(range(3, 10))

    def test_job_that_goes_on_can_be_extended(self, engine, tiny, owner, start, store, batch_ids):
        job, ids = start(ant=5)
        store(ids[0])
        longer, messages = extend(engine, tiny, owner, job.id, labels={"ant": 5})
        assert (longer.state, longer.images_requested) == ("running", 10)
        for batch_id in [*ids[1:], *batch_ids(messages)]:
            store(batch_id)
        assert read(engine, owner, job.id).state == "succeeded"
        assert indices(engine, owner, job.id) == list(range(10))

    def test_exports_that_follow_the_job_follow_it_again(
        self, engine, tiny, owner, model, store, batch_ids
    ):
        with writing(engine) as session:
            request = JobCreate(model="pets", labels={"ant": 4}, exports=["parquet"])
            job, messages = jobs.create(session, tiny, owner.id, request)
        for batch_id in batch_ids(messages):
            store(batch_id)
        with writing(engine) as session:
            session.execute(update(Export).values(state="succeeded"))
        _, messages = extend(engine, tiny, owner, job.id, labels={"ant": 4})
        for batch_id in batch_ids(messages):
            store(batch_id)
        with reading(engine) as session:
            totals = session.scalars(select(Export.images_total).order_by(Export.id)).all()
        assert totals == [4, 8]

    def test_extension_is_counted_by_the_quota(self, engine, tiny, owner, job):
        own = tiny.model_copy(update={"quota_images": 12})
        with pytest.raises(QuotaExceeded, match="2 of the quota of 12"):
            extend(engine, own, owner, job.id, labels={"ant": 3})
        extend(engine, own, owner, job.id, labels={"ant": 2})

    def test_what_cannot_be_extended_says_so(self, engine, tiny, owner, job, start):
        with pytest.raises(InvalidRequest, match="by 'labels', 'all' or 'balance' alone"):
            extend(engine, tiny, owner, job.id, count=3)
        with pytest.raises(UnknownLabel):
            extend(engine, tiny, owner, job.id, labels={"dog": 3})
        with pytest.raises(NotFound):
            extend(engine, tiny, owner, new_id(), labels={"ant": 3})
        other, _ = start(ant=3)
        with writing(engine) as session:
            jobs.cancel(session, owner.id, other.id)
        with pytest.raises(Conflict, match="is cancelled; have it retried first"):
            extend(engine, tiny, owner, other.id, labels={"ant": 3})

    def test_job_is_not_extended_while_it_is_exported(self, engine, tiny, owner, job):
        with writing(engine) as session:
            exports.create(session, tiny, owner.id, ExportCreate(job=job.id, format="parquet"))
        with pytest.raises(Conflict, match="is being written; wait for its end"):
            extend(engine, tiny, owner, job.id, labels={"ant": 3})


class TestRetrying:
    def retry(self, engine, tiny, owner, job_id):
        with writing(engine) as session:
            return job_changes.retry(session, tiny, owner.id, job_id)

    def test_failed_job_goes_on_where_it_ended(self, engine, tiny, owner, start, store, batch_ids):
        job, ids = start(ant=10)
        store(ids[0])
        for _ in range(tiny.max_attempts):
            with writing(engine) as session:
                session.execute(update(Batch).values(available_at=now(session)))
            with writing(engine) as session:
                work = batches.claim(session, tiny, ids[1])
            with writing(engine) as session:
                own, error = (work.batch_id, work.attempt), OSError("no luck")
                claims.end_attempt(session, tiny, Batch, *own, error, batches.failing(*own))
        failed = read(engine, owner, job.id)
        assert (failed.state, failed.images_stored) == ("failed", 4)

        again, messages = self.retry(engine, tiny, owner, job.id)
        assert (again.state, again.error, again.ended_at) == ("running", None, None)
        assert set(batch_ids(messages)) == set(ids[1:])
        for batch_id in batch_ids(messages):
            store(batch_id)
        assert read(engine, owner, job.id).state == "succeeded"
        assert indices(engine, owner, job.id) == list(range(10))

    def test_cancelled_job_is_cut_further(self, engine, tiny, owner, model, store, batch_ids):
        narrow = tiny.model_copy(update={"window": 1})
        with writing(engine) as session:
            job, _ = jobs.create(session, narrow, owner.id, JobCreate(model="pets", all=4))
        with writing(engine) as session:
            jobs.cancel(session, owner.id, job.id)
        again, messages = self.retry(engine, tiny, owner, job.id)
        assert again.state == "queued"
        while ids := batch_ids(messages):
            for batch_id in ids:
                store(batch_id)
            with writing(engine) as session:
                messages = batches.make_batches(session, tiny)
        assert read(engine, owner, job.id).state == "succeeded"

    def test_job_that_was_whole_but_for_its_end_is_ended(self, engine, tiny, owner, job):
        with writing(engine) as session:
            session.get_one(Job, job.id).state = "cancelled"
        self.retry(engine, tiny, owner, job.id)
        assert read(engine, owner, job.id).state == "succeeded"

    @pytest.mark.parametrize("state", ["queued", "running", "succeeded"])
    def test_only_what_failed_or_was_cancelled_is_retried(self, engine, tiny, owner, job, state):
        with writing(engine) as session:
            session.get_one(Job, job.id).state = state
        with pytest.raises(Conflict, match=f"is {state}"):
            self.retry(engine, tiny, owner, job.id)

    def test_job_that_failed_at_its_gate_would_fail_again(self, engine, tiny, owner, job):
        with writing(engine) as session:
            row = session.get_one(Job, job.id)
            row.state, row.images_short = "failed", 1
            row.gate = {"min_score": 0.9, "on_shortfall": "fail"}
        with pytest.raises(Conflict, match="would fail there again"):
            self.retry(engine, tiny, owner, job.id)


class TestRemoving:
    def remove(self, engine, owner, job_id, **options):
        with writing(engine) as session:
            return job_changes.remove(session, owner.id, job_id, **options)

    def test_removed_job_is_gone_at_once_and_its_files_soon(
        self, engine, storage, tiny, owner, job, start, store
    ):
        other, ids = start(ant=2)
        store(ids[0])
        messages = self.remove(engine, owner, job.id)
        assert [message.task for message in messages] == [REMOVE_JOBS]
        with pytest.raises(NotFound):
            read(engine, owner, job.id)
        with reading(engine) as session:
            assert [one.id for one in jobs.list_jobs(session, owner.id).items] == [other.id]
            with pytest.raises(NotFound):
                samples.list_samples(session, owner.id, job.id)

        assert job_changes.clear_removed(engine, storage) == 1
        assert rows(engine, Job) == 1
        for kind in (Sample, Batch, JobLabel):
            assert rows(engine, kind, kind.job_id == job.id) == 0
        kept = {found.key.split("/")[1] for found in storage.list("jobs/")}
        assert kept == {str(other.id)}
        assert job_changes.clear_removed(engine, storage) == 0

    def test_images_of_a_removed_job_are_the_owners_again(self, engine, tiny, owner, job):
        own = tiny.model_copy(update={"quota_images": 10})
        self.remove(engine, owner, job.id)
        with writing(engine) as session:
            jobs.create(session, own, owner.id, JobCreate(model="pets", labels={"ant": 10}))

    def test_job_that_goes_on_is_not_removed(self, engine, owner, start):
        job, _ = start(ant=2)
        with pytest.raises(Conflict, match="cancel it before it is removed"):
            self.remove(engine, owner, job.id)

    def test_job_that_an_export_names_is_removed_by_force_alone(
        self, engine, storage, tiny, owner, job
    ):
        with writing(engine) as session:
            wanted = ExportCreate(job=job.id, format="parquet")
            export, _ = exports.create(session, tiny, owner.id, wanted)
        with pytest.raises(Conflict, match="is being written"):
            self.remove(engine, owner, job.id, force=True)
        with writing(engine) as session:
            session.execute(update(Export).values(state="succeeded"))
        with pytest.raises(Conflict, match=f"is named by export {export.id}; remove"):
            self.remove(engine, owner, job.id)

        self.remove(engine, owner, job.id, force=True)
        assert job_changes.clear_removed(engine, storage) == 1
        assert list(storage.list("jobs/")) == []
        with reading(engine) as session:
            assert exports.read(session, owner.id, export.id).state == "succeeded"
        with pytest.raises(NotFound):
            read(engine, owner, job.id)

    def test_days_of_a_job_end_after_it(self, engine, storage, tiny, owner, job, start):
        with writing(engine) as session:
            row = session.get_one(Job, job.id)
            row.retention_days = 2
            row.ended_at = now(session) - timedelta(days=1, hours=23)
        assert read(engine, owner, job.id).expires_at is not None
        with writing(engine) as session:
            assert job_changes.expire(session) == []
            session.get_one(Job, job.id).ended_at = now(session) - timedelta(days=2, hours=1)
        with writing(engine) as session:
            assert [message.task for message in job_changes.expire(session)] == [REMOVE_JOBS]
        with pytest.raises(NotFound):
            read(engine, owner, job.id)
        # Told again until somebody has cleared it.
        with writing(engine) as session:
            assert [message.task for message in job_changes.expire(session)] == [REMOVE_JOBS]
        job_changes.clear_removed(engine, storage)
        with writing(engine) as session:
            assert job_changes.expire(session) == []


class TestShowing:
    def test_every_change_raises_the_revision(self, engine, tiny, owner, start, store):
        seen = []

        def note(job_id):
            with reading(engine) as session:
                seen.append(session.get_one(Job, job_id).revision)

        job, ids = start(ant=10)
        note(job.id)
        for batch_id in ids:
            store(batch_id)
            note(job.id)
        assert seen == sorted(set(seen))

    def test_running_job_tells_stage_pace_and_time_left(self, engine, tiny, owner, start, store):
        job, ids = start(ant=10)
        assert (job.stage, job.images_per_second, job.seconds_left) == ("waiting", None, None)
        store(ids[0])
        running = read(engine, owner, job.id)
        assert running.stage == "generating"
        assert running.images_per_second > 0
        assert running.seconds_left == pytest.approx(6 / running.images_per_second, abs=0.06)
        for batch_id in ids[1:]:
            store(batch_id)
        ended = read(engine, owner, job.id)
        assert (ended.stage, ended.images_per_second, ended.seconds_left) == (None, None, None)

    def test_jobs_are_found_by_model_and_time_and_listed_either_way(
        self, engine, tiny, owner, model, start
    ):
        made = [start(ant=1)[0] for _ in range(3)]
        ids = [job.id for job in made]

        def listed(**wanted):
            with reading(engine) as session:
                page = jobs.list_jobs(session, owner.id, **wanted)
            return [job.id for job in page.items], page.next_cursor

        assert listed()[0] == ids[::-1]
        first, cursor = listed(oldest_first=True, limit=2)
        assert first + listed(oldest_first=True, cursor=cursor)[0] == ids
        assert listed(model="pets")[0] == ids[::-1]
        assert listed(model="pets@1", limit=1)[0] == ids[2:]
        with pytest.raises(NotFound):
            listed(model="dogs")
        assert listed(created_after=made[1].created_at)[0] == ids[:0:-1]
        assert listed(created_before=made[1].created_at)[0] == ids[:1]

    def test_priority_decides_which_queue_batches_go_to(self, engine, tiny, owner, model):
        for priority, urgent in (("interactive", True), ("bulk", False)):
            with writing(engine) as session:
                wanted = JobCreate(model="pets", all=4, priority=priority)
                _, messages = jobs.create(session, tiny, owner.id, wanted)
            told = [message for message in messages if message.task == RUN_BATCH]
            assert {message.urgent for message in told} == {urgent}
        wanted = JobCreate(model="pets", all=10_000, priority="interactive")
        with writing(engine) as session, pytest.raises(InvalidRequest, match="10,000 images"):
            jobs.create(session, tiny, owner.id, wanted)

    def test_metadata_is_returned(self, engine, tiny, owner, model):
        noted = {"ticket": "VIS-17", "tags": ["a", None, 1.5], "é": {"ok": True}}
        with writing(engine) as session:
            wanted = JobCreate(model="pets", all=1, metadata=noted, retention_days=3)
            job, _ = jobs.create(session, tiny, owner.id, wanted)
        assert read(engine, owner, job.id).metadata == noted
        assert (job.retention_days, job.expires_at) == (3, None)

    @pytest.mark.parametrize(
        "metadata", [{"x": "y" * 9000}, {"x": float("nan")}, {"x": float("inf")}, ["x"], "x"]
    )
    def test_metadata_beyond_its_limits_is_refused(self, metadata):
        with pytest.raises(ValueError, match="metadata"):
            JobCreate(model="pets", all=1, metadata=metadata)
