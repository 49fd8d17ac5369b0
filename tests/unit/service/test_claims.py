"""How often claimed work is tried, and when it has failed for good: the same for every kind."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from uuid import UUID

import pytest
from running import wait_until
from sqlalchemy import select, text, update

from datagen.db.session import now, reading, writing
from datagen.db.tables import Batch, Delivery, Export, Figures, Job, Model, Report, Run
from datagen.errors import (
    Cancelled,
    Conflict,
    DatagenError,
    DeviceUnusable,
    Forbidden,
    Gone,
    InFlight,
    InvalidFile,
    InvalidRequest,
    NotFound,
    QueueUnavailable,
    QuotaExceeded,
    ServerUnreachable,
    StorageFailure,
    TooManyRequests,
    TrainingDiverged,
    Unavailable,
)
from datagen.queue import DELIVER, RUN_BATCH, RUN_EXPORT
from datagen.schemas import (
    ExportCreate,
    FiguresCreate,
    JobCreate,
    ModelCreate,
    ReportCreate,
    WebhookCreate,
)
from datagen.service import (
    batches,
    claims,
    exports,
    figures,
    jobs,
    models,
    reports,
    run_work,
    running,
    webhooks,
)
from datagen.service.attempts import attempt
from datagen.service.outgoing import ANSWER_SECONDS
from datagen.service.stale import requeue_stale

FULL = StorageFailure("The disk is full.")
PASSING = (
    FULL, Unavailable("Away."), QueueUnavailable("Away."), ServerUnreachable("Away."),
    TooManyRequests("Wait."), InFlight("Still at it."), OSError("reset"), RuntimeError("no memory"),
    MemoryError(), KeyError("a defect"), ZeroDivisionError("a defect"),
)  # fmt: skip
PERMANENT = (
    NotFound("It is gone."), Conflict("It has ended."), Gone("It is over."), Forbidden("No."),
    InvalidRequest("Bad."), InvalidFile("Damaged."), QuotaExceeded("Too much."),
    TrainingDiverged("The loss was nan."), DeviceUnusable("No such card."), DatagenError("Bad."),
)  # fmt: skip


def make_batch(world, session):
    _, messages = jobs.create(
        session, world.settings, world.owner.id, JobCreate(model="pets", labels={"ant": 2})
    )
    return UUID(next(m.arguments["batch_id"] for m in messages if m.task == RUN_BATCH))


def make_export(world, session):
    wanted = ExportCreate(dataset="defects", format="parquet")
    return exports.create(session, world.settings, world.owner.id, wanted)[0].id


def make_training(world, session):
    wanted = ModelCreate(name="bugs", dataset="defects")
    model = models.create(session, world.settings, world.owner.id, wanted)[0]
    session.get_one(Model, model.id).state_key = "training/state"
    return model.id


def make_report(world, session):
    report = reports.create(session, world.owner.id, ReportCreate(model="pets", real="defects"))[0]
    session.get_one(Report, report.id).state_key = "reports/state"
    return report.id


def make_figures(world, session):
    return figures.request(session, world.owner.id, "pets", FiguresCreate())[0].id


def make_delivery(world, session):
    hook = webhooks.create(session, world.owner.id, WebhookCreate(url="https://h.example/"))
    return webhooks.ping(session, world.owner.id, hook.id)[0].id


MAKE = {
    Batch: make_batch,
    Delivery: make_delivery,
    Export: make_export,
    Figures: make_figures,
    Model: make_training,
    Report: make_report,
}


class Claimed:
    """A row of one kind, workers that try it, and time that passes when a test lets it."""

    def __init__(self, world, kind):
        self.world, self.engine, self.kind = world, world.engine, kind
        self.settings = world.settings.model_copy(update={"backoff_seconds": 1.0})
        if kind is Run:
            world.apply(source={"dataset": "photos", "refresh": "s3://photos/new"})
            self.id = world.start().id
            # It waits for a worker that reads its source.
            world.queue.run_next()
        else:
            with writing(self.engine) as session:
                self.id = MAKE[kind](world, session)
        self.attempts = claims.policy_of(self.settings, kind).attempts

    @property
    def row(self):
        with reading(self.engine) as session:
            return session.get_one(self.kind, self.id)

    def claim(self):
        self.tried_at = self.moment()
        with writing(self.engine) as session:
            row = claims.claim(session, self.settings, self.kind, self.id)
        return None if row is None else row.attempt

    def fails(self, number):
        if self.kind is Batch:
            return batches.failing(self.id, number)
        if self.kind is Run:
            return run_work._failing(self.settings, self.id, number)
        return None

    def fail(self, error):
        """A worker tries it and fails; returns how long the row then waits, None if it ended."""
        number = self.claim()
        assert number is not None
        own = (self.engine, self.settings, self.kind, self.id, number)
        with attempt(*own, fail=self.fails(number)):
            raise error
        return None if self.ended() else self.waits()

    def postpone(self):
        number = self.claim()
        with writing(self.engine) as session:
            assert claims.postpone(session, self.kind, self.id, number, 2.0)
        assert self.waits() == 2
        self.let_time_pass()

    def waits(self):
        """Seconds that the row waits: near the right number by what the machine itself took."""
        row = self.row
        due = row.lease_until if self.kind is Run else row.available_at
        assert row.state == ("running" if self.kind is Run else "queued")
        longest = (due - self.tried_at).total_seconds()
        shortest = (due - self.moment()).total_seconds()
        return pytest.approx((longest + shortest) / 2, abs=(longest - shortest) / 2 + 0.001)

    def moment(self):
        with reading(self.engine) as session:
            return now(session)

    def let_time_pass(self):
        with writing(self.engine) as session:
            past = now(session) - timedelta(seconds=1)
            of = update(self.kind).where(self.kind.id == self.id)
            session.execute(of.where(self.kind.state == "queued").values(available_at=past))
            session.execute(of.where(self.kind.state == "running").values(lease_until=past))

    def tick(self):
        self.tried_at = self.moment()
        with writing(self.engine) as session:
            return requeue_stale(session, self.settings)

    def ended(self):
        if self.kind is Run:
            # A worker leaves a step that is spent to whoever goes on with the run.
            running.advance(self.engine, self.world.storage, self.settings, self.id)
        return self.row.state == "failed"

    @property
    def reason(self):
        """What whoever asked for it is told."""
        if self.kind is not Batch:
            return self.row.error
        with reading(self.engine) as session:
            return session.get_one(Job, self.row.job_id).error


# What does not differ between databases is tried on the fast one.
ONE_DATABASE = pytest.mark.parametrize("database_kind", ["sqlite"])
KINDS = [Batch, Delivery, Export, Figures, Model, Report, Run]


@pytest.fixture(params=KINDS, ids=lambda kind: kind.__name__.lower())
def claimed(request, world):
    return Claimed(world, request.param)


@pytest.fixture(
    params=[kind for kind in KINDS if kind is not Run], ids=lambda kind: kind.__name__.lower()
)
def requeued(request, world):
    """Work that `requeue_stale` looks after; a tick of pipelines looks after runs."""
    return Claimed(world, request.param)


def expected_waits(claimed):
    if claimed.kind is Delivery:
        return list(claims.DELIVERY_WAITS)
    return [1, 2, 4, 8, 16, 30, 30]


def test_every_kind_that_is_claimed_is_tried_here():
    assert set(KINDS) == set(claims.Claimable.__args__)


def test_postponements_use_up_no_attempt_and_failures_end_it_at_the_limit(claimed):
    for _ in range(8):
        claimed.postpone()

    waits = []
    while (wait := claimed.fail(FULL)) is not None:
        waits.append(wait)
        assert len(waits) < claimed.attempts
        assert claimed.row.error == FULL.detail
        claimed.let_time_pass()

    # The first failure after eight postponements leaves it open, the last one ends it.
    assert waits == expected_waits(claimed)
    assert len(waits) + 1 == claimed.attempts
    assert FULL.detail in claimed.reason
    if claimed.kind is not Run:
        assert f"{claimed.attempts} attempts" in claimed.reason
    claimed.let_time_pass()
    assert claimed.claim() is None


@ONE_DATABASE
@pytest.mark.parametrize("error", [NotFound("It is gone."), Conflict("It has ended.")])
def test_error_that_cannot_pass_ends_it_at_the_first_attempt(claimed, error):
    assert claimed.fail(error) is None
    assert claimed.row.state == "failed"
    assert claimed.reason.endswith(error.detail)
    assert "Gave up" not in claimed.reason
    assert getattr(claimed.row, "state_key", None) is None


@ONE_DATABASE
def test_defect_is_recorded_as_it_is_and_does_not_wait_for_the_lease(claimed):
    assert claimed.fail(KeyError("width")) == expected_waits(claimed)[0]
    assert claimed.row.error == "KeyError: 'width'"


@ONE_DATABASE
def test_row_that_has_no_attempt_left_is_not_claimed(claimed):
    with writing(claimed.engine) as session:
        session.execute(
            update(claimed.kind)
            .where(claimed.kind.id == claimed.id)
            .values(attempt=20, attempt_floor=20 - claimed.attempts)
        )
    assert claimed.claim() is None
    with writing(claimed.engine) as session:
        assert claims.unsent(session, claimed.settings, claimed.kind) == []
        session.execute(update(claimed.kind).values(attempt_floor=21 - claimed.attempts))
    assert claimed.claim() == 21


@ONE_DATABASE
def test_worker_that_is_killed_each_time_ends_it_at_the_limit(claimed):
    starts = 0
    for _ in range(claimed.attempts + 2):
        starts += claimed.claim() is not None
        claimed.let_time_pass()
        claimed.tick()
        claimed.let_time_pass()
    assert starts == claimed.attempts
    assert claimed.ended()
    assert "silent" in claimed.reason


@ONE_DATABASE
def test_silent_workers_row_waits_as_after_any_failure(requeued):
    requeued.claim()
    requeued.let_time_pass()
    requeued.tick()
    assert requeued.waits() == expected_waits(requeued)[0]
    assert "fell silent" in requeued.row.error


def test_attempt_that_was_overtaken_changes_nothing(claimed):
    first = claimed.claim()
    claimed.let_time_pass()
    assert claimed.claim() == first + 1
    before = {c.key: getattr(claimed.row, c.key) for c in claimed.kind.__table__.columns}
    for error in (FULL, NotFound("It is gone.")):
        with writing(claimed.engine) as session:
            own = (session, claimed.settings, claimed.kind, claimed.id, first, error)
            assert not claims.end_attempt(*own, claimed.fails(first))
            assert not claims.renew(session, claimed.settings, claimed.kind, claimed.id, first)
            assert not claims.postpone(session, claimed.kind, claimed.id, first, 2.0)
    assert before == {c.key: getattr(claimed.row, c.key) for c in claimed.kind.__table__.columns}


@ONE_DATABASE
def test_work_that_was_asked_to_stop_is_left_as_it_is(claimed):
    number = claimed.claim()
    with attempt(claimed.engine, claimed.settings, claimed.kind, claimed.id, number):
        raise Cancelled("Stopped.")
    assert (claimed.row.state, claimed.row.attempt) == ("running", number)


def test_claim_that_cannot_be_read_counts_as_an_attempt(claimed):
    def read():
        raise FULL

    for number in range(1, claimed.attempts + 1):
        with writing(claimed.engine) as session:
            row = claims.claim(session, claimed.settings, claimed.kind, claimed.id)
            own = (session, claimed.settings, row, read, claimed.fails(number))
            assert claims.read_claimed(*own) is None
        assert claimed.row.attempt == number
        claimed.let_time_pass()
    assert claimed.ended()
    assert FULL.detail in claimed.reason


@pytest.mark.parametrize("error", PASSING, ids=lambda error: type(error).__name__)
def test_what_waiting_may_help_is_tried_again(error, settings):
    policy = claims.policy_of(settings, Export)
    assert claims.failure_of(policy, policy.attempts - 1, error) is None
    assert claims.failure_of(policy, policy.attempts, error).spent


@pytest.mark.parametrize("error", PERMANENT, ids=lambda error: type(error).__name__)
def test_what_no_waiting_helps_is_final_at_once(error, settings):
    failure = claims.failure_of(claims.policy_of(settings, Export), 1, error)
    assert (str(failure), failure.spent) == (error.detail, False)


@pytest.mark.parametrize(
    ("tries", "words"), [(1, "Gave up after 1 attempt: Full."), (3, "Gave up after 3 attempts:")]
)
def test_failure_says_after_how_many_attempts(tries, words):
    assert str(claims.Failure("Full.", tries, spent=True)).startswith(words)


@pytest.mark.parametrize(
    ("tries", "seconds"), [(1, 3), (2, 6), (3, 12), (5, 48), (6, 50), (7, 50), (10_000, 50)]
)
def test_waits_double_up_to_the_longest(tries, seconds):
    waits = claims.doubled(timedelta(seconds=3), timedelta(seconds=50), tries)
    assert waits == timedelta(seconds=seconds)


def test_first_wait_that_is_beyond_the_cap_is_the_operators(settings):
    patient = settings.model_copy(update={"backoff_seconds": 90.0})
    waits = [claims.policy_of(patient, Export).wait(tries).total_seconds() for tries in (1, 2, 9)]
    assert waits == [90, 90, 90]


def test_delivery_is_claimed_for_longer_than_a_receiver_may_take(settings):
    lease = claims.policy_of(settings, Delivery).lease.total_seconds()
    assert lease == claims.DELIVERY_LEASE.total_seconds() >= 2 * ANSWER_SECONDS


@ONE_DATABASE
def test_lost_message_of_any_kind_is_sent_again_once(requeued):
    of = {Batch: (RUN_BATCH, "batch_id"), Export: (RUN_EXPORT, "export_id"),
          Delivery: (DELIVER, "delivery_id")}  # fmt: skip
    long_ago = timedelta(seconds=requeued.settings.resend_seconds + 5)
    patient = requeued.settings.model_copy(update={"resend_seconds": 60.0})
    with writing(requeued.engine) as session:
        session.execute(
            update(requeued.kind).values(sent_at=now(session) - long_ago - timedelta(seconds=60))
        )
        sent = requeue_stale(session, patient)
        again = requeue_stale(session, patient)
    assert again == []
    if requeued.kind in of:
        task, argument = of[requeued.kind]
        assert [one.arguments for one in sent if one.task == task] == [{argument: str(requeued.id)}]
    else:
        assert len(sent) == 1


@ONE_DATABASE
def test_row_is_not_claimed_before_its_time_nor_sent(requeued):
    with writing(requeued.engine) as session:
        later = now(session) + timedelta(seconds=60)
        session.execute(update(requeued.kind).values(available_at=later, sent_at=None))
        assert claims.unsent(session, requeued.settings, requeued.kind) == []
    assert requeued.claim() is None


def test_many_rows_that_are_due_are_marked_in_parts(world, monkeypatch):
    monkeypatch.setattr(claims, "AT_ONCE", 2)
    with writing(world.engine) as session:
        hook = webhooks.create(session, world.owner.id, WebhookCreate(url="https://h.example/"))
        for _ in range(5):
            webhooks.ping(session, world.owner.id, hook.id)
        session.execute(update(Delivery).values(sent_at=None))
        assert len(claims.unsent(session, world.settings, Delivery)) == 5
        assert None not in session.scalars(select(Delivery.sent_at)).all()


@ONE_DATABASE
def test_tick_leaves_a_living_worker_alone_and_has_what_was_given_back_sent_again(requeued):
    number = requeued.claim()
    requeued.tick()
    assert (requeued.row.state, requeued.row.attempt) == ("running", number)
    requeued.let_time_pass()
    assert requeued.claim() == number + 1
    with writing(requeued.engine) as session:
        session.execute(update(requeued.kind).values(sent_at=now(session)))
        claims.postpone(session, requeued.kind, requeued.id, number + 1, 2.0)
    assert requeued.row.sent_at is None


@pytest.mark.parametrize("database_kind", ["postgresql"])
def test_tick_and_a_worker_that_claims_lock_the_job_first_and_no_batch(world):
    with writing(world.engine) as session:
        wanted = JobCreate(model="pets", labels={"ant": 2})
        job, _ = jobs.create(session, world.settings, world.owner.id, wanted)
        batch = session.scalars(select(Batch).where(Batch.job_id == job.id)).one()
        # Its last attempt fell silent, and a clock ran ahead meanwhile.
        session.execute(
            update(Batch).values(
                state="queued", attempt=99, available_at=now(session) + timedelta(days=1)
            )
        )

    def tick():
        with writing(world.engine) as session:
            requeue_stale(session, world.settings)

    with ThreadPoolExecutor(1) as pool:
        with writing(world.engine) as session:
            session.execute(select(Job).where(Job.id == job.id).with_for_update())
            ticking = pool.submit(tick)
            wait_until_blocked(world.engine)
            # As `batches.claim` does; a tick that held the batch would never give it back.
            session.execute(update(Batch).where(Batch.id == batch.id).values(error="none"))
        ticking.result(60)
    with reading(world.engine) as session:
        assert session.get_one(Batch, batch.id).state == "failed"


def wait_until_blocked(engine):
    """Wait until a transaction of the database waits for a lock of another one."""
    waits = text(
        "SELECT 1 FROM pg_stat_activity "
        "WHERE datname = current_database() AND wait_event_type = 'Lock'"
    )

    def is_blocked():
        with reading(engine) as session:
            return session.execute(waits).first()

    wait_until(is_blocked, 30)
